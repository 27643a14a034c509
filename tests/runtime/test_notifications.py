"""People are told of events: each once, whoever else could not be, and again only where it failed."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from go_services_core import hookimpl
from go_services_core.errors import BadInput, NotificationFailed, ProviderUnavailable
from go_services_core.notifications import Notification, Recipient
from go_services_core.refs import Ref
from go_services_core.runtime.notifications import key_of
from go_services_core.specs import NotificationSpec
from go_services_core.testing.memory import MemoryStore

from .conftest import App
from .test_outgoing_webhooks import emit, event

HOUR = 3600.0


@pytest.fixture
def memory(app: App, clock: Any) -> App:
    """The application on a store whose leases and delays go by the test's clock."""
    app.store = MemoryStore(clock=clock)
    return app


class People:
    """Whom to tell, and what they were told."""

    def __init__(self, *ids: str) -> None:
        self.recipients = [Recipient("User", id) for id in ids]
        self.sent: list[Notification] = []
        self.failing: dict[str, BaseException] = {}

    async def __call__(self, definition: str, event: Any, context: Any, /) -> list[Recipient]:
        return self.recipients

    async def send(self, notification: Notification, context: Any, /) -> None:
        self.sent.append(notification)
        failure = self.failing.get(notification.recipient.id)
        if failure is not None:
            raise failure

    def told(self) -> list[tuple[str, int]]:
        return sorted((one.recipient.id, one.attempt) for one in self.sent)


async def set_up(runtime: Any, people: People, **options: Any) -> None:
    given = {"name": "lost", "definition": "connection.lost", **options}
    await runtime.notify_on("connection.*", recipients=people, sender=people.send, **given)


async def test_each_recipient_is_told_once_with_the_key_of_the_go_system(either: App) -> None:
    people = People("u1", "u2", "u1", "", "  ")
    async with either.open() as runtime:
        await set_up(runtime, people)
        told = event(either)
        await emit(runtime, told, event(either, "grant.drift"))
        await runtime.drain()
        assert people.told() == [("u1", 1), ("u2", 1)]
        one = people.sent[0]
        assert (one.definition, one.event) == ("connection.lost", told)
        text = f"lost|connection.lost|{told.id}|user:{one.recipient.id}"
        assert one.key == hashlib.sha256(text.encode()).hexdigest()
        entries = (await runtime.notifications()).items
        assert {entry.dispatch.key for entry in entries} == {one.key for one in people.sent}
        assert {(entry.status, entry.attempts, entry.error) for entry in entries} == {("sent", 1, "")}
        await runtime.drain()
        assert len(people.sent) == 2


async def test_failure_is_told_again_and_stops_nobody_else(memory: App) -> None:
    """A failed one counts as not sent, with its attempts; those that were told are not told again."""
    people = People("u1", "u2", "u3")
    people.failing = {
        "u1": ProviderUnavailable("no route"),
        "u2": RuntimeError("password=hunter2"),
    }
    async with memory.open() as runtime:
        await set_up(runtime, people)
        told = event(memory)
        await emit(runtime, told)
        assert (await runtime.drain()).failed == 1
        assert people.told() == [("u1", 1), ("u2", 1), ("u3", 1)]
        listed = (await runtime.notifications(event_id=told.id, status="failed")).items
        assert sorted((entry.dispatch.recipient_key, entry.error) for entry in listed) == [
            ("user:u1", "no route"),
            ("user:u2", "RuntimeError"),
        ]
        del people.failing["u1"]
        memory.clock.advance(HOUR)
        await runtime.drain()
        assert people.told() == [("u1", 1), ("u1", 2), ("u2", 1), ("u2", 2), ("u3", 1)]
        people.failing.clear()
        memory.clock.advance(HOUR)
        assert (await runtime.drain()).failed == 0
        assert people.told()[-3:] == [("u2", 2), ("u2", 3), ("u3", 1)]
        entries = (await runtime.notifications(name="lost")).items
        assert {entry.dispatch.recipient_key: entry.attempts for entry in entries} == {
            "user:u1": 2,
            "user:u2": 3,
            "user:u3": 1,
        }
        assert {entry.status for entry in entries} == {"sent"}
        assert len({one.key for one in people.sent}) == 3


