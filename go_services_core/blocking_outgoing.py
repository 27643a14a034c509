"""The blocking face's outgoing webhooks and notifications."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .endpoints import Endpoint, EndpointAnswer, EndpointMessage, EndpointStatus, NewEndpoint
from .model import JobStatus, Page, Scope
from .resources import DispatchEntry, DispatchStatus
from .runtime.known_names import NOTIFICATIONS
from .runtime.notifications import LONGEST, handler_of
from .runtime.runtime import Runtime
from .secret import SecretStr

if TYPE_CHECKING:
    from .handler_protocols import EventHandler
    from .notifications import Definition, NotificationSender, RecipientResolver

T = TypeVar("T")


class BlockingOutgoing:
    """Part of ``BlockingRuntime``."""

    if TYPE_CHECKING:

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

        def on(self, events: str, handler: EventHandler, *, name: str, timeout: float | None = None) -> None: ...

    def add_endpoint(
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
        return self._run(
            Runtime.add_endpoint,
            url,
            scope=scope,
            events=events,
            description=description,
            ordered=ordered,
            secret=secret,
            dry_run=dry_run,
        )

    def endpoints(
        self,
        *,
        scope: Scope | None = None,
        status: EndpointStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Endpoint]:
        return self._run(Runtime.endpoints, scope=scope, status=status, after=after, limit=limit)

    def endpoint(self, endpoint_id: str) -> Endpoint:
        return self._run(Runtime.endpoint, endpoint_id)

    def update_endpoint(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        ordered: bool | None = None,
    ) -> Endpoint:
        return self._run(
            Runtime.update_endpoint, endpoint_id, url=url, events=events, description=description, ordered=ordered
        )

    def pause_endpoint(self, endpoint_id: str, *, reason: str = "") -> Endpoint:
        return self._run(Runtime.pause_endpoint, endpoint_id, reason=reason)

    def resume_endpoint(self, endpoint_id: str) -> Endpoint:
        return self._run(Runtime.resume_endpoint, endpoint_id)

    def remove_endpoint(self, endpoint_id: str) -> None:
        return self._run(Runtime.remove_endpoint, endpoint_id)

    def rotate_endpoint_secret(
        self, endpoint_id: str, *, overlap: float = 86_400.0, secret: SecretStr | None = None
    ) -> NewEndpoint:
        return self._run(Runtime.rotate_endpoint_secret, endpoint_id, overlap=overlap, secret=secret)

    def test_endpoint(self, endpoint_id: str) -> EndpointAnswer:
        return self._run(Runtime.test_endpoint, endpoint_id)

    def endpoint_messages(
        self,
        endpoint_id: str | None = None,
        *,
        status: JobStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[EndpointMessage]:
        return self._run(
            Runtime.endpoint_messages, endpoint_id, status=status, since=since, until=until, after=after, limit=limit
        )

    def replay_endpoint_message(self, message: str) -> bool:
        return self._run(Runtime.replay_endpoint_message, message)

    def replay_endpoint_messages(
        self,
        endpoint_id: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        dry_run: bool = False,
    ) -> int:
        return self._run(Runtime.replay_endpoint_messages, endpoint_id, since=since, until=until, dry_run=dry_run)

    def notify_on(
        self,
        events: str,
        *,
        name: str,
        definition: Definition,
        recipients: RecipientResolver,
        sender: NotificationSender,
        timeout: float = 30.0,
    ) -> None:
        # By ``on``, which is done again after a fork.
        handler = handler_of(name, definition=definition, recipients=recipients, sender=sender, timeout=timeout)
        self.on(events, handler, name=NOTIFICATIONS + name, timeout=LONGEST)

    def notifications(
        self,
        *,
        name: str | None = None,
        event_id: str | None = None,
        status: DispatchStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[DispatchEntry]:
        return self._run(Runtime.notifications, name=name, event_id=event_id, status=status, after=after, limit=limit)

    def retry_notification(self, name: str, event_id: str) -> bool:
        return self._run(Runtime.retry_notification, name, event_id)
