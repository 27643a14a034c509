"""The plugin ``secrets-vault``: wrapping keys in Vault's transit engine, and settings' secrets in its KV engine."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import SecretBackendSpec, SecretSourceSpec

GS_CONTRACT = 1


@hookimpl
def gs_secret_backends() -> Iterable[SecretBackendSpec]:
    return (
        SecretBackendSpec(
            id="vault",
            factory=Ref("go_services_secrets_vault.backend:open_backend"),
            sealer=Ref("go_services_envelope:Sealer", hint="Install go-services-envelope."),
            settings=Ref("go_services_secrets_vault.settings:VaultSettings"),
        ),
    )


@hookimpl
def gs_secret_sources() -> Iterable[SecretSourceSpec]:
    return (
        SecretSourceSpec(
            scheme="vault",
            factory=Ref("go_services_secrets_vault.kv:VaultSource"),
            summary="vault://PATH#FIELD: a field of a secret in Vault's or OpenBao's KV engine, version 2",
            backend="vault",
            remote=True,
        ),
    )
