"""Events that leave the application: webhooks to its own customers' endpoints, and notifications of people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ...endpoints import Endpoint, EndpointAnswer, EndpointMessage, EndpointStatus, NewEndpoint
from ...model import JobStatus, Page, Scope
from ...resources import DispatchEntry, DispatchStatus
from ...secret import SecretStr
from .. import notifications as _notifications
from .. import webhook_endpoints as _endpoints
from .. import webhook_fanout as _fanout
from .. import webhook_messages as _messages
from ..core import Core
from ..known_names import NOTIFICATIONS
from ..known_names import check as check_names

if TYPE_CHECKING:
    from ...handler_protocols import EventHandler
    from ...notifications import Definition, NotificationSender, RecipientResolver


class Outgoing:
    """Endpoints, their messages, and notifications."""

    _core: Core

    if TYPE_CHECKING:

        async def on(self, events: str, handler: EventHandler, *, name: str, timeout: float | None = None) -> None: ...

    async def add_endpoint(
        self,
        url: str,
        *,
        scope: Scope | None = None,
        events: Sequence[str] = ("*",),
        description: str = "",
        ordered: bool = False,
        secret: SecretStr | None = None,
        dry_run: bool = False,
    ) -> NewEndpoint:
        """Send events to ``url`` from now on, signed to Standard Webhooks.

        Which events leave the application at all is the setting ``[endpoints] events``.

        Args:
            url: begins with ``https://``, or ``http://`` where ``[egress] allow`` lists its host for ``endpoint``.
            scope: whose events it gets; None for those of every scope, which is for endpoints of your own.
            events: names or patterns, such as ``connection.*``.
            description: for people.
            ordered: send one message at a time, in the order of the events.
            secret: one that exists already, ``whsec_…`` of 24 to 64 bytes or ``whsk_…``; made where it is None.
            dry_run: check only, and keep nothing.

        Returns:
            the endpoint and its secret, which is shown here and nowhere else.

        Raises:
            BadInput: the URL or a pattern is none.
            EgressDenied: the URL's host is no public one, and ``[egress] allow`` does not list it.
            KeyInvalid: nothing can be signed with ``secret``.
            FacetMissing: the store keeps no endpoints.
        """
        made = await _endpoints.new(
            self._core,
            url,
            scope=scope,
            events=_patterns(events),
            description=description,
            ordered=ordered,
            secret=secret,
        )
        if dry_run:
            return made
        await _fanout.wake(self._core)  # first: an event that is committed after the endpoint must find it
        return await _endpoints.add(self._core, made)

    async def endpoints(
        self,
        *,
        scope: Scope | None = None,
        status: EndpointStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Endpoint]:
        """Endpoints by id, a page at a time."""
        return await _endpoints.facet(self._core).list(scope=scope, status=status, after=after, limit=limit)

    async def endpoint(self, endpoint_id: str) -> Endpoint:
        """One endpoint.

        Raises:
            NotFound: there is none.
        """
        return await _endpoints.get(self._core, endpoint_id)

    async def update_endpoint(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        ordered: bool | None = None,
    ) -> Endpoint:
        """Change what is given. Messages that wait go to the new URL; ``events`` and ``ordered`` are for later ones.

        Raises:
            NotFound: there is none.
            BadInput: the URL or a pattern is none; nothing was changed.
            EgressDenied: the URL's host is no public one; nothing was changed.
        """
        return await _endpoints.update(
            self._core,
            endpoint_id,
            url=url,
            events=None if events is None else _patterns(events),
            description=description,
            ordered=ordered,
        )

    async def pause_endpoint(self, endpoint_id: str, *, reason: str = "") -> Endpoint:
        """Let its messages wait. They are kept, and sent within about a minute after it is resumed.

        Raises:
            NotFound: there is none.
            InvalidTransition: it is disabled.
        """
        return await _endpoints.pause(self._core, endpoint_id, reason=reason)

    async def resume_endpoint(self, endpoint_id: str) -> Endpoint:
        """Send to it again, after it was paused or disabled; what died meanwhile is replayed on request.

        Raises:
            NotFound: there is none.
        """
        return await _endpoints.resume(self._core, endpoint_id)

    async def remove_endpoint(self, endpoint_id: str) -> None:
        """Delete it with its secrets; messages that wait for it are not sent.

        Raises:
            NotFound: there is none.
        """
        await _endpoints.remove(self._core, endpoint_id)

    async def rotate_endpoint_secret(
        self, endpoint_id: str, *, overlap: float = 86_400.0, secret: SecretStr | None = None
    ) -> NewEndpoint:
        """Give it a new secret. For ``overlap`` seconds the former one signs as well: each message has two signatures.

        A secret that was replaced before signs no more. With ``overlap=0`` the former one ends at once.

        Raises:
            NotFound: there is none.
            BadInput: ``overlap`` is not between 0 and 30 days.
            KeyInvalid: nothing can be signed with ``secret``.
        """
        return await _endpoints.rotate_secret(self._core, endpoint_id, overlap=overlap, secret=secret)

    async def test_endpoint(self, endpoint_id: str) -> EndpointAnswer:
        """Send it one message of the type ``endpoint.test`` at once, whatever its status; no attempt follows.

        Raises:
            NotFound: there is none.
        """
        return await _messages.test(self._core, endpoint_id)

    async def endpoint_messages(
        self,
        endpoint_id: str | None = None,
        *,
        status: JobStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[EndpointMessage]:
        """Messages, a page at a time: ``queued``, ``running``, ``succeeded``, or ``failed``, which is dead.

        With ``endpoint_id`` a page may have fewer than ``limit``, or none: only ``next`` tells whether there is more.

        Raises:
            NotFound: there is no endpoint of that id, and no message for it in the first page.
        """
        return await _messages.page(
            self._core, endpoint_id=endpoint_id, status=status, since=since, until=until, after=after, limit=limit
        )

    async def replay_endpoint_message(self, message: str) -> bool:
        """Send a dead message again, with its id and body; ``message`` is the id of its job. False if it is not dead.

        Raises:
            NotFound: there is no such message, or its endpoint was removed.
            Conflict: its endpoint is disabled.
        """
        return await _messages.replay_one(self._core, message)

    async def replay_endpoint_messages(
        self,
        endpoint_id: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        dry_run: bool = False,
    ) -> int:
        """Send an endpoint's dead messages again, those of a time where one is given; gives their number.

        Raises:
            NotFound: there is no such endpoint.
            Conflict: it is disabled.
        """
        return await _messages.replay(self._core, endpoint_id, since=since, until=until, dry_run=dry_run)

    async def notify_on(
        self,
        events: str,
        *,
        name: str,
        definition: Definition,
        recipients: RecipientResolver,
        sender: NotificationSender,
        timeout: float = 30.0,
    ) -> None:
        """Have people told of every event that is committed from now on and matches.

        Args:
            events: an event's name or a pattern.
            name: stable; what was sent is remembered under it.
            definition: the code that says what is told, or ``async (event, context) -> str | None``.
            recipients: ``async (definition, event, context) -> Recipient, …``.
            sender: ``async (notification, context) -> None``; what it raises is tried again.
            timeout: seconds that it has for one recipient.

        Raises:
            BadInput: the name is blank, or the time is not above 0.
        """
        handler = _notifications.handler_of(
            name, definition=definition, recipients=recipients, sender=sender, timeout=timeout
        )
        await self.on(events, handler, name=NOTIFICATIONS + name, timeout=_notifications.LONGEST)

    async def notifications(
        self,
        *,
        name: str | None = None,
        event_id: str | None = None,
        status: DispatchStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[DispatchEntry]:
        """Who was told, or could not be, a page at a time.

        Raises:
            NotFound: there is no notification of that name, and nothing of it.
        """
        page = await self._core.store.once.dispatches(
            projector=name, event_id=event_id, status=status, after=after, limit=limit
        )
        if not page.items:
            await check_names(self._core, notification=name)
        return page

    async def retry_notification(self, name: str, event_id: str) -> bool:
        """Tell those recipients of an event that were not told, once it is dead; False while it is not.

        Raises:
            NotFound: there is no notification of that name.
        """
        return await _notifications.retry(self._core, name, event_id)


def _patterns(events: Sequence[str]) -> tuple[str, ...]:
    return (events,) if isinstance(events, str) else tuple(events)
