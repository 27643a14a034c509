"""A process of its own that renews a connection each time it is told to."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

_PROGRAM: Final = """
import asyncio, sys
from go_services_core import Runtime

async def main(config, connection_id):
    async with Runtime.open(config) as runtime:
        await runtime.token(connection_id)
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            try:
                print((await runtime.refresh(connection_id)).status, flush=True)
            except Exception as error:
                print(type(error).__name__, error, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@frozen
class Renewer:
    """The running process."""

    _process: asyncio.subprocess.Process

    def go(self) -> None:
        """Have it renew; :meth:`said` has the outcome."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def said(self) -> str:
        """Its next line: the connection's status, or the error."""
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), 60)).decode().strip()


@asynccontextmanager
async def renewer(config: Path, connection_id: str) -> AsyncIterator[Renewer]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, str(config), connection_id),
        cwd=config.parent,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        made = Renewer(process)
        assert await made.said() == "ready"
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
