"""``go-services sandbox``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from .output import show_json_line

if TYPE_CHECKING:
    from ..testing.sandbox import Sandbox

_VARIABLE: Final = "SANDBOX_CLIENT_SECRET"
_WEBHOOK_VARIABLE: Final = "SANDBOX_WEBHOOK_SECRET"


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; any by default.")
@click.option("--auto-approve", is_flag=True, help="Consent without a page.")
@click.option(
    "--token-lifetime",
    type=click.FloatRange(min=1),
    default=3600.0,
    show_default=True,
    help="Seconds, of access tokens.",
)
@click.option(
    "--rotation",
    type=click.Choice(["none", "single-use", "single-use-grace"]),
    default="single-use",
    show_default=True,
    help="What happens to a refresh token that was used.",
)
@click.option("--redirect-uri", "redirect_uris", multiple=True, help="Register this redirect URI. May be repeated.")
@click.option("--webhook", metavar="URL", help="Tell this URL of each new item, with a signed webhook.")
@click.option("--json", "as_json", is_flag=True, help="Print address and registration as one line of JSON instead.")
def sandbox(
    port: int,
    auto_approve: bool,
    token_lifetime: float,
    rotation: Any,
    redirect_uris: tuple[str, ...],
    webhook: str | None,
    as_json: bool,
) -> None:
    """Serve an OAuth provider with an API on 127.0.0.1 until Ctrl-C, to try connections on.

    Prints the lines for the configuration file that declare it as provider `sandbox`. The secrets among them are worth
    nothing outside this sandbox.

    \b
    go-services sandbox --port 8400 --auto-approve
    go-services sandbox --webhook http://127.0.0.1:8080/webhooks/sandbox
    """
    import asyncio

    from ..refs import Ref

    serve: Any = Ref(
        "go_services_core.testing.sandbox:serve", hint='Install it: pip install "go-services-core[testing]"'
    ).resolve()
    options: dict[str, Any] = {
        "port": port,
        "auto_approve": auto_approve,
        "access_token_lifetime": token_lifetime,
        "rotation": rotation,
    }
    if redirect_uris:
        options["redirect_uris"] = redirect_uris

    def ready(running: Sandbox) -> None:
        running.webhook_url = webhook
        if as_json:
            show_json_line(
                {
                    "url": running.url,
                    "client_id": running.client_id,
                    "client_secret": running.client_secret.reveal(),
                    "webhook_secret": running.webhook_secret.reveal(),
                },
                with_secrets=True,
            )
        else:
            click.echo(_table(running))
            click.echo("# Ctrl-C ends it.")

    asyncio.run(serve(on_ready=ready, **options))


def _table(running: Sandbox) -> str:
    """The configuration that declares the sandbox as a provider, in TOML."""
    import json

    spec = running.spec()
    url = running.url
    lines = [
        f"# A sandbox provider on {url}. To connect it, put these lines into go-services.toml and set",
        f"# {_VARIABLE}={running.client_secret.reveal()}",
        f"# {_WEBHOOK_VARIABLE}={running.webhook_secret.reveal()}",
        "",
        "[egress.allow]",
        f'sandbox = ["{url.removeprefix("http://")}"]',
        "",
        "[providers.sandbox]",
        f'name = "{spec.name}"',
        f'client_id = "{running.client_id}"',
        f'client_secret = "env:{_VARIABLE}"',
        f'api = {{base_url = "{url}"}}',
        'identity = {url = "/userinfo"}',
        f'webhook_secrets = ["env:{_WEBHOOK_VARIABLE}"]',
        "",
        "[providers.sandbox.webhook]",
        *_webhook(),
        "",
        "[providers.sandbox.auth]",
        'kind = "oauth2_auth_code"',
        f'issuer = "{url}"',
        f'authorize_url = "{url}/authorize"',
        f'token_url = "{url}/token"',
        f'revocation_url = "{url}/revoke"',
        f'rotation = "{running.rotation}"',
        'revocation_scope = "grant"',
        f"default_grants = {json.dumps([one.name for one in spec.capabilities])}",
    ]
    for capability in spec.capabilities:
        lines += ["", "[[providers.sandbox.capabilities]]", f'name = "{capability.name}"']
        lines.append(f"grants = {json.dumps(capability.grants)}")
    for operation in spec.operations:
        lines += ["", "[[providers.sandbox.operations]]", f'id = "{operation.id}"', f'method = "{operation.method}"']
        lines += [f'path = "{operation.path}"', f'summary = "{operation.summary}"']
        if operation.capability is not None:
            lines.append(f'capability = "{operation.capability}"')
        if operation.pagination is not None:
            lines.append(f'pagination = {{style = "{operation.pagination.style}"}}')
        if operation.idempotency_header is not None:
            lines.append(f'idempotency_header = "{operation.idempotency_header}"')
        for param in operation.params:
            lines += ["[[providers.sandbox.operations.params]]", f'name = "{param.name}"']
            lines += [f'where = "{param.where}"', f'type = "{param.type}"']
            lines += ["required = true"] if param.required else []
            lines += [f'help = "{param.help}"'] if param.help else []
    return "\n".join(lines)


def _webhook() -> list[str]:
    """The record of how deliveries are verified: what differs from the defaults, and the scheme."""
    import json

    import attrs

    from ..testing.sandbox.webhooks import WEBHOOK

    lines = [f'scheme = "{WEBHOOK.scheme}"']
    for field in attrs.fields(type(WEBHOOK)):
        value = getattr(WEBHOOK, field.name)
        if value != field.default:
            lines.append(f"{field.name} = {json.dumps(value)}")
    return lines
