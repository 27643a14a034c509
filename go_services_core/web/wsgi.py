"""A WSGI application (PEP 3333) with the routes: for Flask, and for everything else that is WSGI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from .blocking import answer_blocking
from .request import WebRequest
from .site import Site

if TYPE_CHECKING:
    from ..blocking import BlockingRuntime


class StartResponse(Protocol):
    """What a WSGI server gives (PEP 3333)."""

    def __call__(self, status: str, headers: list[tuple[str, str]], /) -> Any: ...


class WsgiServices:
    """The routes over a ``BlockingRuntime``.

    Args:
        runtime: open for as long as the application serves.
        mount: path below which the routes are where the server does not say so by ``SCRIPT_NAME``: ``/integrations``
            in a Flask view that returns this application.
        options: as for :class:`~go_services_core.web.site.Site`; ``scope_of`` gets the WSGI environment.
    """

    def __init__(self, runtime: BlockingRuntime, *, mount: str = "", **options: Any) -> None:
        self._runtime = runtime
        self._mount = mount.rstrip("/")
        self._site = Site(**options)
        runtime.observe(self._site.failures, name=f"go_services.web.{id(self):x}")

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        answered = answer_blocking(self._runtime, self._request(environ), self._site, _reader(environ))
        length = ("Content-Length", str(len(answered.body)))
        start_response(f"{answered.status} {HTTPStatus(answered.status).phrase}", [*answered.headers, length])
        return () if environ["REQUEST_METHOD"] == "HEAD" else (answered.body,)

    def _request(self, environ: dict[str, Any]) -> WebRequest:
        script, info = (quote(environ.get(name, ""), "/:@!$&'()*+,;=~", "latin-1") for name in _PATH)
        target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        if not target.startswith("/"):  # neither is a part of PEP 3333
            query = environ.get("QUERY_STRING", "")
            target = script + info + (f"?{query}" if query else "")
        mount = script + self._mount
        path = target.partition("?")[0]
        inside = path.startswith(f"{mount}/")
        return WebRequest(
            method=environ["REQUEST_METHOD"],
            target=target,
            path=path[len(mount) :] if inside else info.removeprefix(self._mount),
            headers=tuple(_headers(environ)),
            scheme=environ.get("wsgi.url_scheme", "http"),
            native=environ,
        )


_PATH = ("SCRIPT_NAME", "PATH_INFO")
_UNPREFIXED = {"CONTENT_TYPE": "Content-Type", "CONTENT_LENGTH": "Content-Length"}


def _headers(environ: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in environ.items():
        if key.startswith("HTTP_") and key[5:] not in _UNPREFIXED:
            yield key[5:].replace("_", "-").title(), value
        elif key in _UNPREFIXED and value:
            yield _UNPREFIXED[key], value


def _reader(environ: dict[str, Any]) -> Callable[[int], bytes]:
    """Reads the body and nothing after it; the rest of the connection is the server's."""
    source = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        return lambda size: bytes(source.read(size))
    length = environ.get("CONTENT_LENGTH") or "0"
    left = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else 0

    def read(size: int) -> bytes:
        nonlocal left
        piece = bytes(source.read(min(size, left)))
        left -= len(piece)
        return piece

    return read
