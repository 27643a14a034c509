"""A token endpoint in another process that costs as little as a Python server can, and takes each refresh token once.

A refresh token ``rt-<number>-<version>`` gives the tokens of the next version; one that was used is refused, and
counted as any request is. ``GET /requests`` tells how many token requests came.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import ProxyHandler, build_opener

from attrs import frozen

_TOKEN = re.compile(rb"refresh_token=rt-(\d+)-(\d+)")
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class _Answering(asyncio.Protocol):
    requests = 0
    versions: dict[int, int] = {}  # noqa: RUF012  the server is one, its connections are many

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, rest = self._rest.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            size = int(length[1]) if length is not None else 0
            if len(rest) < size:
                return
            self._rest = rest[size:]
            self._transport.write(self._answer(head, rest[:size]))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET /requests"):
            return _json(200, {"requests": _Answering.requests})
        _Answering.requests += 1
        found = _TOKEN.search(body)
        number, version = (int(found[1]), int(found[2])) if found is not None else (-1, -1)
        if self.versions.get(number, 0) != version:
            return _json(400, {"error": "invalid_grant"})
        self.versions[number] = version = version + 1
        tokens = {"access_token": f"at-{number}-{version}", "refresh_token": f"rt-{number}-{version}"}
        return _json(200, {**tokens, "token_type": "bearer", "expires_in": 3600})


def _json(status: int, value: dict[str, object]) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@frozen
class TokenServer:
    """The other process."""

    url: str

    def requests(self) -> int:
        """Token requests so far."""
        with build_opener(ProxyHandler({})).open(f"{self.url}/requests", timeout=10) as answer:
            return int(json.load(answer)["requests"])


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextmanager
def running() -> Iterator[TokenServer]:
    """A server process."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.token_server"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield TokenServer(f"http://127.0.0.1:{process.stdout.readline().strip()}")
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    asyncio.run(_serve())
