"""``go-services outbox``: how far each handler is, what was set aside and why, and having it handled once more."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from go_services_core import Runtime, Scope

from .conftest import Run


@pytest.fixture
def ids(connected_config: Path) -> list[str]:
    """Two events, each of two handlers: one is dead at ``app.mail`` and delivered to ``app.book``, the other waits."""

    async def fill() -> list[str]:
        async with Runtime.open("go-services.toml") as runtime:

            async def handler(event: object, context: object) -> None: ...

            await runtime.on("installation.*", handler, name="app.mail")
            await runtime.on("installation.*", handler, name="app.book")
            made = await runtime.install("sandbox", scope=Scope("org", "1"))
            queues, found = runtime._core.store.queues, []
            for claim in await queues.claim("outbox", owner="x", lease=60, limit=9, handlers=["app.mail", "app.book"]):
                dead = claim.handler == "app.mail"
                found.append(claim.id)
                await queues.settle(claim, "dead" if dead else "done", error="It broke." if dead else "")
            await runtime.suspend_installation(made.id, reason="unpaid")
            for claim in await queues.claim("outbox", owner="x", lease=60, limit=9, handlers=["app.mail", "app.book"]):
                found.append(claim.id)
                await queues.settle(claim, "retry", error="Busy.", delay=3600)
            return list(dict.fromkeys(id.partition(":")[0] for id in found))

    return asyncio.run(fill())


def listed(run: Run, *options: str) -> list[tuple[str, str, str]]:
    found = json.loads(run("outbox", *options, "--json").stdout)["deliveries"]
    return [(one["event"], one["handler"], one["status"]) for one in found]


DEAD = ("installation.created", "app.mail", "dead")
DELIVERED = ("installation.created", "app.book", "delivered")


def test_status_counts_by_handler(ids: list[str], run: Run) -> None:
    handlers: dict[str, Any] = {
        one["name"]: one for one in json.loads(run("outbox", "status", "--json").stdout)["handlers"]
    }
    assert {name: (one["retry"], one["dead"]) for name, one in handlers.items()} == {
        "app.book": (1, 0),
        "app.mail": (1, 1),
    }
    assert {one["pattern"] for one in handlers.values()} == {"installation.*"}
    assert "app.mail" in run("outbox", "status").stdout


def test_events_are_listed_by_handler_and_what_became_of_them(ids: list[str], run: Run) -> None:
    assert len(ids) == 2
    everything = listed(run, "list")
    assert sorted(everything) == sorted(
        [DEAD, DELIVERED, *(("installation.suspended", name, "retry_ready") for name in ("app.book", "app.mail"))]
    )
    assert listed(run, "list", "--status", "delivered") == [DELIVERED]
    assert listed(run, "list", "--handler", "app.mail", "--event", "installation.created") == [DEAD]
    assert listed(run, "list", "--provider", "keyed") == []
    assert listed(run, "list", "--until", "1h") == []
    assert sorted(listed(run, "list", "--since", "1h")) == sorted(everything)
    first = json.loads(run("outbox", "list", "--limit", "1", "--json").stdout)
    assert f"--after {first['next']}" in run("outbox", "list", "--limit", "1").stdout
    assert len(listed(run, "list", "--after", first["next"])) == 3
    assert "--since" in run("outbox", "list", "--since", "yesterday", code=2).stderr
    assert "--status" in run("outbox", "list", "--status", "lost", code=2).stderr


def test_dead_are_listed_with_their_reason(ids: list[str], run: Run) -> None:
    assert listed(run, "dead") == [DEAD]
    assert listed(run, "dead", "--handler", "app.book") == []
    (one,) = json.loads(run("outbox", "dead", "--json").stdout)["deliveries"]
    assert (one["id"], one["attempts"], one["error"]) == (f"{ids[0]}:app.mail", 1, "It broke.")
    assert one["id"] in run("outbox", "dead").stdout


def test_dead_is_replayed_once_and_counted_before(ids: list[str], run: Run) -> None:
    def replayed(*options: str) -> tuple[int, int]:
        found = json.loads(run("outbox", "replay", *options, "--json").stdout)
        return found["found"], found["replayed"]

    assert replayed("--all", "--dry-run") == (1, 1)
    assert replayed("--handler", "app.book") == (0, 0)
    assert replayed(ids[0]) == (1, 1)
    assert replayed("--all") == (0, 0)
    assert listed(run, "dead") == []
    assert "1 of 1 delivery is due again." in run("outbox", "replay", "--handler", "app.book", "--again").stdout
    assert "What to replay" in run("outbox", "replay", code=2).stderr


def test_handler_is_backfilled_and_forgotten(ids: list[str], run: Run) -> None:
    assert "0 events would be" in run("outbox", "backfill", "app.mail", "--since", "1h", "--dry-run").stdout
    assert "app.none" in run("outbox", "forget", "app.none", "--force", code=1).stderr
    assert json.loads(run("outbox", "forget", "app.mail", "--dry-run", "--json").stdout)["removed"] == 2
    assert "app.mail" in run("outbox", "status").stdout
    assert run("outbox", "forget", "app.mail", code=1).stderr.startswith("error:")  # seen a moment ago
    assert "is forgotten, with 2" in run("outbox", "forget", "app.mail", "--force").stdout
    assert "app.mail" not in run("outbox", "status").stdout
