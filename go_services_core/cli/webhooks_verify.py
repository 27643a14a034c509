"""``go-services webhooks verify``: whether a captured delivery is authentic, and what is wrong with it if not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .exits import FAILED, OK
from .options import as_json
from .output import fields, show_json
from .session import Session, pass_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ..catalog import Catalog
    from ..http import InboundRequest
    from ..protocols import Verdict
    from ..secret import SecretStr

_STDIN: Final = "-"


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """ISO 8601 with a zone, or Unix seconds."""
    from datetime import UTC, datetime

    if value is None:
        return None
    try:
        found = datetime.fromtimestamp(float(value), UTC) if value.isdigit() else datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError):
        found = None
    if found is None or found.tzinfo is None:
        raise click.BadParameter(f"{value!r} is not a time such as 2026-07-01T12:00:00Z or 1782907200.", ctx, param)
    return found


@click.command(short_help="Say whether a captured delivery is authentic.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--provider", help="Verify as this provider of the configuration does, with its secrets.")
@click.option("--scheme", help="Verify by this scheme, or as this vendor signs: stripe, slack, standard …")
@click.option("--option", "options", multiple=True, metavar="FIELD=VALUE", help="A field of the scheme's record.")
@click.option(
    "--secret-file",
    "secret_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a secret, instead of the provider's; several are all live.",
)
@click.option(
    "--secret-env",
    "secret_names",
    multiple=True,
    metavar="NAME",
    help="Environment variable with a secret; repeatable, as --secret-file.",
)
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM of the certificate that the sender presented in TLS.",
)
@click.option("--at", metavar="TIME", callback=_moment, help="When it came, for an old capture; now without.")
@as_json
@pass_session
def verify(
    session: Session,
    file: str,
    provider: str | None,
    scheme: str | None,
    options: tuple[str, ...],
    secret_files: tuple[Path, ...],
    secret_names: tuple[str, ...],
    certificate: Path | None,
    at: datetime | None,
    as_json: bool,
) -> int:
    """Say whether the delivery in FILE is authentic, and what it is; nothing is kept and nothing handled.

    FILE holds the request as it was received: request line, headers, an empty line, the body. `-` is standard input.
    A secret is never an argument: without --provider, --secret-file and --secret-env it is asked for on a terminal. The
    exit code is 0 for a delivery, or handshake, that is accepted and 1 for one that is rejected.

    \b
    go-services webhooks verify delivery.http --provider github
    go-services webhooks verify delivery.http --scheme stripe --secret-file stripe.secret --at 2026-07-01T12:00:00Z
    go-services webhooks verify - --scheme hmac --option signature_header=X-Sig --option id_header=X-Id --secret-file s
    """
    from .captured_request import read_request

    if (provider is None) == (scheme is None):
        raise click.UsageError("Give --provider or --scheme, one of them.")
    if options and scheme is None:
        raise click.UsageError("--option belongs to --scheme; a provider's record is what it is.")
    data = sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()
    request = read_request(data, peer_certificate=_der(certificate) if certificate is not None else None)
    secrets = [*map(_read_secret, secret_files), *map(_secret_of, secret_names)]
    if provider is not None:
        with session.runtime() as runtime:
            verdict = runtime.verify_webhook(provider, request, secrets=secrets or None, at=at)
    else:
        assert scheme is not None
        catalog = session.plugins().catalog()
        record = _record(catalog, scheme, options)
        if not secrets and not getattr(record, "keyless", False):
            secrets = [_asked()]
        verdict = _verdict(catalog, record, request, secrets, at)
    return _show(verdict, as_json=as_json)


def _der(path: Path) -> bytes:
    import ssl

    from ..errors import BadInput

    try:
        return ssl.PEM_cert_to_DER_cert(path.read_text("ascii").strip())
    except ValueError:
        raise BadInput(f"The file {path} holds no PEM certificate.", field="certificate") from None


def _read_secret(path: Path) -> SecretStr:
    from ..errors import BadInput
    from ..secret import SecretStr

    try:
        text = path.read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise BadInput(f"The file {path} is not text in UTF-8.", field="secret_file") from None
    if not text:
        raise BadInput(f"The file {path} is empty.", field="secret_file")
    return SecretStr(text)


def _secret_of(name: str) -> SecretStr:
    import os

    from ..errors import BadInput
    from ..secret import SecretStr

    text = os.environ.get(name)
    if not text:
        raise BadInput(f"The environment variable {name} is not set, or empty.", field="secret_env")
    return SecretStr(text)


def _asked() -> SecretStr:
    from ..secret import SecretStr

    if not sys.stdin.isatty():
        raise click.UsageError(
            "There is no terminal to ask for the secret: give it with --secret-file or --secret-env.",
            click.get_current_context(),
        )
    typed: str = click.prompt("Secret", hide_input=True, err=True)
    return SecretStr(typed)


def _record(catalog: Catalog, scheme: str, options: Sequence[str]) -> Any:
    """The vendor's record, or one of the scheme, with the options as its fields."""
    import attrs

    from ..config.structure import Reader, Text, hints
    from ..errors import BadInput, PluginNotFound
    from ..refs import Ref
    from ..webhooks import vendors

    base = getattr(vendors, scheme.upper(), None) if scheme.islower() and scheme.upper() in vars(vendors) else None
    given: dict[str, Any] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name in given:
            raise BadInput(f"--option {name} is not FIELD=VALUE, or it occurs twice.", field=name)
        given[name] = Text(value)
    if base is None:
        spec = catalog.webhook_schemes.get(scheme)
        if spec is None or spec.record is None:
            known = ", ".join(sorted({*catalog.webhook_schemes, *_vendors()}))
            raise PluginNotFound(f"There is no webhook scheme {scheme!r}.", hint=f"There are {known}.")
        cls = spec.record.resolve() if isinstance(spec.record, Ref) else spec.record
    else:
        cls = type(base)
    reader = Reader(origin=lambda _: "--option", folder=Path(), resolve=None)
    if base is None:
        made = reader.strict(cls, given, ("option",))
    else:
        reader.unknown(("option",), given, [one.name for one in attrs.fields(cls)])
        types = hints(cls)
        values = {
            name: reader.value(types[name], text, ("option", name)) for name, text in given.items() if name in types
        }
        made = None if reader.problems else attrs.evolve(base, **values)
    if made is None:
        raise BadInput(" ".join(reader.problems), field="option")
    return made


