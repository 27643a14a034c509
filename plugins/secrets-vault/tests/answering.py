"""A server that answers as a test says, and keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs


@attrs.define
class Answering:
    """Each request takes the next answer; the last one stays. An answer is a status, a body and a header."""

    address: str
    answers: list[tuple[int, bytes, tuple[str, str]]]
    requests: list[tuple[str, str, dict[str, str]]] = attrs.field(factory=list)
    gate: threading.Event = attrs.field(factory=threading.Event)
    """While it is not set, no request is answered."""

    def say(self, status: int, body: bytes = b"", header: tuple[str, str] = ("X-Test", "1")) -> None:
        self.answers[:] = [(status, body, header)]


@contextmanager
def answering() -> Iterator[Answering]:
    made = Answering("", [(404, b"{}", ("X-Test", "1"))])
    made.gate.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.requests.append((self.command, self.path, dict(self.headers)))
            made.gate.wait(20)
            status, body, header = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header(*header)
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the caller went away
                self.close_connection = True

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        made.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
