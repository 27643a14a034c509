"""Redirects: which are followed, to where, and with what (RFC 9110 §15.4). Rules without I/O.

The target is asked anew: a request to one of the provider's own hosts is signed for its new URL, one to another host is
made without anything that the provider, the operation or the credential put on it. The egress guard of the transport
sees each of them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from attrs import evolve, frozen

from ..errors import EgressDenied, RedirectRefused
from ..hosts import PLAIN_URL, host_of

if TYPE_CHECKING:
    from ..http import HttpRequest, HttpResponse, StreamedResponse
    from ..providers import ProviderInstance
    from ..secret import SecretStr
    from ..specs import Operation

MOST_HOPS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SAFE: Final = frozenset({"GET", "HEAD"})
_FOR_ANYBODY: Final = frozenset({"accept", "accept-encoding", "accept-language", "range", "if-range", "user-agent"})
"""What another host may see of a request: no header that the provider's record could have given a secret."""


def is_redirect(response: HttpResponse | StreamedResponse) -> bool:
    """Whether the answer says that the resource is elsewhere, and where."""
    return response.status in _REDIRECTS and response.header("location") is not None


def is_done(method: str, status: int) -> bool:
    """Whether a redirect of that status means that the request was, or may have been, carried out: where it leads, the
    answer to it is to be read (RFC 9110 §15.4.4), as servers also say with 301 and 302."""
    return method not in _SAFE and status in (301, 302, 303)


@frozen
class Hop:
    """The next request of a chain."""

    request: HttpRequest
    """Not signed."""
    own: bool
    """Whether it goes to one of the provider's own hosts, which get the credential; if not, it is sent as it is."""


class Chain:
    """One request and the redirects that it meets."""

    def __init__(self, instance: ProviderInstance, operation: Operation, request: HttpRequest, key: SecretStr) -> None:
        self._instance = instance
        self._operation = operation
        self._request = request
        self._key = key
        self._own = True
        self._seen = {(request.method, request.url)}

    def follow(self, response: HttpResponse | StreamedResponse) -> Hop:
        """Where ``response``, a redirect, leads.

        Raises:
            EgressDenied: to another host, and the operation's record does not let it be followed there, or the URL
                has the credential in it.
            RedirectRefused: in a circle, through too many hops, to something that is no URL, or to where a request
                other than GET and HEAD would have to be made once more although it may have been carried out.
        """
        url = self._target(response)
        request = self._changed(response.status, url)
        own = self._own and self._instance.allows(url)
        if not own:
            self._check_foreign(request)
            kept = tuple(pair for pair in request.headers if pair[0].lower() in _FOR_ANYBODY)
            request = evolve(request, headers=kept, body=None, client_certificate=None)
        if (request.method, url) in self._seen:
            raise self._refused(response.status, url, "which is where it came from")
        if len(self._seen) > MOST_HOPS:
            raise self._refused(response.status, url, f"after {MOST_HOPS} redirects")
        self._seen.add((request.method, url))
        self._request, self._own = request, own  # who left the provider's hosts comes back as a stranger
        return Hop(request, own)

    def _target(self, response: HttpResponse | StreamedResponse) -> str:
        """The absolute URL, without its fragment: that is the caller's business."""
        url = ""
        with suppress(ValueError):
            url = urldefrag(urljoin(self._request.url, response.header("location") or "")).url
        if not PLAIN_URL.fullmatch(url) or "\\" in url or not host_of(url):
            raise RedirectRefused(
                f"{self._instance.id} redirects {self._operation.id} ({response.status}) to what is not a URL.",
                upstream_status=response.status,
                plugin=self._instance.id,
            )
        return url

    def _changed(self, status: int, url: str) -> HttpRequest:
        """The request to ``url``, as the status wants it."""
        request = self._request
        if request.method in _SAFE or status in (307, 308):
            if request.is_once:
                raise self._refused(status, url, "and the body can be sent only once")
            return request.with_url(url)
        if status == 303:
            kept = tuple(pair for pair in request.headers if not pair[0].lower().startswith("content-"))
            return evolve(request, method="GET", url=url, headers=kept, body=None)
        raise self._refused(status, url, f"and does not say whether {request.method} holds there too")

    def _check_foreign(self, request: HttpRequest) -> None:
        own = ", ".join(self._instance.hosts) or "none"
        if self._operation.redirects != "any" or request.method not in _SAFE:
            raise EgressDenied(
                f"{self._instance.id} redirects {self._operation.id} to {_place(request.url)}, which is not one of "
                "its hosts.",
                hint=f'Its hosts: {own}. An operation with redirects = "any" follows GET and HEAD to other hosts, '
                "without the credential.",
                plugin=self._instance.id,
                sent=True,
            )
        key = self._key.reveal()
        if key and (key in request.url or key in unquote(request.url.replace("+", " "))):
            raise EgressDenied(
                f"{self._instance.id} redirects {self._operation.id} to another host, and the URL has the credential "
                "in it.",
                hint=f"Its hosts: {own}.",
                plugin=self._instance.id,
                sent=True,
            )

    def _refused(self, status: int, url: str, why: str) -> RedirectRefused:
        return RedirectRefused(
            f"{self._instance.id} redirects {self._operation.id} ({status}) to {_place(url)}, {why}.",
            upstream_status=status,
            plugin=self._instance.id,
        )


def _place(url: str) -> str:
    """The URL for messages: without its query, where secrets are."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200]
