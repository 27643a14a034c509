"""A worker process of the demo: ``python -m go_services_core.demo.worker CONFIG CONNECTION``.

It makes a call, says that it is ready, waits for a line, makes another call, and prints how many attempts that took.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from attrs import define

from ..errors import ServicesError


@define
class Worker:
    """The other end: a worker that is ready."""

    _process: asyncio.subprocess.Process

    async def go(self) -> int:
        """Have it make its call, and wait for it; gives the attempts.

        Raises:
            ServicesError: it failed; what it said is in the text.
        """
        out, err = await self._process.communicate(b"go\n")
        if self._process.returncode != 0:
            raise ServicesError(f"A worker process failed: {err.decode().strip().rpartition(chr(10))[2]}")
        return int(out)


@asynccontextmanager
async def worker(config: Path, connection_id: str) -> AsyncGenerator[Worker]:
    """A process of its own over the same database; ended with the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "go_services_core.demo.worker", str(config), connection_id,
        stdin=pipe, stdout=pipe, stderr=pipe,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _work(config: str, connection_id: str) -> None:
    from ..runtime.runtime import Runtime

    async with Runtime.open(config) as runtime:
        await runtime.execute(connection_id, "items.list", {"per_page": 1})  # from here on it has the token
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        result = await runtime.execute(connection_id, "items.list", {"per_page": 1})
        print(result.attempts)


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:]))
