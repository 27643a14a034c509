"""``go-services serve``"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import as_json
from .output import show_json_line
from .session import Session, pass_session

if TYPE_CHECKING:
    import asyncio

    from ..config.roots import ServeRoot

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--host", help="Address to listen on; `serve.host` by default.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; `serve.port` by default, 0 takes a free one.")
@click.option(
    "--socket", "path", type=click.Path(path_type=Path), help="Listen on this Unix socket, not on a host and port."
)
@click.option("--reuse-port", is_flag=True, help="Let several processes listen on the port (SO_REUSEPORT).")
@click.option("--cert", type=_FILE, help="Speak TLS with this certificate (PEM).")
@click.option("--key", type=_FILE, help="The certificate's key (PEM).")
@click.option("--client-ca", type=_FILE, help="Ask clients for certificates of these authorities (PEM).")
@click.option("--internal-port", type=click.IntRange(0, 65535), help="Port of metrics and status.")
@click.option("--no-internal", is_flag=True, help="Serve no metrics and no status.")
@click.option("--worker", is_flag=True, help="Do what is due in this process as well, as `worker run` does.")
@click.option("--access-log/--no-access-log", default=True, help="Print a line for each request, without its query.")
@as_json
@pass_session
def serve(
    session: Session,
    host: str | None,
    port: int | None,
    path: Path | None,
    reuse_port: bool,
    cert: Path | None,
    key: Path | None,
    client_ca: Path | None,
    internal_port: int | None,
    no_internal: bool,
    worker: bool,
    access_log: bool,
    as_json: bool,
) -> None:
    """Serve OAuth callbacks, webhooks, surfaces and health until SIGTERM or Ctrl-C.

    Metrics and status are on an address of their own, on this machine only unless `serve.internal_host` says otherwise.
    On a signal it stops accepting, and requests have `serve.grace` seconds to end.

    \b
    go-services serve --port 8080 --worker
    """
    import asyncio

    from ..config.roots import ServeRoot
    from ..secret import SecretStr

    server, place = _server("served"), _server("Listening")
    loop_name, factory = _server("loop_factory")()
    config = session.config()
    (settings,) = config.bind("serve", ServeRoot, resolve=SecretStr)  # it has no secrets
    public = place(
        host=host or settings.host,
        port=settings.port if port is None else port,
        path=path,
        reuse_port=reuse_port,
        certificate=cert,
        key=key,
        client_ca=client_ca,
    )
    inner_port = settings.internal_port if internal_port is None else internal_port
    internal = place(host=settings.internal_host, port=inner_port, reuse_port=reuse_port)
    serving = server(
        config,
        public=public,
        internal=None if no_internal or inner_port is None else internal,
        grace=settings.grace,
        head_seconds=settings.head_seconds,
        access_log=access_log,
        **_options(settings),
    )
    with _access_log(), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_until_told(serving, loop_name, worker=worker, as_json=as_json))
    click.echo("Stopped.", err=True)


def _server(name: str) -> Any:
    from ..refs import Ref

    hint = 'Install it: pip install "go-services-core[serve]".'
    return Ref[Any](f"go_services_aiohttp.server:{name}", hint=hint).resolve()


def _options(settings: ServeRoot) -> dict[str, Any]:
    from ..refs import Ref

    named = settings.scope_of
    return {
        "public_url": settings.public_url,
        "scope_of": None if named is None else Ref[Any](named, hint="Repair serve.scope_of.").resolve(),
        "trusted_origins": settings.trusted_origins,
        "body_limit": settings.body_limit,
        "body_seconds": settings.body_seconds,
    }


async def _until_told(serving: Any, loop_name: str, *, worker: bool, as_json: bool) -> None:
    import asyncio
    import os
    import signal

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving as served:
            working = asyncio.create_task(served.runtime.work(stop=stop)) if worker else None
            if as_json:
                told = {"url": served.url, "internal_url": served.internal_url, "loop": loop_name, "pid": os.getpid()}
                show_json_line({"event": "ready", **told, "worker": worker})
            else:
                inner = f" · metrics and status on {served.internal_url}" if served.internal_url else ""
                click.echo(f"Serving on {served.url}{inner} · {loop_name}{' · with a worker' if worker else ''}")
            await _first(stop, working)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _first(stop: asyncio.Event, working: asyncio.Task[Any] | None) -> None:
    """Wait for the signal, or for a worker that ends by itself: then its error ends the server too."""
    import asyncio

    waiting = asyncio.create_task(stop.wait())
    tasks = [waiting] if working is None else [waiting, working]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.gather(*tasks)


@contextmanager
def _access_log() -> Iterator[None]:
    """Print one line for each request on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("go_services.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
