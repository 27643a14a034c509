"""The step ``kill-worker``: a worker dies with webhooks in its hands, and another one does them.

Its other end is ``python -m go_services_core.demo.kill_worker CONFIG MODE``: a worker process. With ``MODE`` as
``hold`` its handler never ends; with ``work`` it commits an event for each webhook, together with the settlement.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ..clock import SystemClock, uuid7
from ..errors import ServicesError
from ..handled import Handled
from ..model import Event

if TYPE_CHECKING:
    from ..handler_protocols import HandlerContext
    from .steps import Stage

COUNT: Final = 20
HANDLED: Final = "demo.handled"
SECONDS: Final = 30.0
"""At most, for a process to get somewhere."""
LEASE: Final = 2.0


async def kill_worker(stage: Stage, require: Callable[[bool, str], None]) -> str:
    """Kill a worker that holds claims, and see what another one makes of them."""
    names = [f"{stage.delivery_id()}-kill-{number}" for number in range(COUNT)]
    done: list[str] = []

    async def count(event: Event, context: HandlerContext) -> None:
        done.append(str(event.payload["delivery_id"]))

    await stage.runtime.on(HANDLED, count, name="demo-count")
    try:
        async with _process(stage, "hold") as first:
            await _hears(first, "ready")
            for name in names:
                status = await stage.sandbox.deliver(
                    stage.webhook_url, event="item.created", data={"id": 121}, delivery_id=name
                )
                require(status == 204, f"a webhook was answered with {status}")
            await _hears(first, "holding")
            first.send_signal(signal.SIGKILL)
            await first.wait()
        async with asyncio.timeout(SECONDS), _process(stage, "work") as second:
            while len(set(done) & set(names)) < COUNT:
                await stage.runtime.run_due("outbox")
                await asyncio.sleep(0.05)
            second.send_signal(signal.SIGTERM)
            require(await second.wait() == 0, "the second worker did not end well")
    except TimeoutError:
        require(False, f"after {SECONDS:g} seconds {len(set(done) & set(names))} of {COUNT} webhooks are done")
    times = {done.count(name) for name in names}
    require(times == {1}, f"a webhook was done {max(times)} times")
    return f"{COUNT} webhooks in the hands of a killed worker; another took them over: each done once"


async def _hears(process: asyncio.subprocess.Process, word: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        said = (await process.stdout.readline()).decode().strip()
    if said != word:
        raise ServicesError(f"A worker process said {said!r} instead of {word!r}.")


@asynccontextmanager
async def _process(stage: Stage, mode: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "go_services_core.demo.kill_worker", str(stage.files.config), mode,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _ends_with_its_parent() -> None:
    """A demo that is killed leaves no worker behind."""
    os.read(0, 1)  # not through sys.stdin, whose lock this thread would hold when the interpreter ends
    os._exit(1)


async def _work(config: str, mode: str) -> None:
    from ..config import Config
    from ..runtime.runtime import Runtime

    stop, clock = asyncio.Event(), SystemClock()

    async def handler(event: Event, context: HandlerContext) -> Handled:
        if mode == "hold":
            print("holding", flush=True)
            await stop.wait()
        told = Event(
            id=uuid7(clock),
            name=HANDLED,
            provider_id=event.provider_id,
            scope=event.scope,
            connection_id=event.connection_id,
            occurred_at=clock.now(),
            payload={"delivery_id": event.payload["delivery_id"], "pid": os.getpid()},
        )
        return Handled(events=(told,))

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    threading.Thread(target=_ends_with_its_parent, daemon=True).start()
    settings = Config.load(config, arguments={"worker.lease": LEASE, "worker.poll": 0.1})
    async with Runtime.open(settings) as runtime:
        await runtime.on("webhook.item.*", handler, name="demo-work")
        await runtime.work(kinds=["inbox", "outbox"], stop=stop, ready=lambda: print("ready", flush=True))


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