async def test_dead_notification_is_retried_on_request(memory: App) -> None:
    people = People("u1")
    people.failing = {"u1": ProviderUnavailable("no route")}
    async with memory.open() as runtime:
        await set_up(runtime, people)
        told = event(memory)
        await emit(runtime, told)
        assert await runtime.retry_notification("lost", told.id) is False
        for _ in range(60):
            await runtime.drain()
            memory.clock.advance(10 * 86_400)
        attempts = len(people.sent)
        people.failing.clear()
        answers = await asyncio.gather(*(runtime.retry_notification("lost", told.id) for _ in range(3)))
        assert sorted(answers) == [False, False, True]
        await runtime.drain()
        assert len(people.sent) == attempts + 1
        assert [entry.status for entry in (await runtime.notifications()).items] == ["sent"]


async def test_definition_decides_whether_anybody_is_told(memory: App) -> None:
    people = People("u1")
    codes = iter([None, "  ", "told"])

    async def definition(event: Any, context: Any) -> str | None:
        return next(codes)

    async with memory.open() as runtime:
        await set_up(runtime, people, definition=definition)
        await emit(runtime, event(memory), event(memory), event(memory))
        assert await runtime.run_due("outbox") == 3
        assert [one.definition for one in people.sent] == ["told"]


async def test_sender_that_hangs_ends_in_time_and_is_tried_again(memory: App) -> None:
    people = People("u1", "u2")
    calls: list[str] = []

    async def hanging(notification: Notification, context: Any) -> None:
        calls.append(notification.recipient.id)
        if len(calls) <= 2 and notification.recipient.id == "u1":
            await asyncio.Event().wait()

    async with memory.open() as runtime:
        await runtime.notify_on("*", name="hang", definition="d", recipients=people, sender=hanging, timeout=0.05)
        await emit(runtime, event(memory))
        assert (await runtime.drain()).failed == 1
        states = {entry.dispatch.recipient_key: entry.status for entry in (await runtime.notifications()).items}
        assert states == {"user:u1": "failed", "user:u2": "sent"}
        memory.clock.advance(HOUR)
        assert (await runtime.drain()).failed == 0
        assert sorted(calls) == ["u1", "u1", "u2"]


async def test_one_that_another_process_sends_is_not_sent_twice(memory: App) -> None:
    people = People("u1")
    async with memory.open() as runtime:
        await set_up(runtime, people)
        told = event(memory)
        key = key_of("lost", "connection.lost", told.id, people.recipients[0])
        from go_services_core.resources import Dispatch

        other = Dispatch(
            id="0", key=key, event_id=told.id, projector="lost", definition_code="c", recipient_key="user:u1"
        )
        await runtime._core.store.once.begin_dispatch(other, owner="other", seconds=600)
        await emit(runtime, told)
        assert (await runtime.drain()).failed == 1
        assert people.sent == []
        memory.clock.advance(700)
        await runtime.drain()
        assert people.told() == [("u1", 2)]


async def test_what_a_plugin_declares_is_told(memory: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """By gs_notifications, through the same ledger."""
    import sys
    import types

    people = People("u1")

    async def definition(event: Any, context: Any) -> str:
        return f"told.{event.name}"

    made: Any = types.ModuleType("made_notifications")
    made.definition, made.people, made.send = definition, people, people.send
    monkeypatch.setitem(sys.modules, "made_notifications", made)

    class Plugin:
        GS_CONTRACT = 1

        @hookimpl
        def gs_notifications(self) -> list[NotificationSpec]:
            return [
                NotificationSpec(
                    name="app.lost",
                    events="connection.*",
                    definition=Ref("made_notifications:definition"),
                    recipients=Ref("made_notifications:people"),
                    sender=Ref("made_notifications:send"),
                )
            ]

    async with memory.open(plugins={"telling": Plugin()}) as runtime:
        await emit(runtime, event(memory))
        await runtime.drain()
        assert [one.definition for one in people.sent] == ["told.connection.established"]


async def test_bad_input_is_refused(memory: App) -> None:
    people = People()
    async with memory.open() as runtime:
        for wrong in ({"name": " "}, {"timeout": 0}, {"timeout": float("nan")}):
            with pytest.raises(BadInput):
                await set_up(runtime, people, **wrong)
        assert NotificationFailed().retryable
