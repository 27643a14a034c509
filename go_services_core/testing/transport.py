"""A transport that answers from a script, for tests of whatever sends requests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from attrs import frozen

from ..http import HttpRequest, HttpResponse, StreamedResponse

Predicate = Callable[[HttpRequest], object]


@frozen
class _Expectation:
    method: str
    url: str
    answer: HttpResponse | Exception
    where: Predicate | None

    def __str__(self) -> str:
        named = f" where {getattr(self.where, '__name__', 'it holds')}" if self.where else ""
        return f"{self.method} {self.url}{named}"

    def difference(self, request: HttpRequest) -> str | None:
        """Why ``request`` is not the expected one, or None."""
        if request.method != self.method:
            return f"the method is {request.method}"
        if (url := _as_written(request.url, self.url)) != self.url:
            return f"the URL is {url}"
        if self.where is not None and not self.where(request):
            return "the condition does not hold"
        return None


def _as_written(url: str, pattern: str) -> str:
    """``url`` with the parts that ``pattern`` has: origin unless it is a path, query only where it has one."""
    parts = urlsplit(url)._replace(fragment="")
    if pattern.startswith("/"):
        parts = parts._replace(scheme="", netloc="", path=parts.path or "/")
    if "?" not in pattern:
        parts = parts._replace(query="")
    return parts.geturl()


class ScriptedTransport:
    """Expects requests in order and gives each its answer.

    ::

        transport = ScriptedTransport()
        transport.expect("POST", "https://acme.example/token", HttpResponse(200, (), b"{}"))
        transport.expect("GET", "/v1/me", ConnectFailed())
        ...
        transport.done()
    """

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        """Every request that was sent, the unexpected ones too."""
        self.provider_ids: list[str] = []
        """For each request the provider that sent it."""
        self.closed = False
        self._expected: list[_Expectation] = []
        self._used = 0
        self._mismatch: str | None = None

    def expect(
        self, method: str, url: str, answer: HttpResponse | Exception, *, where: Predicate | None = None
    ) -> ScriptedTransport:
        """Add the next request and its answer.

        Args:
            method: as sent, in capitals.
            url: a whole URL, or a path that begins with ``/``; its query is compared only where it has one.
            answer: returned, or raised when it is an exception.
            where: must give something true for the request, or raise an ``AssertionError`` of its own.
        """
        self._expected.append(_Expectation(method, url, answer, where))
        return self

    async def send(self, request: HttpRequest, *, provider_id: str) -> HttpResponse:
        """The scripted answer.

        Raises:
            AssertionError: the request is not the next one of the script; ``done`` raises it again.
        """
        self.requests.append(request)
        self.provider_ids.append(provider_id)
        expected = self._expected[self._used] if self._used < len(self._expected) else None
        difference = "the script has ended" if expected is None else expected.difference(request)
        if expected is None or difference is not None:
            message = f"Request {len(self.requests)} is not the expected one: {difference}."
            message += f"\n  sent:     {request.method} {request.url}\n  expected: {expected or 'nothing'}"
            rest = self._expected[self._used + 1 :]
            if rest:
                message += "\n  then:     " + "\n            ".join(map(str, rest))
            self._mismatch = self._mismatch or message
            raise AssertionError(message)
        self._used += 1
        if isinstance(expected.answer, Exception):
            raise expected.answer
        return expected.answer

    @asynccontextmanager
    async def stream(self, request: HttpRequest, *, provider_id: str) -> AsyncGenerator[StreamedResponse]:
        """The scripted answer with its body in pieces of 1024 bytes; raises as ``send``."""
        answer = await self.send(request, provider_id=provider_id)
        yield StreamedResponse(answer.status, answer.headers, answer.url or request.url, _pieces(answer.body))

    def done(self) -> None:
        """Assert that the script was played to its end and nothing else was sent."""
        if self._mismatch:
            raise AssertionError(self._mismatch)
        unused = self._expected[self._used :]
        if unused:
            raise AssertionError("Never sent:\n  " + "\n  ".join(map(str, unused)))

    async def aclose(self) -> None:
        self.closed = True


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1024):
        yield body[start : start + 1024]
