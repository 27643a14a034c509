"""Requests whose sender waits for the handler's own answer: commands, interactions, callbacks of events.

A request has a key. The first one with it runs the handler; what that answers is recorded together with what follows
from it, and given to whoever asks with the key again. The lease of a run is apart from how long the record is kept:
a process that dies is followed by the next delivery as soon as its lease has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from typing import TYPE_CHECKING, Final, get_args

from attrs import frozen

from ..errors import (
    BadInput,
    CannotOpen,
    Conflict,
    HandlerFailed,
    HandlerTimeout,
    IdempotencyMismatch,
    LeaseLost,
    NotFound,
    RequestExhausted,
    RequestRunning,
    ServicesError,
    StoreError,
    failure_text,
)
from ..handled import Handled
from ..http import HttpResponse, InboundRequest
from ..protocols import Challenge, Verified
from ..secret import SecretBytes
from ..specs import SurfaceName
from . import bindings
from .core import Core, logger
from .inbound import accept_webhook, authentic
from .payload import decode_answer, encode_answer
from .sealed_values import open_result, seal_result
from .spans import Span

if TYPE_CHECKING:
    from ..handler_protocols import InboundHandler
    from ..model import Connection, Sealed
    from .runtime import Runtime

SURFACES: Final[tuple[SurfaceName, ...]] = get_args(SurfaceName)
KEY_HEADERS: Final = ("Idempotency-Key", "X-Idempotency-Key", "X-Message-Id")
"""Headers that have a request's key where its scheme found none."""
ATTEMPTS: Final = 5
"""So often a handler is run for one request."""
MOST_KEY: Final = 255
"""Characters of a key that are kept; the hash of a longer one takes its place, as an index has no room for it."""
LARGEST_ANSWER: Final = 256 * 1024
"""Bytes of an answer that is kept; a larger one is refused, since it could not be given again."""


@frozen
class Context:
    """What a handler of a surface may use."""

    runtime: Runtime
    connection: Connection | None
    verified: Verified | None
    _request: InboundRequest

    async def request(self) -> InboundRequest:
        """The request itself."""
        return self._request


def register(core: Core, surface: SurfaceName, provider_id: str | None, handler: InboundHandler) -> None:
    """Have ``handler`` answer what comes for the provider on the surface; see ``Runtime.on_request``."""
    _known(surface)
    if provider_id is not None:
        core.instance(provider_id)
    if (surface, provider_id) in core.surfaces:
        whose = "every provider" if provider_id is None else provider_id
        raise Conflict(f"The surface {surface} of {whose} has a handler already.", field="surface")
    core.surfaces[surface, provider_id] = handler


async def receive(
    core: Core,
    runtime: Runtime,
    surface: SurfaceName,
    provider_id: str,
    request: InboundRequest,
    *,
    connection_id: str | None,
) -> HttpResponse:
    """The answer to one request; see ``Runtime.receive``."""
    _known(surface)
    handler = core.surfaces.get((surface, provider_id)) or core.surfaces.get((surface, None))
    if handler is None:
        if surface == "webhook":
            return await _webhook(core, provider_id, request, connection_id)
        core.instance(provider_id)
        raise NotFound(
            f"Nobody answers on the surface {surface} of {provider_id}.",
            hint="Register a handler: Runtime.on_request, or the hook gs_inbound_surfaces.",
            field="surface",
        )
    with Span(core, "surface", provider_id=provider_id, connection_id=connection_id, surface=surface) as span:
        door, verdict = await authentic(core, provider_id, request, connection_id=connection_id)
        connection = door.connection
        if isinstance(verdict, Challenge):
            return _challenge(verdict.body, verdict.content_type)
        context = Context(runtime, connection, verdict, request)
        run = _Run(core, surface, provider_id, _key_of(surface, provider_id, connection, request, verdict), span)
        return await run.answer(handler, context)


def _known(surface: str) -> None:
    if surface not in SURFACES:
        raise BadInput(f"There is no surface {surface!r}.", hint=f"Surfaces: {', '.join(SURFACES)}.", field="surface")


async def _webhook(core: Core, provider_id: str, request: InboundRequest, connection_id: str | None) -> HttpResponse:
    accepted = await accept_webhook(core, provider_id, request, connection_id=connection_id)
    core.wake("inbox")
    if accepted.challenge is not None:
        return _challenge(accepted.challenge, accepted.content_type)
    return HttpResponse(200)


def _challenge(body: bytes, content_type: str) -> HttpResponse:
    return HttpResponse(200, (("Content-Type", content_type),), body)


def _key_of(
    surface: str, provider_id: str, connection: Connection | None, request: InboundRequest, verdict: Verified
) -> str:
    """What the request is known by: what the scheme verified, else what its sender put into a header."""
    given = verdict.delivery_id or next(filter(None, map(request.header, KEY_HEADERS)), "")
    if not given.strip():
        raise BadInput(
            "The request has no key by which a repetition would be known.",
            hint=f"Send one of the headers {', '.join(KEY_HEADERS)}.",
            field="idempotency_key",
        )
    if len(given) > MOST_KEY:
        given = f"sha256:{hashlib.sha256(given.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return json.dumps([provider_id, surface, "" if connection is None else connection.id, given])


