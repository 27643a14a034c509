"""The plugin ``secrets-kms``: wrapping keys in AWS KMS, and secrets of settings in AWS Secrets Manager."""

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
            id="kms",
            factory=Ref("go_services_secrets_kms.backend:open_backend"),
            sealer=Ref("go_services_envelope:Sealer", hint="Install go-services-envelope."),
            settings=Ref("go_services_secrets_kms.settings:KmsSettings"),
        ),
    )


@hookimpl
def gs_secret_sources() -> Iterable[SecretSourceSpec]:
    return (
        SecretSourceSpec(
            scheme="aws-sm",
            factory=Ref("go_services_secrets_kms.secrets_manager:SecretsManagerSource"),
            summary="a secret of AWS Secrets Manager: aws-sm://NAME, or aws-sm://NAME#FIELD for a member of its JSON",
            backend="kms",
            remote=True,
        ),
    )
