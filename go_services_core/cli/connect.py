"""``go-services connect``"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from . import options
from .options import as_json, dry_run
from .output import show_json
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime
    from ..model import Connection, ConnectStart, DevicePrompt, Scope
    from ..protocols import AuthFlow
    from ..providers import ProviderInstance
    from ..secret import SecretStr


WAIT: Final = 300.0
"""Seconds for a person to consent."""
F = TypeVar("F", bound=Callable[..., Any])


def in_browser(command: F) -> F:
    """The options of a command that opens a consent page."""
    for option in (
        click.option("--no-browser", is_flag=True, help="Print the consent page's address and open nothing."),
        click.option(
            "--timeout", type=click.FloatRange(min=1), help="Seconds to wait for the callback.  [default: 300]"
        ),
        click.option(
            "--port", type=click.IntRange(0, 65535), help="Port of the callback on 127.0.0.1; any by default."
        ),
        click.option(
            "--redirect-uri",
            metavar="URL",
            help="With --headless: where the provider sends the browser, as registered there.",
        ),
        click.option(
            "--headless", is_flag=True, help="Ask for the callback's address, for a machine without a browser."
        ),
    ):
        command = option(command)
    return command


def check_browser(headless: bool, redirect_uri: str | None, port: int | None, timeout: float | None) -> None:
    """Refuse options of ``in_browser`` that would be ignored."""
    if headless and (listening := _listening(port, timeout)):
        raise click.UsageError(f"--headless waits for no callback and takes no {listening}.")
    if redirect_uri is not None and not headless:
        raise click.UsageError("--redirect-uri goes with --headless; else the command receives the callback itself.")


def _listening(port: int | None, timeout: float | None) -> str | None:
    return next((name for name, value in (("--port", port), ("--timeout", timeout)) if value is not None), None)


@click.command()
@click.argument("provider")
@options.scope(required=True)
@click.option(
    "--auth", metavar="KIND", help="How to authenticate, where the provider knows several ways: pat, api_key …"
)
@click.option("--grant", "grants", multiple=True, help="Grant to ask for, instead of the defaults. May be repeated.")
@click.option("--device", is_flag=True, help="Consent on another device, with a code, where the provider can do that.")
@in_browser
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="FIELD=PATH",
    help="Read a field from a file, such as a key. May be repeated.",
)
@dry_run
@as_json
@pass_session
def connect(
    session: Session,
    provider: str,
    scope: Scope,
    auth: str | None,
    grants: tuple[str, ...],
    device: bool,
    headless: bool,
    redirect_uri: str | None,
    port: int | None,
    timeout: float | None,
    no_browser: bool,
    files: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Connect an account at PROVIDER for a scope.

    Opens the consent page and receives the callback on 127.0.0.1, so run it where the browser is. On a machine without
    one, --headless prints the page's address and asks for the address to which the browser was sent back; --device
    prints a page and a code, and waits for the answer.

    For a token or key that was issued already, it asks for each field and does not show secrets; they may also come
    from standard input, one line each, or from files.

    \b
    go-services connect github --scope user:1
    go-services connect github --scope user:1 --headless --redirect-uri https://app.example/callback
    go-services connect github --scope org:acme --auth pat < token.txt
    go-services connect drive --scope org:acme --auth service_account_jwt --file service_account_json=key.json
    """
    from .connections import print_connection

    if device and (other := "--headless" if headless else _listening(port, timeout)):
        raise click.UsageError(f"--device does not go with {other}.")
    check_browser(headless, redirect_uri, port, timeout)
    with session.runtime() as runtime:
        instance = _instance(runtime, provider)
        kind = _device_kind(runtime, instance, auth) if device else instance.auth(auth).kind
        flow = runtime.catalog().auth_strategy(kind).flow.resolve()()
        polls = getattr(flow, "polls", False)
        if flow.interactive and files:
            raise click.UsageError(f"--file is for what is typed, and {provider} asks for a consent.")
        if headless and (polls or not flow.interactive):
            raise click.UsageError(f"--headless is for a kind with a callback, and {kind} has none.")
        if dry_run:
            _say_what(instance, kind, flow, scope, grants, as_json=as_json)
            return
        if polls:
            connection = runtime.connect_device(
                provider, scope=scope, show=partial(_show, no_browser=no_browser), grants=grants, auth=kind
            )
        elif flow.interactive:
            begin = partial(runtime.connect, provider, scope=scope, grants=grants, auth=kind)
            connection = consented(
                runtime,
                begin,
                headless=headless,
                redirect_uri=redirect_uri,
                port=port,
                timeout=timeout,
                no_browser=no_browser,
            )
        else:
            from ..auth.fields import fields_of

            typed = _typed(*fields_of(flow, instance.auth(kind)), _read(files))
            connection = runtime.establish(provider, scope=scope, fields=typed, auth=kind, grants=grants)
    if not as_json:
        click.echo(f"Connected {connection.provider_id} {connection.external_account_id} for {connection.scope}.")
    print_connection(connection, as_json)


