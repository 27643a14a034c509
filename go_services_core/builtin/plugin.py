"""What the core brings itself, registered through the same hooks as everybody's."""

from __future__ import annotations

from ..auth_specs import (
    ApiKey,
    AwsSigV4,
    Basic,
    ClientCredentials,
    DeviceCode,
    Hmac,
    HttpSignature,
    Mtls,
    OAuth2Code,
    PersonalToken,
    TokenExchange,
)
from ..hookspecs import hookimpl
from ..refs import Ref
from ..specs import (
    AuthStrategySpec,
    EventHandlerSpec,
    HealthCheckSpec,
    SecretSourceSpec,
    SignerSpec,
    WebhookSchemeSpec,
)
from ..webhook_specs import BasicWebhook, BearerWebhook, HmacWebhook, StandardWebhook, TokenWebhook

GS_CONTRACT = 1


@hookimpl
def gs_auth_strategies() -> tuple[AuthStrategySpec, ...]:
    return (
        AuthStrategySpec(
            kind="oauth2_auth_code",
            flow=Ref("go_services_core.auth.oauth2_code:OAuth2CodeFlow"),
            settings=Ref("go_services_core.auth.settings:OAuth2Settings"),
            record=OAuth2Code,
        ),
        AuthStrategySpec(
            kind="oauth2_device_code",
            flow=Ref("go_services_core.auth.device:DeviceCodeFlow"),
            settings=Ref("go_services_core.auth.settings:OAuth2Settings"),
            record=DeviceCode,
        ),
        AuthStrategySpec(
            kind="oauth2_client_credentials",
            flow=Ref("go_services_core.auth.client_credentials:ClientCredentialsFlow"),
            settings=Ref("go_services_core.auth.settings:OAuth2Settings"),
            record=ClientCredentials,
        ),
        AuthStrategySpec(
            kind="oauth2_token_exchange",
            flow=Ref("go_services_core.auth.token_exchange:TokenExchangeFlow"),
            settings=Ref("go_services_core.auth.settings:OAuth2Settings"),
            record=TokenExchange,
        ),
        AuthStrategySpec(kind="api_key", flow=Ref("go_services_core.auth.typed:ApiKeyFlow"), record=ApiKey),
        AuthStrategySpec(kind="pat", flow=Ref("go_services_core.auth.typed:PersonalTokenFlow"), record=PersonalToken),
        AuthStrategySpec(kind="basic", flow=Ref("go_services_core.auth.typed:BasicFlow"), record=Basic),
        AuthStrategySpec(kind="hmac", flow=Ref("go_services_core.auth.typed:HmacFlow"), record=Hmac),
        AuthStrategySpec(
            kind="http_signature",
            flow=Ref("go_services_core.auth.http_signature:HttpSignatureFlow"),
            record=HttpSignature,
        ),
        AuthStrategySpec(kind="mtls", flow=Ref("go_services_core.auth.mtls:MtlsFlow"), record=Mtls),
        AuthStrategySpec(kind="aws_sigv4", flow=Ref("go_services_core.auth.aws:AwsSigV4Flow"), record=AwsSigV4),
    )


@hookimpl
def gs_signers() -> tuple[SignerSpec, ...]:
    return (
        SignerSpec(scheme="bearer", signer=Ref("go_services_core.signing.bearer:BearerSigner")),
        SignerSpec(scheme="api_key", signer=Ref("go_services_core.signing.api_key:ApiKeySigner")),
        SignerSpec(scheme="basic", signer=Ref("go_services_core.signing.basic:BasicSigner")),
        SignerSpec(scheme="hmac", signer=Ref("go_services_core.signing.hmac:HmacSigner")),
        SignerSpec(
            scheme="http_signature", signer=Ref("go_services_core.signing.message_signatures:HttpSignatureSigner")
        ),
        SignerSpec(scheme="mtls", signer=Ref("go_services_core.signing.mtls:MtlsSigner")),
        SignerSpec(scheme="aws_sigv4", signer=Ref("go_services_core.signing.sigv4:SigV4Signer")),
    )


@hookimpl
def gs_webhook_schemes() -> tuple[WebhookSchemeSpec, ...]:
    return (
        WebhookSchemeSpec(id="hmac", verifier=Ref("go_services_core.webhooks.hmac:HmacVerifier"), record=HmacWebhook),
        WebhookSchemeSpec(
            id="standard", verifier=Ref("go_services_core.webhooks.hmac:HmacVerifier"), record=StandardWebhook
        ),
        WebhookSchemeSpec(
            id="token", verifier=Ref("go_services_core.webhooks.shared:TokenVerifier"), record=TokenWebhook
        ),
        WebhookSchemeSpec(
            id="bearer", verifier=Ref("go_services_core.webhooks.shared:BearerVerifier"), record=BearerWebhook
        ),
        WebhookSchemeSpec(
            id="basic", verifier=Ref("go_services_core.webhooks.shared:BasicVerifier"), record=BasicWebhook
        ),
    )


@hookimpl
def gs_event_handlers() -> tuple[EventHandlerSpec, ...]:
    return (EventHandlerSpec(name="activity", events="*", handler=Ref("go_services_core.runtime.activity:project")),)


@hookimpl
def gs_health_checks() -> tuple[HealthCheckSpec, ...]:
    return (
        HealthCheckSpec(
            id="store", summary="The database answers and is clean", check=Ref("go_services_core.builtin.health:store")
        ),
        HealthCheckSpec(
            id="secrets",
            summary="The secret backend's key works",
            check=Ref("go_services_core.builtin.health:secrets"),
        ),
        HealthCheckSpec(
            id="settings",
            summary="The secrets that settings refer to can be read",
            check=Ref("go_services_core.builtin.health:settings"),
        ),
        HealthCheckSpec(
            id="worker", summary="Work that is due is done in time", check=Ref("go_services_core.builtin.health:worker")
        ),
    )


@hookimpl
def gs_secret_sources() -> tuple[SecretSourceSpec, ...]:
    return (
        SecretSourceSpec(
            scheme="env",
            factory=Ref("go_services_core.builtin.secret_sources:EnvironmentSource"),
            summary="an environment variable: env:NAME",
        ),
        SecretSourceSpec(
            scheme="file",
            factory=Ref("go_services_core.builtin.secret_sources:FileSource"),
            summary="the content of a file, without the line break at its end: file:PATH",
        ),
    )
