"""The plugin ``secrets-failover``: a secret backend made of two others."""

from __future__ import annotations

from collections.abc import Iterable

from go_services_core.hookspecs import hookimpl
from go_services_core.refs import Ref
from go_services_core.specs import SecretBackendSpec

GS_CONTRACT = 1


@hookimpl
def gs_secret_backends() -> Iterable[SecretBackendSpec]:
    return (
        SecretBackendSpec(
            id="failover",
            factory=Ref("go_services_secrets_failover.backend:open_backend"),
            sealer=Ref("go_services_envelope:Sealer", hint="Install go-services-envelope."),
            settings=Ref("go_services_secrets_failover.settings:FailoverSettings"),
        ),
    )
