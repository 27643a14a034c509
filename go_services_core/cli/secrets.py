"""``go-services secrets``: the keys of what is stored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..counted import counted
from .exits import FAILED, OK
from .lazy import Group
from .options import as_json, dry_run
from .output import clean, fields, show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime
    from ..model import KeyRef
    from ..runtime.rotation import Progress
    from ..secret import SecretStr
    from ..wrapping_keys import KeyStatus, RotationReport

_NEXT = "Every process seals under it within five minutes; then run `go-services secrets rewrap`."


@click.group(cls=Group)
def secrets() -> None:
    """Show, check, change and retire the keys of what is stored.

    \b
    A key is changed while everything runs:
    go-services secrets generate-key --add      a new key that only opens, for all processes to know
    go-services secrets rotate                  make it primary; wait five minutes
    go-services secrets rewrap                  bring every row under it
    go-services secrets retire KEY              let the old key go, once nothing needs it
    """


@secrets.command(short_help="Show the keys and the rows that need each.")
@as_json
@pass_session
def status(session: Session, as_json: bool) -> None:
    """Show the keys, how many rows need each, and what needs attention.

    It counts the rows of every table with sealed values, and answers also while the secret backend does not.

    \b
    go-services secrets status
    """
    with _lazily(session) as runtime:
        found = runtime.key_status()
    if as_json:
        show_json(_status_fields(found))
        return
    fields(
        [
            ("backend", found.backend),
            ("primary", "-" if found.primary is None else _name(found.primary)),
            ("key check", "-" if found.check is None else _name(found.check)),
            ("rows", sum(use.rows for use in found.uses)),
            *([("problem", found.problem)] if found.problem else []),
        ]
    )
    click.echo()
    table(("key", "version", "backend", "state", "rows", "of them", "from"), _rows(found), empty="No key is known.")
    for warning in found.warnings:
        click.echo(f"note: {clean(warning)}")


def _rows(found: KeyStatus) -> Iterator[tuple[Any, ...]]:
    """A line for each key of the backend, then for each that only rows name."""
    states: dict[KeyRef, tuple[str, str]] = {info.key: (info.state, info.detail) for info in found.keys}
    if found.primary is not None:
        states.setdefault(found.primary, ("primary", ""))
    known = bool(found.keys)
    for use in found.uses:
        if use.key not in states:
            states[use.key] = ("Go system" if not use.key.backend else "missing" if known else "earlier", "")
    for key, (state, detail) in states.items():
        uses = [use for use in found.uses if use.key == key]
        kinds = ", ".join(f"{use.rows} {use.kind}" for use in uses)
        yield key.key_id, key.key_version, key.backend, state, sum(use.rows for use in uses), kinds, detail


def _status_fields(found: KeyStatus) -> dict[str, Any]:
    return {
        "backend": found.backend,
        "primary": _key_fields(found.primary),
        "problem": found.problem or None,
        "key_check": _key_fields(found.check),
        "keys": [
            {
                **_key_fields(info.key),
                "state": info.state,
                "detail": info.detail,
                "warnings": list(info.warnings),
                "rows": sum(use.rows for use in found.uses if use.key == info.key),
            }
            for info in found.keys
        ],
        "uses": [{"kind": use.kind, **_key_fields(use.key), "rows": use.rows} for use in found.uses],
        "unreadable": list(found.unreadable),
        "warnings": list(found.warnings),
    }


@secrets.command(short_help="Check backend, key, windows and credentials.")
@as_json
@pass_session
def check(session: Session, as_json: bool) -> int:
    """Check the secret backend, the database's key, the keys' windows and what could not be opened, one line each.

    A credential that could not be opened is tried again. Exits with 1 when something is wrong.

    \b
    go-services secrets check
    """
    from ..errors import FacetMissing, SecretError

    with _lazily(session) as runtime:
        found = runtime.key_status(count=False)
        key = found.primary
        lines = [
            ("backend", key is not None, f"{_name(key)} wraps and unwraps" if key is not None else found.problem),
        ]
        if key is not None:
            opens = found.check is not None
            lines.append(("database", opens, "the key is the one of this database" if opens else found.problem))
        warnings = [f"{_name(info.key)}: {warning}" for info in found.keys for warning in info.warnings]
        lines.append(("keys", not warnings, "; ".join(warnings) or f"{len(found.keys)} known, none needs attention"))
        try:
            left = runtime.retry_unreadable()
            said = f"{len(left)} cannot be opened: {', '.join(left[:10])}" if left else "every known credential opens"
            lines.append(("credentials", not left, said))
        except (FacetMissing, SecretError) as error:
            lines.append(("credentials", False, str(error)))
    if as_json:
        checks = [{"check": name, "ok": ok, "detail": detail} for name, ok, detail in lines]
        show_json({"ok": all(ok for _, ok, _ in lines), "checks": checks})
    else:
        for name, ok, detail in lines:
            click.echo(f"{'ok  ' if ok else 'FAIL'}  {name.ljust(11)}  {clean(detail)}")
    return OK if all(ok for _, ok, _ in lines) else FAILED


@secrets.command("generate-key", short_help="Print a new key, or add one.")
@click.option("--backend", metavar="ID", help="For this secret backend, instead of the configured one.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it to this new file, mode 0600.")
@click.option("--add", is_flag=True, help="Add it to the configured backend, to open only until `secrets rotate`.")
@dry_run
@pass_session
def generate_key(session: Session, backend: str | None, out: Path | None, add: bool, dry_run: bool) -> None:
    """Print a new key for the configuration, or add one to the secret backend. Needs no database.

    Whoever has the key can read what is sealed under it; without it nobody can.

    \b
    go-services secrets generate-key --out new.key
    go-services secrets generate-key --add
    """
    if add and (backend is not None or out is not None):
        raise click.UsageError("--add adds a key to the configured backend; it is neither printed nor written.")
    if add:
        _add_key(session, dry_run)
        return
    key = _new_key(session, backend)
    if out is None:
        click.echo("Would print a new key." if dry_run else key.reveal())
        return
    if out.exists():
        raise click.UsageError(f"{out} exists already; nothing was written.")
    if not dry_run:
        from .init import write_private

        write_private(out, key, replace=False)
    click.echo(f"{'Would write' if dry_run else 'Wrote'} {out}", err=True)


def _new_key(session: Session, backend: str | None) -> SecretStr:
    from ..config.roots import SecretsRoot
    from ..errors import CapabilityUnsupported

    config = session.config()
    id = backend or str(config.get("secrets.backend", SecretsRoot().backend))
    spec = session.plugins(config).catalog().secret_backend(id)
    if spec.generate_key is None:
        raise CapabilityUnsupported(
            f"The keys of the secret backend {id!r} are made where they are kept.", hint="Make the key there."
        )
    key: SecretStr = spec.generate_key.resolve()()
    return key


def _add_key(session: Session, dry_run: bool) -> None:
    import asyncio

    from ..runtime.build import open_secret_backend
    from ..runtime.keys import lifecycle

    async def add() -> Any:
        async with open_secret_backend(session.config()) as backend:
            return await lifecycle(backend).add_key(dry_run=dry_run)

    made = asyncio.run(add())
    click.echo(f"{'Would add' if dry_run else 'Added'} {_name(made.key)}, {made.state}.")
    if not dry_run and made.state != "primary":
        click.echo("Next: once every process knows it, `go-services secrets rotate` makes it primary.")


@secrets.command(short_help="Make the newest key primary.")
@click.option("--to", metavar="KEY", help="This key, instead of the newest.")
@dry_run
@as_json
@pass_session
def rotate(session: Session, to: str | None, dry_run: bool, as_json: bool) -> None:
    """Make the newest key primary: new secrets are sealed under it, what is stored still opens.

    \b
    go-services secrets rotate --dry-run
    go-services secrets rotate --to app-key-1f2e3d4c
    """
    with session.runtime() as runtime:
        before, after = runtime.rotate_key(to, dry_run=dry_run)
    if as_json:
        show_json({"dry_run": dry_run, "before": _key_fields(before), "after": _key_fields(after)})
        return
    click.echo(f"{'Would make' if dry_run else 'Made'} {_name(after)} primary, instead of {before.key_id}.")
    if not dry_run:
        click.echo(_NEXT)


def _rotation(verify: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of commands that go through all rows."""
    options = (
        click.option("--all", "all_rows", is_flag=True, help="Also rows that are under the primary key."),
        click.option("--rate", type=float, metavar="ROWS", help="Rows a second at most."),
        click.option("--batch", type=click.IntRange(1, 1000), default=100, show_default=True, help="Rows at once."),
        click.option(
            "--verify/--no-verify",
            default=verify,
            show_default=True,
            help="Open every row in the end.",
        ),
        dry_run,
        as_json,
        pass_session,
    )

    def apply(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


@secrets.command(short_help="Bring all rows under the primary key.")
@_rotation(verify=False)
def rewrap(
    session: Session,
    all_rows: bool,
    rate: float | None,
    batch: int,
    verify: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Bring what is stored under the primary key: the backend wraps the data keys anew, no secret is opened.

    Everything else goes on meanwhile. Interrupted or killed, run it again: it does what is left. Exits with 1 when
    rows are left under another key, or cannot be read.

    \b
    go-services secrets rewrap --dry-run
    go-services secrets rewrap --rate 500 --verify
    """
    return _run("rewrap", session, all_rows, rate, batch, verify, dry_run, as_json)


@secrets.command(short_help="Seal all rows anew.")
@_rotation(verify=True)
def reencrypt(
    session: Session,
    all_rows: bool,
    rate: float | None,
    batch: int,
    verify: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Open what is stored and seal it anew, under new data keys: after a key may have leaked, or after an adoption.

    It is the way from the formats of the Go system to today's, and takes longer than rewrap. Everything else goes on
    meanwhile. Interrupted or killed, run it again: it does what is left, with --all everything. Exits with 1 when rows
    are left under another key, or cannot be read.

    \b
    go-services secrets reencrypt --dry-run
    go-services secrets reencrypt --all
    """
    return _run("reencrypt", session, all_rows, rate, batch, verify, dry_run, as_json)


def _run(
    action: str,
    session: Session,
    all_rows: bool,
    rate: float | None,
    batch: int,
    verify: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    with session.runtime() as runtime, _progress(action) as progress:
        call: Callable[..., RotationReport] = getattr(runtime, action)
        report = call(all=all_rows, rate=rate, batch=batch, verify=verify, dry_run=dry_run, progress=progress)
    if as_json:
        show_json(_report_fields(report))
    else:
        _show_report(report)
    return OK if dry_run or report.complete else FAILED


@contextmanager
def _progress(label: str) -> Iterator[Progress | None]:
    """A bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, show_pos=True) as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield show


def _show_report(report: RotationReport) -> None:
    figures = ["done", "unchanged", "left_alone", "adopted", "unreadable", "verified"]
    shown = [name for name in figures if name == "done" or any(getattr(kind, name) for kind in report.kinds)]
    kinds = [kind for kind in report.kinds if any(getattr(kind, name) for name in shown)]
    table(
        ["rows", *(name.replace("_", " ") for name in shown)],
        [(kind.kind, *(getattr(kind, name) for name in shown)) for kind in kinds],
        empty="Nothing is stored.",
    )
    done = sum(kind.done for kind in kinds)
    tense = "would be" if report.dry_run else "was" if done == 1 else "were"
    verb = {"rewrap": "rewrapped", "reencrypt": "sealed anew"}[report.action]
    click.echo(f"{counted(done, 'row')} {tense} {verb} under {_name(report.key)}.")
    for one in report.unreadable:
        whose = f" of connection {one.connection_id}" if one.connection_id is not None else ""
        click.echo(f"unreadable: {one.kind} {one.id}{whose}, {_name(one.key)}: {clean(one.error)}")
    if any(kind.adopted for kind in kinds) and report.action == "rewrap":
        click.echo("Rows in the format of the Go system are left: `go-services secrets reencrypt` changes them.")
    if report.remaining:
        click.echo(
            f"{counted(report.remaining, 'row')} written under another key meanwhile: a process does not use the "
            "primary key yet. Run it again in five minutes."
        )


def _report_fields(report: RotationReport) -> dict[str, Any]:
    return {
        "action": report.action,
        "dry_run": report.dry_run,
        "complete": report.complete,
        "key": _key_fields(report.key),
        "kinds": {
            kind.kind: {
                "done": kind.done,
                "unchanged": kind.unchanged,
                "left_alone": kind.left_alone,
                "adopted": kind.adopted,
                "unreadable": kind.unreadable,
                "verified": kind.verified,
            }
            for kind in report.kinds
        },
        "remaining": report.remaining,
        "unreadable": [
            {
                "kind": one.kind,
                "id": one.id,
                "connection": one.connection_id,
                **_key_fields(one.key),
                "error": one.error,
            }
            for one in report.unreadable
        ],
    }


@secrets.command(short_help="Let a key go that nothing needs.")
@click.argument("key", metavar="KEY[:VERSION]")
@dry_run
@as_json
@pass_session
def retire(session: Session, key: str, dry_run: bool, as_json: bool) -> None:
    """Let a key go. A key that a row needs is not retired; the refusal has the number of rows.

    Wait five minutes after `secrets rotate` and rewrap before: until then a process may still seal under the old key.
    Keep a copy of the key for as long as there are backups that need it.

    \b
    go-services secrets retire app-key-1f2e3d4c --dry-run
    go-services secrets retire transit/services:3
    """
    name, version = _parse(key)
    with session.runtime() as runtime:
        done = runtime.retire_key(name, version, dry_run=dry_run)
    if as_json:
        show_json({"dry_run": dry_run, "key_id": name, "key_version": version, "detail": done})
    else:
        click.echo(f"Would retire {key}." if dry_run else f"Retired {key}: {clean(done)}")


def _parse(key: str) -> tuple[str, int | None]:
    """Id and version: an id may have colons itself, as the names of AWS do."""
    name, colon, version = key.rpartition(":")
    return (name, int(version)) if colon and name and version.isascii() and version.isdigit() else (key, None)


@contextmanager
def _lazily(session: Session) -> Iterator[BlockingRuntime]:
    """The runtime, also while the secret backend does not answer: that is what is asked for."""
    with session.runtime(secrets__at_start="lazy") as runtime:
        yield runtime


def _name(key: KeyRef) -> str:
    return f"key {key.key_id} ({key.backend or 'Go system'}, version {key.key_version})"


def _key_fields(key: KeyRef | None) -> Any:
    if key is None:
        return None
    return {"backend": key.backend, "key_id": key.key_id, "key_version": key.key_version}
