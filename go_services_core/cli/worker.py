"""``go-services worker``: do what is due, and tell who does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .exits import FAILED, OK
from .lazy import Group
from .options import as_json
from .output import fields, show_json, show_json_line, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..config import Config
    from ..worker_status import Worked, WorkerStatus


@click.group(cls=Group)
def worker() -> None:
    """Do what is due: deliveries, events, jobs, renewals, retention; and show who does.

    \b
    go-services worker run
    go-services worker status --json
    """


@worker.command()
@click.option("--kinds", metavar="KIND,KIND", help="Do only these kinds of work; all by default.")
@click.option("--once", is_flag=True, help="Do what is due now, then end.")
@click.option(
    "--log-level",
    type=click.Choice(["info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="Which log records are printed.",
)
@as_json
@pass_session
def run(session: Session, kinds: str | None, once: bool, log_level: str, as_json: bool) -> int:
    """Work until SIGTERM or Ctrl-C; any number of processes share a database.

    The first signal has it claim nothing more, give back what is not begun, and wait for what runs, as long as
    `worker.grace` says. A second one ends it at once: what it held is done by others when its leases end.

    Handlers are those of plugins. With --json, every line of the output is JSON: that it is ready, the log, the end.

    \b
    Exit code: 0 all that ran has ended, 1 something was cut off and given back.
    """
    import asyncio

    if once and kinds:
        raise click.UsageError("--once does everything that is due; leave --kinds out.")
    with _logging(log_level.upper(), as_json=as_json):
        if once:
            return _once(session, as_json)
        chosen = None if kinds is None else [kind.strip() for kind in kinds.split(",") if kind.strip()]
        worked = asyncio.run(_work(session.config(), chosen, as_json=as_json))
    cut_off = list(worked.cut_off)
    if as_json:
        show_json_line({"event": "stopped", "done": worked.done, "failed": worked.failed, "cut_off": cut_off})
    else:
        click.echo(f"Stopped: {worked.done} done, {worked.failed} failed.")
        if cut_off:
            click.echo(f"Cut off after the grace, and given back: {', '.join(cut_off)}.", err=True)
    return FAILED if cut_off else OK


def _once(session: Session, as_json: bool) -> int:
    with session.runtime() as runtime:
        drained = runtime.drain()
    counts = {
        "deliveries": drained.deliveries,
        "events": drained.events,
        "jobs": drained.jobs,
        "renewals": drained.renewals,
        "failed": drained.failed,
    }
    if as_json:
        show_json_line({"event": "drained", **counts})
    else:
        fields(counts.items())
    return OK


async def _work(config: Config, kinds: list[str] | None, *, as_json: bool) -> Worked:
    import asyncio
    import os
    import signal

    from ..runtime.runtime import Runtime

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def end() -> None:
        stop.set()
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)  # the second one ends the process there and then

    def ready() -> None:
        if as_json:
            show_json_line({"event": "ready", "pid": os.getpid(), "kinds": kinds})
        else:
            click.echo(f"Ready, process {os.getpid()}: {', '.join(kinds or ['all kinds of work'])}.")

    for number in signals:
        loop.add_signal_handler(number, end)
    try:
        async with Runtime.open(config) as runtime:
            return await runtime.work(kinds=kinds, stop=stop, ready=ready)
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@contextmanager
def _logging(level: str, *, as_json: bool) -> Iterator[None]:
    """Print the log while the command runs."""
    handler: logging.Handler = _JsonLines() if as_json else logging.StreamHandler()
    if not as_json:
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("go_services")
    before = logger.level
    handler.setLevel(level)
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _JsonLines(logging.Handler):
    """Each record as a line of JSON."""

    _USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def emit(self, record: logging.LogRecord) -> None:
        """Print it; without secrets, as everything that commands print."""
        line: dict[str, Any] = {"event": "log", "level": record.levelname, "logger": record.name}
        line["message"] = record.getMessage()
        line |= {name: value for name, value in vars(record).items() if name not in self._USUAL and name not in line}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = type(record.exc_info[1]).__name__
        show_json_line(line)


@worker.command()
@as_json
@pass_session
def status(session: Session, as_json: bool) -> int:
    """Show the processes that work, what waits for them, and what each kind of work did.

    \b
    Exit code: 0 all well, 1 no process is alive, or work that is due waits for longer than `worker.max_lag`.
    """
    with session.runtime() as runtime:
        found = runtime.worker_status()
    if as_json:
        show_json(_as_dict(found))
    else:
        _show(found)
    return OK if found.alive and not found.late else FAILED


def _as_dict(found: WorkerStatus) -> dict[str, Any]:
    return {
        "ok": bool(found.alive and not found.late),
        "processes": [
            {
                "id": one.id,
                "host": one.host,
                "pid": one.pid,
                "alive": one.alive,
                "beat_seconds_ago": round(one.age, 1),
                "started_at": one.started_at,
                "kinds": list(one.kinds),
            }
            for one in found.processes
        ],
        "queues": [
            {
                "queue": one.queue,
                "due": one.due,
                "lag_seconds": round(one.lag, 1),
                "dead": one.dead,
                "late": one in found.late,
            }
            for one in found.backlog
        ],
        "kinds": {kind: counts.as_dict() for kind, counts in found.kinds.items()},
    }


def _show(found: WorkerStatus) -> None:
    table(
        ("process", "alive", "beat", "started", "kinds"),
        [(one.id, one.alive, f"{one.age:.0f} s ago", one.started_at, len(one.kinds)) for one in found.processes],
        empty="No process works. Start one: go-services worker run",
        whole=1,
    )
    click.echo()
    table(
        ("queue", "due", "lag", "dead", "late"),
        [(one.queue, one.due, f"{one.lag:.0f} s", one.dead, one in found.late) for one in found.backlog],
        empty="There are no queues.",
    )
    if found.kinds:
        click.echo()
        table(
            ("kind", "done", "failed", "last success", "last failure", "error"),
            [
                (kind, one.done, one.failed, one.last_success, one.last_failure, one.error)
                for kind, one in sorted(found.kinds.items())
            ],
            empty="",
            whole=1,
            text=True,
        )
