"""Waits on 127.0.0.1 for the browser that comes back from the consent page (RFC 8252 §7.3)."""

from __future__ import annotations

import hmac
import threading
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

PATH: Final = "/callback"
_DONE: Final = "/done"
_PAGE_SECONDS: Final = 60.0
_CLOSING_SECONDS: Final = 2.0
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""


class CallbackListener:
    """One callback, from one consent, on a loopback port.

    The callback is answered with a redirect, so that code and state leave the address bar before anything is shown.
    Requests with another ``state`` or for another host name are refused and change nothing.
    """

    def __init__(self, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.listener = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._lock = threading.Lock()
        self._state: str | None = None
        self._query: str | None = None
        self._arrived = threading.Event()
        self._outcome: tuple[str, str] | None = None
        self._settled = threading.Event()
        self._shown = threading.Event()

    @property
    def host(self) -> str:
        """The listener's host and port, as browsers send them."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def redirect_uri(self) -> str:
        """Where the provider shall send the browser."""
        return f"http://{self.host}{PATH}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._query is not None:
            if not self._settled.is_set():
                self.settle("Not connected", "The command was ended.")
            self._shown.wait(_CLOSING_SECONDS)
        self._server.shutdown()
        self._server.server_close()

    def expect(self, consent_url: str) -> None:
        """Take only callbacks with the state of this consent URL; none before this was called."""
        states = parse_qs(urlsplit(consent_url).query).get("state", [""])
        self._state = states[0]

    def wait(self, timeout: float) -> str | None:
        """The callback's query string, or None when nobody came within ``timeout`` seconds."""
        return self._query if self._arrived.wait(timeout) else None

    def settle(self, title: str, text: str) -> None:
        """Say on the page how it ended."""
        self._outcome = (title, text)
        self._settled.set()

    def take(self, query: str) -> bool:
        """Keep the first callback of the expected consent; False for every other."""
        states = parse_qs(query).get("state", [""])
        expected = self._state
        if not expected or len(states) != 1 or not hmac.compare_digest(states[0].encode(), expected.encode()):
            return False
        with self._lock:
            if self._query is not None:
                return False
            self._query = query
        self._arrived.set()
        return True

    def page(self) -> tuple[str, str]:
        """Title and text, once it is known how it ended."""
        self._settled.wait(_PAGE_SECONDS)
        return self._outcome or ("Still working", "Look at the terminal.")

    def page_shown(self) -> None:
        """The browser has the page; the listener may close."""
        self._shown.set()


class _Server(ThreadingHTTPServer):
    listener: CallbackListener


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "go-services"
    sys_version = ""
    timeout = 10

    def do_GET(self) -> None:
        listener = self.server.listener
        target = urlsplit(self.path)
        if self.headers.get("Host") != listener.host:  # a foreign page may point its own name at 127.0.0.1
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "Not here", "This address serves one command only.")
        elif target.path == PATH and listener.take(target.query):
            self._head(HTTPStatus.SEE_OTHER, {"Location": _DONE, "Content-Length": "0"})
        elif target.path == PATH:
            self._answer(HTTPStatus.BAD_REQUEST, "Not expected", "This callback does not belong to the open consent.")
        elif target.path == _DONE:
            self._answer(HTTPStatus.OK, *listener.page())
            listener.page_shown()
        else:
            self._answer(HTTPStatus.NOT_FOUND, "Not found", "There is nothing here.")

    def _answer(self, status: HTTPStatus, title: str, text: str) -> None:
        body = _PAGE.format(title=escape(title), text=escape(text)).encode()
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
        self._head(status, headers | {"Content-Security-Policy": "default-src 'none'"})
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: request lines hold code and state."""
