"""The command ``serve`` as a process: its start and end, what it prints, and where it listens."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from go_services_core.secret import SecretStr
from go_services_core.testing.sandbox.webhooks import sign

COMMAND = Path(sys.executable).with_name("go-services")
SECRET = "the-secret-of-the-hooks"
CONFIG = f"""
[runtime]
allow_plaintext_secrets = true

[providers.hooks]
name = "Hooks"
webhook_secrets = ["{SECRET}"]
api = {{base_url = "https://api.hooks.example"}}
auth = {{kind = "pat"}}

[providers.hooks.webhook]
scheme = "hmac"
signature_header = "webhook-signature"
encoding = "base64"
prefix = "v1,"
signed = ["id", "timestamp", "body"]
id_header = "webhook-id"
timestamp_header = "webhook-timestamp"
"""


class Serving:
    """A running server and what it said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"it did not start: {process.stderr and process.stderr.read()}"
        self.said: dict[str, Any] = json.loads(line)

    def connection(self, which: str = "url") -> http.client.HTTPConnection:
        host, port = self.said[which].removeprefix("http://").split(":")
        return http.client.HTTPConnection(host, int(port), timeout=20)

    def get(self, path: str, which: str = "url") -> int:
        with contextlib.closing(self.connection(which)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and what is on stderr."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """The same, of one that was told already."""
        _, error = self.process.communicate(timeout=30)
        return self.process.returncode, error


@contextlib.contextmanager
def serving(*args: str) -> Iterator[Serving]:
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", "--internal-port", "0", "--json", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killer = threading.Timer(60, process.kill)
    killer.start()
    try:
        yield Serving(process)
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def delivery(id: str = "m1", body: bytes = b"{}") -> dict[str, str]:
    stamp = int(time.time())
    return {
        "webhook-id": id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign(SecretStr(SECRET), id, stamp, body),
        "Content-Length": str(len(body)),
    }


@pytest.fixture(autouse=True)
def configured(ready: Path) -> None:
    with (ready / "go-services.toml").open("a") as file:
        file.write(CONFIG)


def test_routes_are_served_and_metrics_and_status_on_an_address_of_their_own() -> None:
    with serving("--worker") as served:
        assert served.said["loop"].startswith("uvloop ")
        assert served.said["internal_url"] != served.said["url"]
        assert [served.get(path) for path in ("/health", "/status", "/metrics", "/nothing")] == [200, 404, 404, 404]
        inner = [served.get(path, "internal_url") for path in ("/health", "/status", "/metrics", "/webhooks/hooks")]
        assert inner == [200, 200, 200, 404]
        assert served.get("/callback?code=the-code-of-somebody&state=the-state-of-somebody") == 401
        code, log = served.stop()
    assert code == 0
    assert "GET /callback 401" in log
    assert "the-code" not in log
    assert "the-state" not in log
    assert log.endswith("Stopped.\n")


def test_worker_beside_the_server_runs_the_handler_of_a_delivery(install: Any, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    install(
        "handling",
        f"""
        from pathlib import Path

        from go_services_core import Ref, hookimpl
        from go_services_core.specs import EventHandlerSpec

        GS_CONTRACT = 1

        async def keep(event, context):
            Path({str(seen)!r}).write_bytes((await context.request()).body)

        @hookimpl
        def gs_event_handlers():
            return [EventHandlerSpec(name="keep", events="webhook.*", handler=Ref(f"{{__name__}}:keep"))]
        """,
    )
    body = b'{ "n": 1.0 }'
    with serving("--worker") as served, contextlib.closing(served.connection()) as connection:
        connection.request("POST", "/webhooks/hooks", body, delivery(body=body))
        assert connection.getresponse().status == 200
        for _ in range(2000):
            if seen.exists() and seen.read_bytes():
                break
            time.sleep(0.01)
        assert seen.read_bytes() == body
        assert served.stop()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_the_request_that_came_end_and_keeps_its_delivery(number: int) -> None:
    with serving() as served, contextlib.closing(served.connection()) as connection:
        assert served.get("/health/live") == 200
        connection.putrequest("POST", "/webhooks/hooks")
        for name, value in delivery().items():
            connection.putheader(name, value)
        connection.endheaders()
        assert served.get("/health/live") == 200  # the loop has taken the other connection before this one
        served.process.send_signal(number)
        refused = False
        for _ in range(200):
            try:
                served.get("/health/live")
            except OSError:
                refused = True
                break
            time.sleep(0.01)
        assert refused
        connection.send(b"{}")
        assert connection.getresponse().status == 200
        assert served.ended()[0] == 0


def _until_closed(connection: socket.socket, drip: bytes = b"") -> bytes:
    """What comes until the server closes, while a byte is sent again and again."""
    got = b""
    connection.settimeout(0.1)
    for _ in range(200):
        try:
            if drip:
                connection.sendall(drip)
            if not (piece := connection.recv(4096)):
                return got
            got += piece
        except TimeoutError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            return got
    raise AssertionError("the connection is still open")


def test_connection_without_a_whole_head_is_closed(ready: Path) -> None:
    """Slowloris: neither silence nor a byte now and then keeps a connection, at its beginning or after an answer."""
    with (ready / "go-services.toml").open("a") as file:
        file.write("\n[serve]\nhead_seconds = 0.5\n")
    with serving() as served:
        host, port = served.said["url"].removeprefix("http://").split(":")
        for begun in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            for asked in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
                with socket.create_connection((host, int(port)), timeout=20) as slow:
                    slow.sendall(asked)
                    if asked:
                        assert slow.recv(4096).startswith(b"HTTP/1.1 200")
                    slow.sendall(begun)
                    assert b"HTTP/1.1" not in _until_closed(slow, b"a" if begun else b"")
        assert served.get("/health") == 200


def test_several_processes_share_one_port_and_one_database(ready: Path) -> None:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = str(held.getsockname()[1])
        with serving("--port", port, "--reuse-port") as one, serving("--port", port, "--reuse-port") as other:
            assert one.said["url"] == other.said["url"]
            assert one.said["pid"] != other.said["pid"]
            for number in range(20):
                with contextlib.closing(one.connection()) as connection:
                    connection.request("POST", "/webhooks/hooks", b"{}", delivery(f"m{number % 10}"))
                    assert connection.getresponse().status == 200
            assert [one.stop()[0], other.stop()[0]] == [0, 0]
        assert port not in ("0", "")
    import sqlite3

    with contextlib.closing(sqlite3.connect(ready / "go-services.db")) as database:
        assert database.execute("SELECT count(*) FROM service_webhook_deliveries").fetchone() == (10,)


def test_port_that_is_taken_is_an_error_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [COMMAND, "serve", "--port", str(taken.getsockname()[1])], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert "--port" in done.stderr


def test_unix_socket_is_served_in_place_of_a_port(tmp_path: Path) -> None:
    place = tmp_path / "s"
    with serving("--socket", os.path.relpath(place)) as served:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place))
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert served.stop()[0] == 0


def test_certificate_of_the_client_reaches_the_scheme(install: Any, tmp_path: Path) -> None:
    install(
        "mine",
        """
        from go_services_core import hookimpl
        from go_services_core.protocols import Rejected, Verified
        from go_services_core.refs import Ref
        from go_services_core.specs import ApiSpec, ProviderSpec, WebhookSchemeSpec
        from go_services_core import PersonalToken

        GS_CONTRACT = 1

        class Record:
            scheme = "mine"

        class Verifier:
            def __init__(self, record): ...
            def verify(self, request, *, secrets, now):
                yield from ()
                found = request.peer_certificate
                return Verified(delivery_id="d", event="e") if found else Rejected(reason="no certificate")

        @hookimpl
        def gs_webhook_schemes():
            return (WebhookSchemeSpec(id="mine", verifier=Ref(f"{__name__}:Verifier")),)

        @hookimpl
        def gs_providers():
            return (ProviderSpec(id="mine", name="Mine", auth=PersonalToken(),
                                 api=ApiSpec(base_url="https://mine.example"), webhook=Record()),)
        """,
    )
    ours, theirs, foreign = trustme.CA(), trustme.CA(), trustme.CA()
    ours.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    theirs.cert_pem.write_to_path(tmp_path / "clients.pem")
    pem = str(tmp_path / "server.pem")
    with serving("--cert", pem, "--client-ca", str(tmp_path / "clients.pem")) as served:
        port = int(served.said["url"].rpartition(":")[2])

        def post(authority: trustme.CA | None) -> int:
            context = ssl.create_default_context()
            ours.configure_trust(context)
            if authority is not None:
                authority.issue_cert("client@example.com").configure_cert(context)
            with contextlib.closing(
                http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
            ) as connection:
                connection.request("POST", "/webhooks/mine", b"{}")
                return connection.getresponse().status

        answers = [post(theirs), post(None)]
        assert answers == [200, 401]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            post(foreign)
        assert served.stop()[0] == 0


def test_key_without_certificate_and_unknown_function_are_refused(tmp_path: Path, ready: Path) -> None:
    done = subprocess.run(
        [COMMAND, "serve", "--key", str(ready / "go-services.key")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "--cert" in done.stderr) == (2, True)
    with (ready / "go-services.toml").open("a") as file:
        file.write('\n[serve]\nscope_of = "no_such_module:whose"\n')
    done = subprocess.run([COMMAND, "serve"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert "serve.scope_of" in done.stderr
