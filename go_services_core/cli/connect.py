"""``go-services connect``"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import options
from .options import as_json, dry_run
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime
    from ..model import Connection, ConnectStart, DevicePrompt, Scope
    from ..providers import ProviderInstance
    from ..secret import SecretStr


F = TypeVar("F", bound=Callable[..., Any])


def in_browser(command: F) -> F:
    """The options of a command that opens a consent page."""
    for option in (
        click.option("--no-browser", is_flag=True, help="Print the consent page's address and open nothing."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=1),
            default=300.0,
            show_default=True,
            help="Seconds to wait for the consent.",
        ),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=0,
            help="Port of the callback on 127.0.0.1; any by default.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("provider")
@options.scope(required=True)
@click.option(
    "--auth", metavar="KIND", help="How to authenticate, where the provider knows several ways: pat, api_key …"
)
@click.option("--grant", "grants", multiple=True, help="Grant to ask for, instead of the defaults. May be repeated.")
@in_browser
@dry_run
@as_json
@pass_session
def connect(
    session: Session,
    provider: str,
    scope: Scope,
    auth: str | None,
    grants: tuple[str, ...],
    port: int,
    timeout: float,
    no_browser: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Connect an account at PROVIDER for a scope.

    Opens the consent page and receives the callback on 127.0.0.1, so run it where the browser is. For a token or key
    that was issued already, it asks for it and does not show it; it may also come from standard input. For a consent
    on another device it prints the page and the code, and waits for the answer.

    \b
    go-services connect github --scope user:1
    go-services connect github --scope org:acme --auth pat < token.txt
    """
    from .connections import print_connection

    with session.runtime() as runtime:
        instance = _instance(runtime, provider)
        kind = instance.auth(auth).kind
        flow = runtime.catalog().auth_strategy(kind).flow.resolve()()
        if dry_run:
            asks = "open the consent page for" if flow.interactive else "ask for"
            what = (", ".join(grants) or "the default grants") if flow.interactive else ", ".join(flow.fields)
            granted = f" with {', '.join(grants)}" if grants and not flow.interactive else ""
            click.echo(f"Would {asks} {what or 'nothing'} and connect {provider} by {kind} for {scope}{granted}.")
            return
        if getattr(flow, "polls", False):
            connection = runtime.connect_device(
                provider, scope=scope, show=partial(_show, no_browser=no_browser), grants=grants, auth=kind
            )
        elif flow.interactive:
            begin = partial(runtime.connect, provider, scope=scope, grants=grants, auth=kind)
            connection = consented(runtime, begin, port=port, timeout=timeout, no_browser=no_browser)
        else:
            connection = runtime.establish(provider, scope=scope, fields=_typed(flow.fields), auth=kind, grants=grants)
    if not as_json:
        click.echo(f"Connected {connection.provider_id} {connection.external_account_id} for {connection.scope}.")
    print_connection(connection, as_json)


def _instance(runtime: BlockingRuntime, provider: str) -> ProviderInstance:
    from ..errors import ProviderNotFound

    known = runtime.providers()
    if provider not in known:
        raise ProviderNotFound.named(
            "provider", provider, known, hint="`go-services providers list` shows what can be connected."
        )
    return known[provider]


def _show(prompt: DevicePrompt, *, no_browser: bool) -> None:
    click.echo(f"Consent on any device: {prompt.verification_uri}\nwith the code {prompt.user_code}", err=True)
    if not no_browser:
        click.launch(prompt.url)


def _typed(fields: tuple[str, ...]) -> dict[str, SecretStr]:
    from ..secret import SecretStr
    from .questions import ask, ask_secret

    return {name: SecretStr(ask(name)) if name == "username" else ask_secret(name) for name in fields}


def consented(
    runtime: BlockingRuntime, begin: Callable[..., ConnectStart], *, port: int, timeout: float, no_browser: bool
) -> Connection:
    """Open the page of the consent that ``begin`` gives for a ``redirect_uri``, and wait for its callback."""
    from ..errors import AuthError, ServicesError
    from .callback import CallbackListener

    with CallbackListener(port) as listener:
        start = begin(redirect_uri=listener.redirect_uri)
        listener.expect(start.url)
        click.echo(f"Consent here: {start.url}", err=True)
        if not no_browser:
            click.launch(start.url)
        query = listener.wait(timeout)
        if query is None:
            raise AuthError(
                f"Nobody came back from the consent page within {timeout:g} s.",
                hint=f"Is {listener.redirect_uri} registered at the provider?",
            )
        try:
            connection = runtime.complete(query, binding=start.binding, redirect_uri=listener.redirect_uri)
        except ServicesError as error:
            listener.settle("Not connected", str(error))
            raise
        done = f"{connection.provider_id} is connected for {connection.scope}. You may close this page."
        listener.settle("Connected", done)
        return connection
