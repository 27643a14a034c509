"""``go-services doctor``"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from attrs import frozen

from ..counted import counted
from ..errors import ConfigError, PluginError, SecretError, ServicesError
from .exits import CONFIGURATION, FAILED, OK, PLUGIN, exit_code
from .options import as_json
from .output import clean, show_json
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..config import Config
    from ..plugins import PluginManager


@frozen
class Finding:
    """One line of the report; ``code`` is the exit code that it asks for."""

    check: str
    code: int
    detail: str
    remedy: str | None = None


@click.command()
@as_json
@pass_session
def doctor(session: Session, as_json: bool) -> int:
    """Check plugins, configuration, schema, keys, and all health checks, one line each.

    \b
    Exit code: 0 all well, 4 a plugin is broken or incompatible, 3 the configuration is not valid,
    1 anything else.
    """
    findings = list(_examine(session))
    if as_json:
        show_json(
            {
                "ok": all(one.code == OK for one in findings),
                "checks": [
                    {"check": one.check, "ok": one.code == OK, "detail": one.detail, "remedy": one.remedy}
                    for one in findings
                ],
            }
        )
    else:
        width = max(len(one.check) for one in findings)
        for one in findings:
            click.echo(f"{'FAIL' if one.code else 'ok  '}  {one.check.ljust(width)}  {clean(one.detail)}")
            if one.remedy:
                click.echo(f"{' ' * (width + 8)}{clean(one.remedy)}")
    return max(one.code for one in findings)  # a plugin's failure (4) explains a configuration's (3), and so on


def _examine(session: Session) -> Iterator[Finding]:
    from .survey import survey

    try:
        config = session.config()
        surveyed = survey(config)
    except ServicesError as error:
        yield _failure("plugins" if isinstance(error, PluginError) else "configuration", error)
        return
    for info in surveyed.plugins:
        if info.status in ("broken", "incompatible"):
            remedy = f"Repair it, or leave it out: go-services plugins disable {info.id}"
            yield Finding(f"plugin {info.id}", PLUGIN, f"{info.status}: {info.error}", remedy)
        else:
            source = f"{info.distribution} {info.version}, " if info.distribution else ""
            yield Finding(f"plugin {info.id}", OK, source + info.status)
    if surveyed.conflict is not None:
        yield _failure("plugins", surveyed.conflict)
        return
    manager = surveyed.manager
    configuration = _configuration(config, manager)
    yield configuration
    schema = _schema(config, manager)
    yield schema
    if configuration.code == OK and schema.code == OK:
        yield from _running(config, manager)


def _configuration(config: Config, manager: PluginManager) -> Finding:
    from ..config import check

    problems = check(config, manager.catalog())
    if problems:
        remedy = "`go-services config show --origin` tells where each value comes from."
        return Finding("configuration", CONFIGURATION, "; ".join(problems), remedy)
    return Finding("configuration", OK, str(config.path or "no file; defaults and environment"))


def _schema(config: Config, manager: PluginManager) -> Finding:
    import asyncio

    from .store import configured_store, read_status

    try:
        status = asyncio.run(read_status(configured_store(config, manager)))
    except ServicesError as error:
        return _failure("schema", error)
    if status.pending:
        pending = counted(len(status.pending), "migration")
        detail = f"schema {status.schema_version} of {status.latest_version}: {pending} pending"
        return Finding("schema", FAILED, detail, "Run `go-services store migrate`.")
    if status.problems:
        return Finding("schema", FAILED, "; ".join(status.problems))
    return Finding("schema", OK, f"{status.dialect} {status.server}, schema {status.schema_version}")


def _running(config: Config, manager: PluginManager) -> Iterator[Finding]:
    from ..blocking import BlockingRuntime

    try:
        with BlockingRuntime.open(config, plugins=manager) as runtime:
            keys = runtime.key_status(count=False)
            found = runtime.health()
    except ServicesError as error:
        yield _failure("keys" if isinstance(error, SecretError) else "runtime", error)
        return
    if keys.check is None:  # only where the runtime starts without its secret backend
        yield Finding("keys", FAILED, keys.problem, "Look at `go-services secrets check`.")
    else:
        yield Finding("keys", OK, "the configured key is the one of this database")
    for name, health in found:
        yield Finding(name, OK if health.ok else FAILED, health.detail, health.remedy)


def _failure(name: str, error: ServicesError) -> Finding:
    detail = "; ".join(error.problems) if isinstance(error, ConfigError) and error.problems else error.message
    return Finding(name, exit_code(error), detail, error.hint)
