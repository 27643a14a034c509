"""Installations: the moves that their table allows, each with its event, and what an end takes with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from go_services_core import Runtime, Scope
from go_services_core.errors import BadInput, InvalidTransition, NotFound, ProviderNotFound
from go_services_core.resources import INSTALLATION_MOVES, Installation

from .conftest import App
from .subscribing import CALLBACK, live, told

ORG = Scope("org", "acme")
MOVES: dict[str, Any] = {
    "suspended": lambda runtime, which: runtime.suspend_installation(which, reason="r"),
    "active": lambda runtime, which: runtime.resume_installation(which, reason="r"),
    "needs_reconsent": lambda runtime, which: runtime.require_installation_consent(which, reason="r"),
}


async def events(runtime: Runtime) -> list[tuple[str, str | None, str]]:
    found = await told(runtime, "installation.")
    assert all(event.connection_id is None and event.scope == ORG for event in found)
    return [
        (event.name.removeprefix("installation."), event.payload["previous"], event.payload["status"])
        for event in found
    ]


async def brought_to(runtime: Runtime, status: str) -> Installation:
    made = await runtime.install("sandbox", scope=ORG)
    if status == "uninstalled":
        return (await runtime.uninstall(made.id)).installation
    return made if status == "active" else await MOVES[status](runtime, made.id)  # type: ignore[no-any-return]


async def test_installation_is_made_once_and_changed_after_that(either: App) -> None:
    async with either.open() as runtime:
        made = await runtime.install("sandbox", scope=ORG, install_type=" App ", metadata={"a": 1})
        assert (made.status, made.install_type, made.version) == ("active", "app", 1)
        assert made.granted_at == made.created_at
        again = await runtime.install("sandbox", scope=ORG, metadata={"b": 2})
        assert (again.id, again.version, again.metadata) == (made.id, 2, {"b": 2})
        assert (await runtime.install("sandbox", scope=ORG)).metadata == {"b": 2}
        assert await runtime.installation(made.id) == (await runtime.installations(scope=ORG)).items[0]
        assert (await runtime.install("sandbox", scope=ORG, install_type="bot")).id != made.id
        told_events = await events(runtime)
        assert sorted(told_events, key=str) == [
            ("created", None, "active"),
            ("created", None, "active"),
            ("updated", "active", "active"),
            ("updated", "active", "active"),
        ]


async def test_installation_after_an_end_is_another_one(either: App) -> None:
    async with either.open() as runtime:
        made = await brought_to(runtime, "uninstalled")
        assert made.revoked_at is not None
        again = await runtime.install("sandbox", scope=ORG)
        assert again.id != made.id
        assert (await runtime.installation(made.id)).status == "uninstalled"
        names = [name for name, *_ in await events(runtime)]
        assert sorted(names) == ["created", "reinstalled", "uninstalled"]
        assert (await runtime.uninstall(made.id)).installation == made  # nothing happens a second time
        assert await events(runtime) == []


@pytest.mark.parametrize("after", sorted(MOVES))
@pytest.mark.parametrize("before", sorted(INSTALLATION_MOVES))
async def test_installation_moves_as_its_table_says(either: App, before: str, after: str) -> None:
    async with either.open() as runtime:
        made = await brought_to(runtime, before)
        await events(runtime)
        if after not in INSTALLATION_MOVES[before]:
            with pytest.raises(InvalidTransition):
                await MOVES[after](runtime, made.id)
            assert await runtime.installation(made.id) == made
            assert await events(runtime) == []
            return
        moved = await MOVES[after](runtime, made.id)
        assert (moved.status, moved.status_reason, moved.version) == (after, "r", made.version + 1)
        name = "suspended" if after == "suspended" else "updated"
        assert await events(runtime) == [(name, before, after)]


async def test_of_many_that_install_at_once_one_creates(either: App) -> None:
    async with either.open() as runtime:
        made = await asyncio.gather(*(runtime.install("sandbox", scope=ORG) for _ in range(4)))
        assert len({one.id for one in made}) == 1
        names = sorted(name for name, *_ in await events(runtime))
        assert names == ["created", "updated", "updated", "updated"]


async def test_wrong_installation_is_refused(either: App) -> None:
    either.set(scope_types=("org",))
    async with either.open() as runtime:
        with pytest.raises(ProviderNotFound):
            await runtime.install("sandbx", scope=ORG)
        with pytest.raises(BadInput):
            await runtime.install("sandbox", scope=ORG, install_type=" ")
        with pytest.raises(BadInput, match="org, not user"):
            await runtime.install("sandbox", scope=Scope("user", "u1"))
        made = await runtime.install("sandbox", scope=ORG)
        with pytest.raises(BadInput):
            await runtime.suspend_installation(made.id, reason=" ")
        with pytest.raises(NotFound):
            await runtime.uninstall("none")


async def test_uninstalling_disconnects_where_it_is_asked_for(either: App) -> None:
    async with either.open() as runtime:
        connection = await either.connect(runtime, scope=ORG)
        other = await either.connect(runtime, "u2")
        await runtime.subscribe(connection.id, "folder", "1", callback_url=CALLBACK)
        made = await runtime.install("sandbox", scope=ORG)
        kept = await runtime.uninstall(made.id)
        assert kept.disconnected == ()
        assert (await runtime.connection(connection.id)).status == "active"
        again = await runtime.install("sandbox", scope=ORG)
        ended = await runtime.uninstall(again.id, reason="closed", disconnect=True)
        assert [one.connection.id for one in ended.disconnected] == [connection.id]
        assert (await runtime.connection(connection.id)).status == "disconnected"
        assert (await runtime.connection(other.id)).status == "active"
        assert live(either) == []