def _vendors() -> list[str]:
    from ..webhooks import vendors

    return [name.lower() for name in vars(vendors) if name.isupper()]


def _verdict(
    catalog: Catalog, record: Any, request: InboundRequest, secrets: Sequence[SecretStr], at: datetime | None
) -> Verdict:
    from datetime import UTC, datetime

    from ..errors import BadInput

    try:
        verifier = catalog.webhook_scheme(record.scheme).verifier.resolve()(record)
    except ValueError as why:
        raise BadInput(f"{why}.", hint="Give it with --option FIELD=VALUE.", field="option") from None
    flow = verifier.verify(request, secrets=secrets, now=at or datetime.now(UTC))
    try:
        next(flow)
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    flow.close()
    raise BadInput(
        f"The scheme {record.scheme} asks another server, which takes a configured provider.",
        hint="Put the record into [providers.ID.webhook] and use --provider ID.",
        field="scheme",
    )


def _show(verdict: Verdict, *, as_json: bool) -> int:
    from ..protocols import Challenge, Verified

    name = type(verdict).__name__.lower()
    if isinstance(verdict, Verified):
        said: dict[str, Any] = {
            "delivery_id": verdict.delivery_id,
            "event": verdict.event,
            "timestamp": verdict.timestamp,
            "channel": verdict.channel,
            "resource": verdict.resource,
        }
    elif isinstance(verdict, Challenge):
        said = {"content_type": verdict.content_type, "answer": verdict.body.decode("utf-8", "replace")}
    else:
        said = {"reason": verdict.reason}
    if as_json:
        show_json({"verdict": name, **said})
    else:
        fields([("verdict", name), *said.items()])
    return FAILED if name == "rejected" else OK
