"""Events in and out, and the work that is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

from ...http import InboundRequest
from ...model import Accepted, Drained
from .. import due as _due
from .. import inbound as _inbound
from .. import verification as _verification
from ..core import Core
from ..handlers import Registration, register
from ..spans import Span

if TYPE_CHECKING:
    from ...delivery_specs import Schedule
    from ...protocols import EventHandler, Observer, Verdict
    from ...secret import SecretStr
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
            WebhookRejected: the delivery is not authentic, or comes on a channel that nobody has; it was not kept.
            WebhookTooLarge: its body is larger than 25 MiB.
            ConnectionNotFound: there is no such connection.
            StoreError, BackendUnavailable: it could not be kept; the provider should try again.
        """
        with Span(self._core, "webhook.accept", provider_id=provider_id, connection_id=connection_id) as span:
            accepted = await _inbound.accept_webhook(self._core, provider_id, request, connection_id=connection_id)
            span.detail = {"duplicate": accepted.duplicate, "challenge": accepted.challenge is not None}
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

    async def run_due(self, kind: str, limit: int = 50) -> int:
        """Do up to ``limit`` due items of one kind; gives how many were done.

        Args:
            kind: ``inbox``, ``outbox``, ``refresh.ahead``, or a kind of job: ``secrets.rewrap`` wraps anew what was
                sealed while the primary secret backend did not answer; ``connections.revoke`` tells providers of
                disconnects. ``refresh.ahead`` renews the tokens that are about to end, within each provider's
                ``refresh_concurrency`` and ``refresh_rate``; it begins nothing after a minute.
            limit: how many are claimed at most.

        Raises:
            BadInput: there is no such kind; the hint lists them.
        """
        handled, _ = await _due.run_due(self._core, cast("Runtime", self), kind, limit)
        return handled