@frozen
class _Run:
    """One request, from its entry in the ledger to its answer."""

    core: Core
    surface: str
    provider_id: str
    key: str
    span: Span

    async def answer(self, handler: InboundHandler, context: Context) -> HttpResponse:
        core = self.core
        request = await context.request()
        # The data key for the answer must be at hand before the handler runs: this seal fetches and caches it.
        await core.sealer.seal(b"", bindings.idempotency("command", self.key))
        try:
            begun = await core.store.once.begin(
                "command",
                self.key,
                digest=hashlib.sha256(request.body).digest(),
                owner=core.owner,
                seconds=core.worker.lease,
            )
        except IdempotencyMismatch:
            raise IdempotencyMismatch(
                "Another request came with this key before.", field="idempotency_key", metadata=self._about()
            ) from None
        self.span.detail |= {"attempt": begun.fence, "replayed": begun.state == "done"}
        if begun.state == "done":
            return await self._recorded(begun.result)
        if begun.state == "running":
            raise RequestRunning(
                "This request is being answered.",
                hint="Ask again with the same key: the answer is kept.",
                retry_after=max(1.0, math.ceil(begun.retry_in)),
                metadata=self._about(),
            )
        if begun.fence > ATTEMPTS:
            await self._fail(begun.fence)
            raise RequestExhausted(
                f"The handler of {self.surface} failed {ATTEMPTS} times for this request; it is not run again.",
                metadata=self._about(),
            )
        return await self._run(handler, context, begun.fence)

    async def _run(self, handler: InboundHandler, context: Context, fence: int) -> HttpResponse:
        keeping = asyncio.create_task(self._keep(fence))
        try:
            response, effect = await self._handled(handler, context)
            if response.status >= 500:
                await self._fail(fence)
                return response
            await self._finish(fence, response, effect)
        except RequestRunning:
            raise  # another one has it
        except BaseException:
            # Also where it is cancelled, as its sender may have gone: the next one with the key runs it at once.
            await asyncio.shield(self._fail(fence))
            raise
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        if effect.events or effect.jobs:
            self.core.wake(*self.core.waiting)
        return response

    async def _handled(self, handler: InboundHandler, context: Context) -> tuple[HttpResponse, Handled]:
        seconds = self.core.worker.answer_seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                answered = await handler(await context.request(), context)
        except Exception as error:
            if limit.expired():
                raise HandlerTimeout(
                    f"The handler of {self.surface} took longer than {seconds:g} seconds.",
                    hint="Answer at once, and return what takes longer as a job or an event.",
                    metadata=self._about(),
                ) from None
            raise HandlerFailed(
                f"The handler of {self.surface} failed: {failure_text(error)}",
                plugin=self.provider_id,
                metadata=self._about(),
            ) from error
        response, effect = answered if isinstance(answered, tuple) else (answered, Handled())
        if effect.position is not None:
            raise BadInput("A request has no position; only handlers of events do.", field="position")
        if response.status >= 500 and effect != Handled():
            raise BadInput("An answer of 500 or more has no effect: it will be tried again.", field="status")
        return response, effect

    async def _finish(self, fence: int, response: HttpResponse, effect: Handled) -> None:
        sealed = await self._sealed(response)
        try:
            await self.core.store.once.finish(
                "command",
                self.key,
                owner=self.core.owner,
                fence=fence,
                ok=True,
                result=sealed,
                events=effect.events,
                jobs=effect.jobs,
                work=effect.work,
            )
        except LeaseLost:
            raise RequestRunning(
                "The handler took longer than its lease; another one answers.", retry_after=1.0, metadata=self._about()
            ) from None

    async def _sealed(self, response: HttpResponse) -> Sealed:
        encoded = encode_answer(response)
        if len(encoded) > LARGEST_ANSWER:
            raise BadInput(f"The handler's answer is larger than {LARGEST_ANSWER} bytes.", field="body")
        return await seal_result(self.core.sealer, SecretBytes(encoded), kind="command", key=self.key)

    async def _recorded(self, sealed: Sealed | None) -> HttpResponse:
        if sealed is None:
            raise CannotOpen("The recorded answer of a request is not there.", metadata=self._about())
        return decode_answer(await open_result(self.core.sealer, sealed, kind="command", key=self.key))

    async def _keep(self, fence: int) -> None:
        lease = self.core.worker.lease
        while True:
            await asyncio.sleep(lease / 3)  # in real time, by which the database ends leases
            try:
                await self.core.store.once.extend(
                    "command", self.key, owner=self.core.owner, fence=fence, seconds=lease
                )
            except (LeaseLost, StoreError) as error:
                logger.warning("the lease of a request could not be extended: %s", error)

    async def _fail(self, fence: int) -> None:
        """Let the next one with the key run it. Where that cannot be kept, it may once the lease has ended."""
        try:
            await self.core.store.once.finish("command", self.key, owner=self.core.owner, fence=fence, ok=False)
        except ServicesError as error:
            logger.warning("that a request failed could not be recorded: %s", error)

    def _about(self) -> dict[str, object]:
        return {"surface": self.surface, "provider_id": self.provider_id}


def register_plugins(core: Core) -> None:
    """Make known the handlers that plugins bring.

    Raises:
        Conflict: two of them answer on the same surface of the same provider.
    """
    for spec in core.catalog.surfaces.values():
        register(core, spec.surface, spec.provider_id, spec.handler.resolve())
