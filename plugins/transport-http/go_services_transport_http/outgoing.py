"""A request on its way out: what cannot go on the wire as it is written is refused."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from yarl import URL

from go_services_core.errors import BadInput
from go_services_core.http import BodySource, Headers, HttpRequest, check_header

from .pools import Exchange

_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_.~!#$%&'*+^`|-]*")
_COMMON_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_UNSENDABLE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding"})
_REMEMBERED: Final = 1024


def parse_url(request: HttpRequest) -> URL:
    """The request's URL as aiohttp will use it, byte for byte.

    Raises:
        BadInput: the method or the URL cannot be sent as it is.
    """
    text, method = request.url, request.method
    if method not in _COMMON_METHODS and (method == "CONNECT" or not _METHOD.fullmatch(method)):
        raise BadInput("The method is not one that HTTP sends in capitals.", field="method")
    if not (text.isascii() and text.isprintable()) or " " in text or "\\" in text:
        del text  # or a traceback with locals shows it
        raise BadInput("The URL holds a character that must be percent-encoded.", field="url")
    url: URL | None = None
    with suppress(ValueError):
        url = URL(text, encoded=True)
    if url is None:
        del text
        raise BadInput("The URL cannot be read.", field="url")
    return url


class HeaderCheck:
    """Checks headers; knows the names that it has seen."""

    def __init__(self, user_agent: str | None) -> None:
        self._agent = user_agent
        self._names: dict[str, str] = {}

    def __call__(self, request: HttpRequest, url: URL) -> Headers:
        """The request's headers, checked; with the configured User-Agent where there is none.

        Raises:
            BadInput: one would not arrive as it is written.
        """
        names = self._names
        spelling: dict[str, str] = {}
        try:
            for name, value in request.headers:
                lowered = names.get(name)
                if lowered is None:
                    check_header(name, "")
                    if len(names) >= _REMEMBERED:
                        names.clear()
                    lowered = names[name] = name.lower()
                if spelling.setdefault(lowered, name) != name:
                    # aiohttp would keep only the last of them.
                    raise BadInput(f"The header {name} occurs in two spellings.", field=name)
                if not value.isprintable():
                    check_header(name, value)
                    if _UNSENDABLE.search(value):
                        raise BadInput(f"The value for header {name} holds a control character.", field=name)
                if lowered in _FRAMING:
                    _check_framing(lowered, value, request, url)
        except BadInput:
            value = ""  # or a traceback with locals shows it
            del url
            raise
        if self._agent is not None and "user-agent" not in spelling:
            return (*request.headers, ("User-Agent", self._agent))
        return request.headers


def _check_framing(name: str, value: str, request: HttpRequest, url: URL) -> None:
    """Refuse a header that contradicts where the request goes or where its body ends."""
    if name == "host" and value.lower() not in {url.raw_authority.lower(), (url.host_port_subcomponent or "").lower()}:
        raise BadInput("The Host header is not the host of the URL.", field="Host")
    if name == "transfer-encoding":
        raise BadInput("The transport frames the body itself.", field="Transfer-Encoding")
    if name == "content-length":
        if not (request.body is None or isinstance(request.body, bytes)):
            raise BadInput("The length of a streamed body comes from its source.", field="Content-Length")
        if value != str(len(request.body or b"")):
            raise BadInput("The Content-Length is not the length of the body.", field="Content-Length")


async def upload(source: BodySource, exchange: Exchange) -> AsyncGenerator[bytes, None]:
    """The source's bytes, counted; whatever is wrong with them is noted, since aiohttp hides it."""
    given = 0
    opened = source.open()
    try:
        async for piece in opened:
            given += len(piece)
            if source.length is not None and given > source.length:
                break
            yield piece
    except Exception as error:
        exchange.body_problem = f"could not be read ({type(error).__name__})"
        raise
    finally:
        if isinstance(opened, AsyncGenerator):
            await opened.aclose()
    if source.length is not None and given != source.length:
        exchange.body_problem = f"is not as long as its source says ({source.length} bytes)"
        raise ValueError
