"""``go-services call`` with streams and files, and the same from the blocking face."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from go_services_core import Scope, SecretStr
from go_services_core.blocking import BlockingRuntime
from go_services_core.errors import BadInput, RequestTimeout
from go_services_core.streaming.sse import SseEvent

from .conftest import Run

PROVIDER = """
[providers.shop]
auth = {{ kind = "pat" }}
api = {{ base_url = "{url}" }}

[[providers.shop.operations]]
id = "tail"
method = "GET"
path = "/tail"
call = {{ kind = "stream", format = "sse" }}

[[providers.shop.operations]]
id = "put"
method = "POST"
path = "/put"
params = [{{ name = "name" }}]
call = {{ kind = "file", direction = "upload" }}

[[providers.shop.operations]]
id = "get"
method = "GET"
path = "/get"
call = {{ kind = "file", direction = "download" }}

[[providers.shop.operations]]
id = "job"
method = "POST"
path = "/job"

[providers.shop.operations.call]
kind = "bulk"
status_path = "/job/{{job}}"
done = ["done"]
failed = ["failed"]
interval = 0.05
longest_interval = 0.05

[egress.allow]
shop = ["{host}"]
"""


class Handler(BaseHTTPRequestHandler):
    state = "running"

    def do_GET(self) -> None:
        body = {"/tail": b"id: 1\ndata: a\n\ndata: b\n\n", "/get": b"of the provider"}.get(self.path)
        if body is None:
            body = json.dumps({"state": Handler.state}).encode()
        kind = {"/tail": "text/event-stream", "/get": "text/plain"}.get(self.path, "application/json")
        self._answer(body, kind)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(json.dumps({"id": 7, "got": body.decode(), "path": self.path}).encode(), "application/json")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def connection(ready: Path) -> Iterator[str]:
    """A connection of a provider that the configuration declares."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    host = f"127.0.0.1:{server.server_address[1]}"
    with (ready / "go-services.toml").open("a") as file:
        file.write(PROVIDER.format(url=f"http://{host}", host=host))
    with BlockingRuntime.open("go-services.toml") as runtime:
        made = runtime.establish("shop", scope=Scope("user", "1"), fields={"token": SecretStr("tok-123456")})
    Handler.state = "running"
    yield made.id
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_a_stream_prints_an_item_a_line(connection: str, run: Run) -> None:
    lines = [json.loads(line) for line in run("call", connection, "tail").stdout.splitlines()]
    assert [(line["data"], line["id"]) for line in lines] == [("a", "1"), ("b", "1")]


def test_a_file_is_sent(connection: str, run: Run, ready: Path) -> None:
    (ready / "a.txt").write_text("of mine")
    shown = json.loads(run("call", connection, "put", "--upload", "a.txt", "--param", "name=x").stdout)
    assert shown == {"id": 7, "got": "of mine", "path": "/put?name=x"}
    run("call", connection, "put", "--upload", "missing.txt", code=2)


def test_a_file_is_fetched(connection: str, run: Run, ready: Path) -> None:
    shown = json.loads(run("call", connection, "get", "--output", "b.txt").stdout)
    assert (ready / "b.txt").read_text() == "of the provider"
    assert shown == {"size": 15, "content_type": "text/plain", "etag": None}
    run("call", connection, "get", "--output", "b.txt", "--upload", "b.txt", code=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("put",), "put is an upload: name the file with --upload"),
        (("get",), "get is a download: name the file with --output"),
        (
            ("get", "--output", "b.txt", "--idempotency-key", "1"),
            "get is a download; it does not take --idempotency-key",
        ),
        (("tail", "--page-limit", "1"), "tail is a stream; it does not take --page-limit"),
        (("tail", "--deadline", "5"), "tail is a stream; it does not take --deadline"),
        (("job", "--limit", "1"), "job is a job; it does not take --limit"),
        (("job", "--upload", "go-services.toml"), "job is a job; it does not take --upload"),
        (("--method", "GET"), "both --method and --path"),
    ],
)
def test_option_that_would_be_ignored_is_refused_in_words_of_the_command(
    connection: str, run: Run, arguments: tuple[str, ...], said: str
) -> None:
    told = run("call", connection, *arguments, code=2)
    assert said in told.stderr
    assert told.stdout == ""


def test_dry_run_of_an_upload_needs_no_file(connection: str, run: Run) -> None:
    assert "/put" in run("call", connection, "put", "--dry-run").stdout


def test_the_blocking_face_streams_sends_fetches_and_goes_on(connection: str, ready: Path) -> None:
    told: list[int] = []
    with BlockingRuntime.open("go-services.toml") as runtime:
        assert list(runtime.stream(connection, "tail")) == [SseEvent("a", id="1"), SseEvent("b", id="1")]
        begun = runtime.stream(connection, "tail")
        assert next(begun).data == "a"
        begun.close()
        result = runtime.upload(connection, "put", b"abc", progress=lambda done, total: told.append(done))
        assert result.data["got"] == "abc"
        assert told == [3]
        assert runtime.download(connection, "get", ready / "c.txt").data["size"] == 15
        with pytest.raises(RequestTimeout) as caught:
            runtime.execute(connection, "job", deadline=0.5)
        token = caught.value.resume
        assert token is not None
        Handler.state = "done"
        assert runtime.resume(connection, "job", token).data == {"state": "done"}
        with pytest.raises(BadInput):
            runtime.resume(connection, "tail", token)
