"""``go-services connections import`` and ``export``: from another system, and between databases."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..counted import counted
from . import options
from .exits import FAILED, OK
from .options import as_json, dry_run
from .output import clean, show_error, show_json, show_json_line, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime
    from ..errors import ServicesError
    from ..model import Scope
    from ..secret import SecretStr
    from ..transfer import Imported

_EVERY = 100
"""Lines between two signs of progress."""

key_option = click.option(
    "--key",
    metavar="REF",
    help="env: or file: reference to a key or a passphrase; otherwise one is asked for.",
)


@click.command("export")
@options.scope(required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File for the bundle.")
@click.option("--force", is_flag=True, help="Replace the file.")
@key_option
@dry_run
@as_json
@pass_session
def export(
    session: Session, scope: Scope, out: Path, force: bool, key: str | None, dry_run: bool, as_json: bool
) -> int:
    """Write the connections of a scope, encrypted as a whole, into a file that only you can read.

    End the use of this database first: of two that renew the same tokens, one loses them.
    """
    from ..errors import Conflict, NotFound

    if out.exists() and not force:
        raise Conflict(f"There is a file {out} already.", hint="Name another, or replace it with --force.", field="out")
    if not out.parent.is_dir():
        raise NotFound(f"There is no folder {out.parent}.", hint="Make it, or name another file.", field="out")
    secret = _key(session, key, confirm=True)
    with session.runtime() as runtime:
        made = runtime.export_scope(scope, key=secret)
    if made.connections == 0:
        raise NotFound(f"There is no connection of {scope} to export.", hint="Nothing was written.", field="scope")
    if not dry_run:
        _write(out, made.bundle)
    if as_json:
        written = None if dry_run else out
        show_json({"file": written, "connections": made.connections, "without_secrets": made.without_secrets})
    else:
        many = f"{made.connections} connection{'' if made.connections == 1 else 's'}"
        click.echo(f"{'Would write' if dry_run else 'Wrote'} {many} of {scope} to {out}.")
        for id in made.without_secrets:
            click.echo(f"Without its credential: {id}")
    return OK


@click.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8", errors="surrogateescape"), required=False)
@click.option("--bundle", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Export bundle instead.")
@key_option
@click.option("--no-verify", is_flag=True, help="Take each line's account as it is, without asking the provider.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first line that fails.")
@dry_run
@as_json
@pass_session
def import_(
    session: Session,
    file: Any,
    bundle: Path | None,
    key: str | None,
    no_verify: bool,
    fail_fast: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Keep tokens of another system, or the connections of an export bundle, without a consent.

    FILE has a JSON object on each line, with provider, scope and access_token at least; - is standard input. A line
    that fails is reported and the others go on. What is stored already changes nothing, so that an import may be
    repeated.
    """
    if (file is None) == (bundle is None) or (bundle is not None and (no_verify or fail_fast)):
        raise click.UsageError("Give a file, or --bundle alone.")
    if bundle is None:
        if key is not None:
            raise click.UsageError("--key is for a bundle.")
        return _lines(session, file, verify=not no_verify, fail_fast=fail_fast, dry_run=dry_run, as_json=as_json)
    secret = _key(session, key, confirm=False)
    with session.runtime() as runtime:
        made = runtime.import_bundle(bundle.read_bytes(), key=secret, dry_run=dry_run)
    if as_json:
        show_json({"connections": [_fields(one) for one in made]})
    else:
        rows = [(one.provider_id, one.account, one.outcome, _id(one), one.detail) for one in made]
        table(("provider", "account", "outcome", "connection", "detail"), rows, empty="The bundle has no connections.")
    return OK


def _lines(session: Session, file: Any, *, verify: bool, fail_fast: bool, dry_run: bool, as_json: bool) -> int:
    from ..errors import BackendUnavailable, ServicesError, StoreError
    from ..secret import SecretStr

    counts = dict.fromkeys(("new", "renewed", "unchanged", "failed"), 0)
    with session.runtime() as runtime:
        for number, line in enumerate(map(SecretStr, file), 1):
            if not line.reveal().strip():
                continue
            try:
                made = _import(runtime, line, verify=verify, dry_run=dry_run)
            except (StoreError, BackendUnavailable):
                raise  # every other line would fail as well
            except ServicesError as error:
                counts["failed"] += 1
                _show_failed(number, error, as_json=as_json)
                if fail_fast:
                    break
            else:
                counts[made.outcome] += 1
                _show(number, made, as_json=as_json)
            if number % _EVERY == 0:
                click.echo(counted(number, "line"), err=True)
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    click.echo(f"{'Would be: ' if dry_run else ''}{told}", err=True)
    return FAILED if counts["failed"] else OK


def _import(runtime: BlockingRuntime, line: SecretStr, *, verify: bool, dry_run: bool) -> Imported:
    from ..transfer import read_line

    wanted = read_line(line)
    return runtime.import_connection(
        wanted.provider,
        scope=wanted.scope,
        tokens=wanted.tokens,
        auth=wanted.auth,
        account=wanted.account,
        verify=verify,
        dry_run=dry_run,
    )


def _show(number: int, made: Imported, *, as_json: bool) -> None:
    if as_json:
        show_json_line({"line": number, **_fields(made)})
    else:
        parts = (made.provider_id, made.scope, made.account, made.outcome, _id(made))
        click.echo(f"line {number}: {' '.join(clean(part) for part in parts)}")


def _show_failed(number: int, error: ServicesError, *, as_json: bool) -> None:
    if as_json:
        failed = {"outcome": "failed", "error": error.message, "code": error.code, "field": error.field}
        show_json_line({"line": number, **failed, "hint": error.hint})
    else:
        click.echo(f"line {number}: failed", err=True)
        show_error(error)


def _fields(made: Imported) -> dict[str, Any]:
    return {
        "outcome": made.outcome,
        "provider": made.provider_id,
        "scope": made.scope,
        "account": made.account,
        "connection": _id(made),
        "detail": made.detail,
    }


def _id(made: Imported) -> str | None:
    return None if made.connection is None else made.connection.id


def _key(session: Session, reference: str | None, *, confirm: bool) -> SecretStr:
    """The key behind a reference, or a passphrase that is typed; never from the command line itself."""
    from ..errors import BadInput
    from .questions import ask_secret

    if reference is None:
        typed = ask_secret("Passphrase")
        if confirm and sys.stdin.isatty() and typed != ask_secret("Again"):
            raise BadInput("The passphrases differ.", field="passphrase")
        return typed
    from ..config.secrets import resolver

    config = session.config()
    catalog = session.plugins(config).catalog()
    if reference.partition(":")[0] not in catalog.secret_sources:
        hint = f"References begin with {', '.join(f'{scheme}:' for scheme in sorted(catalog.secret_sources))}."
        raise BadInput("--key is a reference to the key, not the key.", hint=hint, field="key")
    return resolver(config, catalog)(reference)


def _write(file: Path, content: bytes) -> None:
    """Put the bundle there in one step, for its owner alone."""
    target = file.resolve()
    with _beside(target) as new:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(target)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        yield new
    finally:
        new.unlink(missing_ok=True)
