"""Requests and answers as frozen records: what flows yield, signers sign and transports send."""

from __future__ import annotations

import hashlib
import json as _json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import cached_property
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import urlencode

from attrs import evolve, field, frozen

from ._version import VERSION
from .errors import BadInput, BodyTooLarge, ResponseInvalid
from .secret import SecretStr

Headers = tuple[tuple[str, str], ...]
"""Header fields in order; a name may occur more than once."""

USER_AGENT: Final = ("User-Agent", f"go-services/{VERSION}")
"""Sent with every request that the runtime makes: some providers (GitHub) refuse requests without one."""

ACCEPT_ENCODING: Final = ("Accept-Encoding", "gzip, deflate")
"""The codings that every transport undoes. It is a part of the request and signed with it: none is added later."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 §5.6.2."""
_UNSAFE_VALUE = re.compile("[\r\n\0\ud800-\udfff]")
_NOT_SHOWN = re.compile(r"(?<=//)[^/?#]*@|[?#].*", re.DOTALL)
"""What a URL may keep a secret in: user information, query and fragment."""


_ACCEPT_JSON: Final = ("Accept", "application/json")


@runtime_checkable
class BodySource(Protocol):
    """A body that can be opened again for each attempt.

    A source that cannot has the attribute ``once``, which is true: a request with it is sent at most once.
    """

    @property
    def length(self) -> int | None:
        """Bytes in all, or None when it is not known."""
        ...

    def open(self) -> AsyncIterator[bytes]:
        """The bytes from the beginning."""
        ...


def _find(headers: Headers, name: str) -> str | None:
    name, length = name.lower(), len(name)
    for key, value in headers:
        if len(key) == length and key.lower() == name:
            return value
    return None


def _media_type(headers: Headers) -> str:
    return (_find(headers, "content-type") or "").partition(";")[0].strip().lower()


@frozen(eq=False, repr=False, kw_only=True)
class ClientCertificate:
    """Who the client is in TLS: a certificate and its key. Equal when every part is; it never prints."""

    certificate: str
    """PEM of the client's certificate, followed by those of the authorities between it and a root."""
    private_key: SecretStr
    """PEM of the key of the first certificate."""
    passphrase: SecretStr | None = None
    """Opens ``private_key`` where that is encrypted."""
    server_ca: str | None = None
    """PEM of the authorities that the server's certificate must come from, in place of those that are trusted else."""

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all parts, each with its length before it; what connections are kept by."""
        hashed = hashlib.sha256()
        for part in (self.certificate, self.private_key, self.passphrase, self.server_ca):
            data = b"" if part is None else _bytes(part if isinstance(part, str) else part.reveal())
            hashed.update((-1 if part is None else len(data)).to_bytes(8, "big", signed=True) + data)
        return hashed.digest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClientCertificate):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return "<ClientCertificate>"


def _secret(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.reveal()
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def _revealed(value: str | SecretStr) -> str:
    return value if isinstance(value, str) else value.reveal()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@frozen(slots=False)  # two are made for every call, and without slots in two thirds of the time
class HttpRequest:
    """One request as it goes on the wire: ``url`` is encoded and final.

    ``timeout`` is in seconds for the whole exchange, ``max_body`` in bytes of the answer; None is the transport's own.
    """

    method: str
    url: str
    headers: Headers = ()
    body: bytes | BodySource | None = field(default=None, repr=False)
    timeout: float | None = None
    max_body: int | None = None
    client_certificate: ClientCertificate | None = field(default=None, repr=False)
    """What the client presents in TLS. A request without one never goes over a connection that presented one."""

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {_NOT_SHOWN.sub('', self.url)}>"

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return _find(self.headers, name)

    def with_header(self, name: str, value: str) -> HttpRequest:
        """A copy in which ``name`` occurs once, with ``value``.

        Raises:
            BadInput: the name or the value holds a line break or another character that no header may have.
        """
        try:
            check_header(name, value)
        except BadInput:
            del value  # or a traceback with locals shows it
            raise
        lowered = name.lower()
        headers = (*[pair for pair in self.headers if pair[0].lower() != lowered], (name, value))
        return HttpRequest(
            self.method, self.url, headers, self.body, self.timeout, self.max_body, self.client_certificate
        )

    @property
    def is_once(self) -> bool:
        """Whether its body cannot be opened again, so that it is sent at most once."""
        return bool(getattr(self.body, "once", False))

    def with_url(self, url: str) -> HttpRequest:
        """A copy for another URL."""
        return evolve(self, url=url)

    def with_client_certificate(self, identity: ClientCertificate | None) -> HttpRequest:
        """A copy that is sent over TLS connections on which the client presents ``identity``."""
        return evolve(self, client_certificate=identity)

    @classmethod
    def form(
        cls,
        url: str,
        fields: Mapping[str, str | SecretStr] | Iterable[tuple[str, str | SecretStr]],
        *,
        headers: Headers = (),
    ) -> HttpRequest:
        """A POST of ``application/x-www-form-urlencoded`` fields that asks for JSON.

        Raises:
            BadInput: a field holds a lone surrogate, which UTF-8 cannot encode.
        """
        pairs: Iterable[tuple[str, str | SecretStr]] = fields.items() if isinstance(fields, Mapping) else fields
        own: Headers = (("Content-Type", "application/x-www-form-urlencoded"), _ACCEPT_JSON, USER_AGENT)
        try:
            body = urlencode([(name, _revealed(value)) for name, value in pairs]).encode("ascii")
        except UnicodeEncodeError:
            raise BadInput("A field of the form holds a character that cannot be encoded.", field="form") from None
        return cls("POST", url, (*own, *headers), body)

    @classmethod
    def json(cls, method: str, url: str, data: Any, *, headers: Headers = ()) -> HttpRequest:
        """A request with a JSON body that asks for JSON; a ``SecretStr`` in ``data`` is sent as its value."""
        own: Headers = (("Content-Type", "application/json"), _ACCEPT_JSON, USER_AGENT)
        return cls(method, url, (*own, *headers), _json.dumps(data, separators=(",", ":"), default=_secret).encode())


@frozen
class HttpResponse:
    """One answer. ``url`` is where it came from, ``headers`` keep their order and case."""

    status: int
    headers: Headers = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    url: str = field(default="", repr=False)

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return _find(self.headers, name)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty when absent."""
        return _media_type(self.headers)

    def json(self) -> Any:
        """The body read as JSON.

        Raises:
            ResponseInvalid: the body is not JSON; the message names the content type, not the content.
        """
        try:
            return _json.loads(self.body)
        except (ValueError, RecursionError):
            kind = self.content_type or "no content type"
            raise ResponseInvalid(
                f"The answer of {self.status} is not JSON ({kind}, {len(self.body)} bytes)."
            ) from None


