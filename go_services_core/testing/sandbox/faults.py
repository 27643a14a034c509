"""Faults on purpose: what a provider, or the network before it, does on a bad day."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Literal, get_args

from aiohttp import web
from attrs import define, field

from ...errors import BadInput, NotFound
from .refused import Refused

FaultKind = Literal["429", "500", "503", "html", "slow", "cut", "empty", "truncated_json"]
"""``429``, ``500``, ``503`` and ``html`` come instead of the work. The others spoil the answer to work that was done,
so that the client cannot know whether it was."""

_REFUSALS = {"429": "rate_limited", "500": "server_error", "503": "temporarily_unavailable"}


@define
class Fault:
    """One planned fault."""

    kind: FaultKind
    times: int | None = field(kw_only=True)
    retry_after: int | str | None = field(kw_only=True)
    seconds: float = field(kw_only=True)

    def instead(self) -> web.Response | None:
        """The answer that replaces the work, or None when the work is done and its answer spoiled."""
        if self.kind == "html":
            return web.Response(text="<!doctype html><title>Down for maintenance</title>", content_type="text/html")
        if self.kind not in _REFUSALS:
            return None
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        refused = Refused(_REFUSALS[self.kind], "A fault that was asked for.", status=int(self.kind), headers=headers)
        return refused.answer()

    async def spoil(self, request: web.Request, response: web.Response, closing: asyncio.Event) -> web.StreamResponse:
        """Damage or delay a finished answer. ``closing`` ends the delay early."""
        body = response.body if isinstance(response.body, bytes) else b""
        if self.kind == "slow":
            with contextlib.suppress(TimeoutError):  # in real time, whatever the clock: it is the client who waits
                await asyncio.wait_for(closing.wait(), self.seconds)
        elif self.kind == "empty":
            response.body = b""
        elif self.kind == "truncated_json":
            response.body = body[: len(body) // 2]
        elif self.kind == "cut":
            return await _cut(request, response, body)
        return response


async def _cut(request: web.Request, response: web.Response, body: bytes) -> web.StreamResponse:
    """Announce the whole body, send half of it and hang up; without a body hang up before the status line."""
    transport = request.transport
    assert transport is not None
    if not body:
        transport.close()
        return response
    partial = web.StreamResponse(status=response.status, headers=response.headers)
    partial.content_length = len(body)
    await partial.prepare(request)
    await partial.write(body[: len(body) // 2])
    transport.close()
    return partial


class Faults:
    """At most one planned fault for each endpoint."""

    def __init__(self, endpoints: Iterable[str]) -> None:
        self._endpoints = frozenset(endpoints)
        self._planned: dict[str, Fault] = {}

    def set(
        self,
        endpoint: str,
        kind: FaultKind,
        *,
        times: int | None = 1,
        retry_after: int | str | None = None,
        seconds: float = 5.0,
    ) -> None:
        """Plan a fault in place of the one planned before.

        Args:
            endpoint: Name of the endpoint, as in ``Sandbox.requests``.
            kind: What goes wrong.
            times: For how many requests; None means until cleared.
            retry_after: Value of ``Retry-After`` for 429, 500 and 503: seconds, or a date (RFC 9110 §10.2.3).
            seconds: How long ``slow`` delays the answer.

        Raises:
            NotFound: there is no such endpoint.
            BadInput: there is no such kind, or a number makes no sense.
        """
        if endpoint not in self._endpoints:
            raise NotFound.named("endpoint", endpoint, self._endpoints)
        if kind not in get_args(FaultKind):
            raise BadInput(f"Faults are {', '.join(get_args(FaultKind))}; not {kind!r}.", field="kind")
        if times is not None and times < 1:
            raise BadInput("The number of times is at least 1.", field="times")
        if not seconds >= 0:
            raise BadInput("A delay is not negative.", field="seconds")
        self._planned[endpoint] = Fault(kind, times=times, retry_after=retry_after, seconds=seconds)

    def clear(self, endpoint: str | None = None) -> None:
        """Forget the fault of one endpoint, or all of them."""
        if endpoint is None:
            self._planned.clear()
        else:
            self._planned.pop(endpoint, None)

    def take(self, endpoint: str) -> Fault | None:
        """The fault for a request that just came in."""
        fault = self._planned.get(endpoint)
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                del self._planned[endpoint]
        return fault
