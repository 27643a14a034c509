"""An HTTP request as a file holds it: request line, headers, an empty line, and the body byte for byte."""

from __future__ import annotations

import re
from typing import NoReturn

from ..errors import BadInput
from ..http import InboundRequest

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+)(?: HTTP/[0-9.]+)?")


def read_request(data: bytes, *, peer_certificate: bytes | None = None) -> InboundRequest:
    """The request (RFC 9112 §2.1). Lines of the head end with CRLF or LF, and where ``Content-Length`` says how long
    the body is, what an editor put after it is left out.

    Raises:
        BadInput: it is no request, its body is cut short, or it has a transfer coding.
    """
    ends = [(at, len(mark)) for mark in (b"\r\n\r\n", b"\n\n") if (at := data.find(mark)) >= 0]
    at, size = min(ends, default=(len(data.rstrip(b"\r\n")), 0))
    body = data[at + size :] if size else b""
    lines = data[:at].decode("utf-8", "surrogateescape").split("\n")
    first = _REQUEST_LINE.fullmatch(lines[0].rstrip("\r"))
    if first is None:
        _refuse("The file does not begin with a request line, such as `POST /webhooks HTTP/1.1`.")
    headers = []
    for number, line in enumerate(lines[1:], 2):
        name, colon, value = line.rstrip("\r").partition(":")
        if not colon or not name or name != name.strip():
            _refuse(f"Line {number} of the file is no header.")
        headers.append((name, value.strip()))
    request = InboundRequest(first[1], first[2], tuple(headers), body, peer_certificate)
    if request.header("transfer-encoding") is not None:
        _refuse("The request has a transfer coding; what was signed is its body without it.")
    length = request.header("content-length")
    if length is None:
        return request
    if not length.isascii() or not length.isdigit() or len(length) > 12:
        _refuse("Content-Length is no number.")
    if int(length) > len(body):
        _refuse(f"The body has {len(body)} bytes, and Content-Length says {length}: it is cut short.")
    return InboundRequest(first[1], first[2], tuple(headers), body[: int(length)], peer_certificate)


def _refuse(message: str) -> NoReturn:
    hint = "Write request line, headers, an empty line and the body exactly as they were received."
    raise BadInput(message, hint=hint, field="file")
