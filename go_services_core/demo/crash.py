"""The step ``crash-after-rotation``: a process dies with the only valid refresh token in its memory.

Its other end is ``python -m go_services_core.demo.crash CONFIG CONNECTION LIFE``: a process that makes one call and
prints how it ended. With ``LIFE`` as ``short`` it is killed when the token endpoint has answered it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ReauthRequired, ServicesError

if TYPE_CHECKING:
    from ..http import HttpRequest, HttpResponse
    from ..protocols import Transport
    from .steps import Stage

Life = Literal["short", "long"]


async def crash(stage: Stage, require: Callable[[bool, str], None]) -> str:
    """Kill a process between the provider's answer and the commit, and see what becomes of the connection."""
    connection, sandbox, runtime = stage.connected(), stage.sandbox, stage.runtime
    before = sandbox.requests["token"]
    sandbox.expire_access_tokens()
    code, _ = await _process(stage, connection.id, "short")
    require(code == -signal.SIGKILL, f"the process was not killed: it ended with {code}")
    require(sandbox.requests["token"] - before == 1, "the process that was killed did not ask for a token once")
    for _ in range(2):
        code, said = await _process(stage, connection.id, "long")
        require((code, said) == (0, ReauthRequired.code), f"the process after it ended with {said or code}")
        asked = sandbox.requests["token"] - before
        require(asked == 2, f"the token endpoint was asked {asked} times instead of twice")
    require((await runtime.connection(connection.id)).status == "pending_reauth", "the end is not stored")
    start = await runtime.connect("sandbox", scope=connection.scope, redirect_uri="http://127.0.0.1/callback")
    again = await runtime.complete(await sandbox.consent(start.url), binding=start.binding)
    require(again.id == connection.id, "the new consent made another connection")
    await runtime.execute(again.id, "items.list", {"per_page": 1})
    return f"one attempt to recover, refused: {ReauthRequired.code}, no request after it; a new consent works again"


async def _process(stage: Stage, connection_id: str, life: Life) -> tuple[int, str]:
    """Run a process to its end; gives its exit code and what it printed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "go_services_core.demo.crash", str(stage.files.config), connection_id, life,
        stdout=pipe, stderr=pipe,
    )  # fmt: skip
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode().strip()


class _Fatal:
    """A transport that does not live to hand over what a token endpoint answered."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def send(self, request: HttpRequest, **options: Any) -> HttpResponse:
        answer = await self._transport.send(request, **options)
        if request.url.endswith("/token"):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    async def aclose(self) -> None:
        await self._transport.aclose()


async def _call(config: str, connection_id: str, life: str) -> None:
    from ..runtime.runtime import Runtime

    async with Runtime.open(config) as runtime:
        if life == "short":
            runtime._core.transport = _Fatal(runtime._core.transport)
        try:
            await runtime.execute(connection_id, "items.list", {"per_page": 1})
        except ServicesError as error:
            print(error.code)
        else:
            print("used")


if __name__ == "__main__":
    asyncio.run(_call(*sys.argv[1:]))
