"""What Acme offers, as data. This module imports nothing but the core's declarations."""

from go_services_core import ApiSpec, Capability, Identity, OAuth2Code, Operation, Pagination, ProviderSpec, hookimpl

GS_CONTRACT = 1

ACME = ProviderSpec(
    id="acme",
    name="Acme",
    auth=OAuth2Code(
        authorize_url="https://acme.example/oauth/authorize",
        token_url="https://acme.example/oauth/token",
        default_grants=("contacts:read",),
    ),
    api=ApiSpec(base_url="https://api.acme.example/v1"),
    identity=Identity(url="/me", account="id"),
    capabilities=(Capability("contacts.read", grants=("contacts:read",)),),
    operations=(
        Operation(
            "contacts.list",
            "GET",
            "/contacts",
            capability="contacts.read",
            pagination=Pagination("link"),
            summary="Contacts of the account",
        ),
    ),
)


@hookimpl
def gs_providers() -> list[ProviderSpec]:
    return [ACME]