def _say_what(
    instance: ProviderInstance, kind: str, flow: AuthFlow, scope: Scope, grants: tuple[str, ...], *, as_json: bool
) -> None:
    if as_json:
        show_json({"dry_run": True, "provider": instance.id, "auth": kind, "scope": scope, "grants": grants})
        return
    if flow.interactive:
        asks = "show a page and a code for" if getattr(flow, "polls", False) else "open the consent page for"
        what = ", ".join(grants) or "the default grants"
    else:
        from ..auth.fields import fields_of

        needed, optional = fields_of(flow, instance.auth(kind))
        asks, what = "ask for", ", ".join((*needed, *(f"{name} (optional)" for name in optional)))
    granted = f" with {', '.join(grants)}" if grants and not flow.interactive else ""
    click.echo(f"Would {asks} {what or 'nothing'} and connect {instance.id} by {kind} for {scope}{granted}.")


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


def _device_kind(runtime: BlockingRuntime, instance: ProviderInstance, auth: str | None) -> str:
    """The provider's kind that is consented to on another device; ``auth``, if that is one."""
    from ..errors import BadInput

    for record in instance.spec.auth:
        flow = runtime.catalog().auth_strategy(record.kind).flow.resolve()
        if auth in (None, record.kind) and getattr(flow, "polls", False):
            return record.kind
    raise BadInput(
        f"The provider {instance.id} is not consented to on another device{f' by {auth}' if auth else ''}.",
        hint=f"It has {', '.join(record.kind for record in instance.spec.auth)}. Without a browser, use --headless.",
        field="auth",
    )


def _read(files: tuple[str, ...]) -> dict[str, SecretStr]:
    """The fields that stand in files, each without the line break at its end."""
    from ..auth.fields import kept

    read = {}
    for text in files:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise click.BadParameter(f"{text!r} is not of the form FIELD=PATH", param_hint="--file")
        if name in read:
            raise click.BadParameter(f"{name} is given twice", param_hint="--file")
        try:
            read[name] = kept(name, Path(path).read_text(encoding="utf-8").removesuffix("\n"))
        except OSError as error:
            raise click.BadParameter(f"{path} cannot be read: {error.strerror}", param_hint="--file") from None
        except UnicodeDecodeError:
            raise click.BadParameter(f"{path} is not text in UTF-8", param_hint="--file") from None
    return read


def _typed(needed: tuple[str, ...], optional: tuple[str, ...], given: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """The fields that are not ``given``, asked for; names are shown while they are typed, secrets are not."""
    from ..auth.fields import NAMES, kept
    from .questions import ask, ask_optional, ask_secret

    typed = dict(given)
    for name in needed:
        if name not in given:
            typed[name] = kept(name, ask(name)) if name in NAMES else ask_secret(name)
    for name in optional:
        if name not in given and (answer := ask_optional(name, hidden=name not in NAMES)) is not None:
            typed[name] = answer
    return typed


def _pasted(runtime: BlockingRuntime, begin: Callable[..., ConnectStart], *, redirect_uri: str | None) -> Connection:
    """Finish the consent that ``begin`` gives with the callback that a browser elsewhere was sent to.

    The binding stays in this process.
    """
    from urllib.parse import parse_qs, urlsplit

    from ..errors import BadInput
    from .questions import ask_secret

    start = begin(redirect_uri=redirect_uri)
    click.echo(f"Consent here, in any browser: {start.url}", err=True)
    click.echo("Then copy the whole address of the page that it ends on, even if that page shows an error.", err=True)
    pasted = ask_secret("Address (not shown)").reveal().strip()
    query = urlsplit(pasted).query if "://" in pasted else pasted.removeprefix("?")  # an address may have a fragment
    if "state" not in parse_qs(query):
        raise BadInput(
            "This is not the address on which a consent ended.",
            hint="Start again, and copy it from the address bar to its last character: it has the parameter state.",
        )
    return runtime.complete(query, binding=start.binding)


def consented(
    runtime: BlockingRuntime,
    begin: Callable[..., ConnectStart],
    *,
    headless: bool,
    redirect_uri: str | None,
    port: int | None,
    timeout: float | None,
    no_browser: bool,
) -> Connection:
    """Open the page of the consent that ``begin`` gives for a redirect URI, and wait for its callback.

    ``headless`` prints the address of the page instead, and asks for the callback's.
    """
    if headless:
        return _pasted(runtime, begin, redirect_uri=redirect_uri)
    from ..errors import AuthError, BadInput, ServicesError
    from .callback import CallbackListener

    try:
        listener = CallbackListener(port or 0)
    except OSError as error:
        raise BadInput(
            f"No callback can be received on 127.0.0.1:{port or 0}: {error.strerror}.",
            hint="Choose another --port, or leave it out where the provider allows any.",
            field="port",
        ) from None
    with listener:
        start = begin(redirect_uri=listener.redirect_uri)
        listener.expect(start.url)
        click.echo(f"Consent here: {start.url}", err=True)
        if not no_browser:
            click.launch(start.url)
        query = listener.wait(timeout or WAIT)
        if query is None:
            raise AuthError(
                f"Nobody came back from the consent page within {timeout or WAIT:g} s.",
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
