"""The plugin ``secrets-appkey``: wrapping keys that the application keeps itself."""

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
            id="appkey",
            factory=Ref("go_services_secrets_appkey.backend:open_backend"),
            sealer=Ref("go_services_envelope:Sealer", hint="Install go-services-envelope."),
            settings=Ref("go_services_secrets_appkey.settings:AppKeySettings"),
            generate_key=Ref("go_services_secrets_appkey.key:generate_key"),
            bundles=Ref("go_services_secrets_appkey.bundle:Bundles"),
        ),
    )
