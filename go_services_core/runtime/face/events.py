"""Events in and out, and the work that is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from ...http import HttpResponse, InboundRequest
from ...model import Accepted, Drained
from ...worker_status import Worked, WorkerStatus
from .. import due as _due
from .. import inbound as _inbound
from .. import surfaces as _surfaces
from .. import verification as _verification
from .. import worker as _worker
from ..core import Core
from ..handlers import Registration, register
from ..spans import Span

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Callable, Iterable

    from ...delivery_specs import Schedule
    from ...handler_protocols import EventHandler, InboundHandler
    from ...protocols import Observer, Verdict
    from ...secret import SecretStr
    from ...specs import SurfaceName
    from ..runtime import Runtime


class Events:
    """Webhooks, handlers, observers and what is due."""

    _core: Core

    async def accept_webhook(
        self, provider_id: str, request: InboundRequest, *, connection_id: str | None = None
    ) -> Accepted:
        """Verify a delivery's raw bytes and keep it durably; what follows is done by ``drain``.

        Answer 2xx when this returns. Of what it raises, ``WebhookRejected`` has the status to answer with, 401 or 413;
        on ``StoreError`` and ``BackendUnavailable`` answer 503 with ``Retry-After``.

        Args:
            provider_id: from the URL that was called, never from the body.
            request: as it was received.
            connection_id: from the URL as well, where each connection has its own. Where the scheme reads a channel
                from the headers, its subscription tells the connection.

        Raises:
            WebhookRejected: the delivery is not authentic, comes on a channel that nobody has, or for a connection that
                is not the provider's or was disconnected; it was not kept.
            WebhookTooLarge: its body is larger than 25 MiB.
            StoreError, BackendUnavailable, KeyNotFound: it could not be verified or kept; the provider should try
                again.
        """
        with Span(self._core, "webhook.accept", provider_id=provider_id, connection_id=connection_id) as span:
            accepted = await _inbound.accept_webhook(self._core, provider_id, request, connection_id=connection_id)
            span.detail = {"duplicate": accepted.duplicate, "challenge": accepted.challenge is not None}
            self._core.wake("inbox")
            return accepted

    async def verify_webhook(
        self,
        provider_id: str,
        request: InboundRequest,
        *,
        secrets: Sequence[SecretStr] | None = None,
        at: datetime | None = None,
    ) -> Verdict:
        """The verdict on a delivery; it is not kept, and no subscription is confirmed.

        Args:
            provider_id: whose record says how.
            request: as it was received.
            secrets: in place of those of the provider's configuration.
            at: when it came, with a time zone; now by default.

        Raises:
            BadInput: the provider sends no webhooks.
        """
        return await _verification.verify_webhook(self._core, provider_id, request, secrets=secrets, at=at)

    async def receive(
        self,
        surface: SurfaceName,
        provider_id: str,
        request: InboundRequest,
        *,
        connection_id: str | None = None,
    ) -> HttpResponse:
        """The handler's own answer to a request: a command, an interaction, a callback of an event.

        The request is verified by the provider's webhook scheme. It has a key, from its scheme or one of the headers
        ``Idempotency-Key``, ``X-Idempotency-Key`` and ``X-Message-Id``: one run at a time is under way for it, and
        what was answered is recorded, sealed, and given to all who ask with the key again. An answer of 500 or more,
        an exception, and more than ``[worker] answer_seconds`` are failures, after which the next request with the key
        runs the handler again, at most 5 times.

        On the surface ``webhook`` without a handler the request goes to :meth:`accept_webhook`, and the answer is 200.

        Args:
            surface: ``webhook``, ``command``, ``interaction`` or ``event_callback``.
            provider_id: from the URL that was called, never from the body.
            request: as it was received.
            connection_id: from the URL as well, where each connection has its own.

        Raises:
            NotFound: nobody answers there; nothing was kept.
            WebhookRejected: the request is not authentic.
            BadInput: it has no key, or there is no such surface.
            RequestRunning: it is being answered, or was by a process that died a moment ago; 409 with
                ``retry_after``.
            RequestExhausted: the handler failed too often.
            IdempotencyMismatch: its key was that of another request.
            HandlerFailed, HandlerTimeout: the handler raised, or took too long.
        """
        return await _surfaces.receive(
            self._core, cast("Runtime", self), surface, provider_id, request, connection_id=connection_id
        )

    async def on_request(self, surface: SurfaceName, provider_id: str | None, handler: InboundHandler) -> None:
        """Have ``handler`` answer what :meth:`receive` gets for the provider on the surface.

        Args:
            surface: ``webhook``, ``command``, ``interaction`` or ``event_callback``.
            provider_id: None answers for every provider without a handler of its own there.
            handler: ``async (request, context) -> HttpResponse``, or a pair of the response and a ``Handled``, which
                commits together with the record of the answer.

        Raises:
            Conflict: there is a handler already.
            ProviderNotFound, BadInput: there is no such provider, or no such surface.
        """
        _surfaces.register(self._core, surface, provider_id, handler)

    async def on(
        self,
        events: str,
        handler: EventHandler,
        *,
        name: str,
        timeout: float | None = None,
        schedule: Schedule | None = None,
        concurrency: int | None = None,
    ) -> None:
        """Have ``handler`` called, by ``drain``, for every event that is committed from now on and matches.

        Args:
            events: an event's name or a pattern: ``connection.*``.
            handler: ``async (event, context) -> Handled | Work | None``.
            name: stable; what has been handled is remembered under it, also over restarts.
            timeout: seconds that it has for one event; None for what the provider's inbox says of webhooks, else for
                ``[worker] handler_timeout``.
            schedule: when it is called again after it failed; None for what the provider's inbox says, else for ten
                attempts in three days.
            concurrency: how many of its events this process handles at once; None sets no limit of its own.

        Raises:
            BadInput: the name is blank, or a limit is not above 0.
        """
        one = Registration(events=events, handler=handler, timeout=timeout, schedule=schedule, concurrency=concurrency)
        await register(self._core, {name: one})

    def observe(self, observer: Observer, *, name: str, inline: bool = False) -> None:
        """Have ``observer`` called for what happens in this process; it can neither delay nor break a call.

        Args:
            observer: called with an :class:`~go_services_core.model.Observation`, from a thread of its own.
            name: stands for it in the log.
            inline: call it at once in the task that is observed, before that goes on. It must not block; one that
                takes long is called from a thread from then on.
        """
        self._core.observers.add(name, observer, inline=inline)

    async def drain(self) -> Drained:
        """Do what is due, once: deliveries, events to their handlers, the runtime's jobs, renewals ahead of time."""
        return await _due.drain(self._core, cast("Runtime", self))

    async def work(
        self,
        *,
        kinds: Iterable[str] | None = None,
        stop: asyncio.Event | threading.Event | None = None,
        ready: Callable[[], object] | None = None,
    ) -> Worked:
        """Do what is due, as it becomes due, until ``stop`` is set; any number of processes share the work.

        Each kind of work is a loop of its own: it goes on at once while there is more, and else looks again after
        ``[worker] poll`` seconds, or when this process has kept something for it. A loop that fails, because the
        store does not answer, goes on trying and holds up no other one.

        With ``stop`` nothing more is claimed, what was claimed and not begun is given back, and what runs has
        ``[worker] grace`` seconds; then it is cancelled and given back as well. Cancelling this call does the same
        without the grace. What a process held that was killed is done by another once its leases have ended.

        Args:
            kinds: what to do, see :meth:`run_due`; None does everything.
            stop: set it to have this end; None works until it is cancelled.
            ready: called once, when the process has shown that it lives and begins.

        Raises:
            BadInput: there is no such kind; nothing was begun.
            Conflict: this runtime is working already.
        """
        return await _worker.run(self._core, cast("Runtime", self), kinds=kinds, stop=stop, ready=ready)

    async def worker_status(self) -> WorkerStatus:
        """The processes that work on this database, what they did, and what waits for them.

        Raises:
            FacetMissing: the store does not keep who works.
        """
        return await _worker.status(self._core)

    async def run_due(self, kind: str, limit: int = 50) -> int:
        """Do up to ``limit`` due items of one kind; gives how many were done.

        Args:
            kind: ``inbox``, ``outbox``, ``refresh.ahead``, or a kind of job: ``secrets.rewrap`` wraps anew what was
                sealed while the primary secret backend did not answer; ``connections.revoke`` tells providers of
                disconnects; ``subscriptions.cancel`` ends at providers what is cancelled here; ``endpoints.send``
                sends messages to endpoints. ``subscriptions.renew`` keeps subscriptions alive.
                ``refresh.ahead`` renews the tokens that are about to end, within each
                provider's ``refresh_concurrency`` and ``refresh_rate``; it begins nothing after a minute. ``retention``
                removes history by ``[retention]`` and ``[activity] row_cap``, once per ``every`` seconds of all
                processes together, however much.
            limit: how many are claimed at most.

        Raises:
            BadInput: there is no such kind; the hint lists them.
        """
        handled, _ = await _due.run_due(self._core, cast("Runtime", self), kind, limit)
        return handled