@frozen(eq=False)
class StreamedResponse:
    """One answer whose body is still on its way: decompressed ``pieces``, to be taken once and in order.

    Nothing is read ahead of who takes them but what fits the transport's buffer: a slow taker holds the sender back.
    ``headers`` stay as they came; so ``Content-Length`` counts the bytes before decompression.
    """

    status: int
    headers: Headers = field(repr=False)
    url: str = field(repr=False)
    """Where it came from."""
    pieces: AsyncIterator[bytes] = field(repr=False)
    """Never empty. Raises what ended the exchange: a ``TransportError``."""

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return _find(self.headers, name)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty when absent."""
        return _media_type(self.headers)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.pieces

    async def read(self, limit: int) -> bytes:
        """All that is still to come, of at most ``limit`` bytes.

        Raises:
            BodyTooLarge: it is more.
            TransportError: the answer did not come to its end.
        """
        held, size = [], 0
        async for piece in self.pieces:
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(f"The answer of {self.status} is larger than {limit} bytes.")
            held.append(piece)
        return b"".join(held)


@frozen
class InboundRequest:
    """A request that came to us, before anything was parsed."""

    method: str
    target: str
    """Path and query exactly as they were received."""
    headers: Headers
    body: bytes = field(repr=False)
    peer_certificate: bytes | None = field(default=None, repr=False)
    """The client's certificate in DER form, when TLS asked for one."""

    def __repr__(self) -> str:
        return f"<InboundRequest {self.method} {_NOT_SHOWN.sub('', self.target)}>"

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return _find(self.headers, name)


def check_header(name: str, value: str) -> None:
    """Refuse what could end a header and begin another (RFC 9110 §5.5), and what cannot be encoded.

    Raises:
        BadInput: the name is not a token, or the value holds CR, LF, NUL or a lone surrogate.
    """
    if not _TOKEN.fullmatch(name):
        del value  # or a traceback with locals shows it
        raise BadInput("A header name may hold only token characters.", field="header")
    if not (value.isascii() and value.isprintable()) and _UNSAFE_VALUE.search(value):
        del value  # or a traceback with locals shows it
        raise BadInput(f"The value for header {name} holds a line break or another forbidden character.", field=name)
