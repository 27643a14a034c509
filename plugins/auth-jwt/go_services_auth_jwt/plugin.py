"""The plugin ``auth-jwt``: flows and a signer that need asymmetric keys."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import AuthStrategySpec, JoseSpec, SignerSpec

GS_CONTRACT = 1


@hookimpl
def gs_auth_strategies() -> Iterable[AuthStrategySpec]:
    return (
        AuthStrategySpec(
            kind="jwt_bearer",
            flow=Ref("go_services_auth_jwt.jwt_bearer:JwtBearerFlow"),
            settings=Ref("go_services_auth_jwt.settings:JwtBearerSettings"),
            record=Ref("go_services_auth_jwt.records:JwtBearer"),
        ),
        AuthStrategySpec(
            kind="service_account_jwt",
            flow=Ref("go_services_auth_jwt.service_account:ServiceAccountFlow"),
            record=Ref("go_services_auth_jwt.records:ServiceAccountJwt"),
        ),
        AuthStrategySpec(
            kind="session_token_exchange",
            flow=Ref("go_services_auth_jwt.session_exchange:SessionTokenFlow"),
            settings=Ref("go_services_auth_jwt.settings:SessionTokenSettings"),
            record=Ref("go_services_auth_jwt.records:SessionTokenExchange"),
        ),
    )


@hookimpl
def gs_jose() -> Iterable[JoseSpec]:
    return (JoseSpec(jose=Ref("go_services_auth_jwt.jose:JwtJose")),)


@hookimpl
def gs_signers() -> Iterable[SignerSpec]:
    return (
        SignerSpec(scheme="dpop", signer=Ref("go_services_auth_jwt.dpop:DpopSigner")),
        SignerSpec(
            scheme="http_signature_key", signer=Ref("go_services_auth_jwt.message_signatures:HttpSignatureKeySigner")
        ),
        SignerSpec(scheme="shop_token", signer=Ref("go_services_auth_jwt.shop_token:ShopTokenSigner")),
    )
