"""A request as every face hands it on, with its body still to be read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from attrs import field, frozen

from ..http import Headers, InboundRequest

Body: TypeAlias = Callable[[], AsyncGenerator[bytes]]
"""Opens the body: the pieces exactly as they were received. Raises ``ClientGone`` where the client hangs up."""


class ClientGone(Exception):
    """The client hung up before its request was complete; there is nobody to answer."""


async def no_body() -> AsyncGenerator[bytes]:
    """The body of a request without one."""
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece


@frozen(kw_only=True)
class WebRequest:
    """One request, before anything of it was parsed."""

    method: str
    target: str = field(repr=False)
    """Path and query exactly as they were received."""
    path: str
    """The path below the place where the face is mounted, percent-encoded as it was received: ``/webhooks/acme``."""
    headers: Headers = field(repr=False)
    body: Body = field(default=no_body, repr=False)
    scheme: str = "http"
    """That of the connection; behind a proxy that of the proxy's."""
    peer_certificate: bytes | None = field(default=None, repr=False)
    """The client's certificate in DER form, when TLS asked for one."""
    native: Any = field(default=None, repr=False)
    """The framework's own request, which ``scope_of`` gets."""

    @property
    def query(self) -> str:
        """The query as it was received, without its question mark."""
        return self.target.partition("?")[2]

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of ``path`` between its slashes, each decoded for itself."""
        return tuple(unquote(part) for part in self.path.split("/")[1:])

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def cookie(self, name: str) -> str | None:
        """The first cookie of that name (RFC 6265 §4.2.1)."""
        for key, value in self.headers:
            if key.lower() == "cookie":
                for pair in value.split(";"):
                    found, equals, content = pair.strip().partition("=")
                    if found == name and equals:
                        return content
        return None

    def url(self, public_url: str | None) -> str:
        """Where it arrived, without its query: below ``public_url``, else as the connection and ``Host`` tell."""
        if public_url is not None:
            return public_url.rstrip("/") + self.path
        return f"{self.scheme}://{self.header('host') or 'localhost'}{self.target.partition('?')[0]}"

    def inbound(self, body: bytes) -> InboundRequest:
        """The request with its body, for the runtime."""
        return InboundRequest(self.method, self.target, self.headers, body, self.peer_certificate)


def below(path: str, decoded: str) -> str:
    """The end of a percent-encoded ``path`` that ``decoded``, which a framework's router gave, stands for."""
    parts = path.split("/")[-decoded.count("/") :]
    end = "/" + "/".join(parts)
    return end if unquote(end) == decoded else quote(decoded)
