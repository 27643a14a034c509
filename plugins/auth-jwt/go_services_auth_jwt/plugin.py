"""The plugin ``auth-jwt``: flows, signers and webhook schemes that need asymmetric keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import AuthStrategySpec, JoseSpec, SignerSpec, WebhookSchemeSpec
from go_services_core.webhook_specs import Ed25519Webhook, MtlsWebhook, OidcWebhook, SnsWebhook, StandardKeyWebhook

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


@hookimpl
def gs_webhook_schemes() -> Iterable[WebhookSchemeSpec]:
    ed25519: Ref[Any] = Ref("go_services_auth_jwt.webhook_ed25519:Ed25519Verifier")
    return (
        WebhookSchemeSpec(id="ed25519", verifier=ed25519, record=Ed25519Webhook),
        WebhookSchemeSpec(id="standard_key", verifier=ed25519, record=StandardKeyWebhook),
        WebhookSchemeSpec(
            id="oidc", verifier=Ref("go_services_auth_jwt.webhook_oidc:OidcVerifier"), record=OidcWebhook
        ),
        WebhookSchemeSpec(id="sns", verifier=Ref("go_services_auth_jwt.webhook_sns:SnsVerifier"), record=SnsWebhook),
        WebhookSchemeSpec(
            id="mtls", verifier=Ref("go_services_auth_jwt.webhook_mtls:MtlsVerifier"), record=MtlsWebhook
        ),
    )
