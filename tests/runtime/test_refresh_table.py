"""The state table of ``docs/explanation/refresh.md``: each row is built in a real store, and its event happens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from attrs import evolve, field, frozen

from go_services_core import Runtime
from go_services_core.clock import uuid7
from go_services_core.errors import ConnectFailed, RequestTimeout, ServicesError
from go_services_core.http import HttpResponse
from go_services_core.model import Connection, SealedCredential, TokenSet
from go_services_core.refreshes import RefreshOpen
from go_services_core.runtime import bindings
from go_services_core.runtime.payload import encode_tokens
from go_services_core.secret import SecretStr

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "refresh.md"
LIFE = 3600
COLUMNS = {
    "service_leases": "lease",
    "service_refresh_intents": "intent",
    "service_credentials": "credential",
    "service_oauth_attempts": "attempt",
    "holds": "lease",
    "intents": "intent",
    "credentials": "credential",
    "active": "credential",
    "superseded": "credential",
    "attempts": "attempt",
}
"""What the table calls the tables of the two stores."""
NAMES = {"service_lifecycle_outbox", "events", "service_connections", "connections"}
NEW = HttpResponse(200, (), b'{"access_token": "sbx_at_new", "refresh_token": "sbx_rt_new", "expires_in": 3600}')
INVALID_GRANT = HttpResponse(400, (), b'{"error": "invalid_grant"}')


@frozen
class Line:
    """A row of the table."""

    event: str
    state: str
    next: str
    asks: bool
    writes: frozenset[str]

    @property
    def id(self) -> str:
        return f"{self.state}: {self.event}"


def lines() -> list[Line]:
    text = PAGE.read_text(encoding="utf-8").split("<!-- table: refresh -->")[1]
    found = []
    for line in text.strip().splitlines():
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "Event" or set(cells[0]) == {"-"}:
            continue
        event, state, next, asks, writes = cells
        assert asks in ("yes", "no")
        found.append(Line(event, state, next, asks == "yes", frozenset(filter(None, re.split(r",\s*", writes)))))
    return found


class Endpoint:
    """Between runtime and provider: a refresh request waits until the test says what comes of it."""

    def __init__(self, send: Callable[..., Awaitable[HttpResponse]]) -> None:
        self._send = send
        self.requests = 0
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()

    async def send(self, request: Any, *, provider_id: str) -> HttpResponse:
        body = request.body if isinstance(request.body, bytes) else b""
        if parse_qs(body.decode("latin-1")).get("grant_type") != ["refresh_token"]:
            return await self._send(request, provider_id=provider_id)
        self.requests += 1
        self.asked.set()
        return await self.answer

    def ends(self, outcome: HttpResponse | Exception) -> None:
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Case:
    """One connection in one store, and what can happen to it."""

    def __init__(self, app: Any, runtime: Runtime, connection: Connection, endpoint: Endpoint) -> None:
        self.app, self.runtime, self.endpoint = app, runtime, endpoint
        self.id = connection.id
        self.core = runtime._core
        self.facet = self.core.store.connections
        self.flight: asyncio.Task[Connection] | None = None

    # --- what others do --------------------------------------------------------------------------------------------

    async def opened(self, owner: str = "other") -> RefreshOpen:
        """Another process begins to refresh."""
        return await self.facet.open_refresh(self.id, owner=owner, lease=60, intent_id=uuid7(self.core.clock))

    async def gone(self) -> RefreshOpen:
        """Another process began to refresh and is gone, so long ago that nobody waits for it."""
        made = await self.opened("gone")
        self.app.age(100)
        return made

    async def late(self, made: RefreshOpen) -> None:
        """What that process did get comes after all."""
        old = made.credential
        binding = bindings.credential(self.id, old.version + 1, "sandbox", made.connection.scope)
        tokens = TokenSet(access_token=SecretStr("sbx_at_late"), refresh_token=SecretStr("sbx_rt_late"))
        sealed = await self.core.sealer.seal(encode_tokens(tokens), binding)
        new = evolve(old, id=uuid7(self.core.clock), version=old.version + 1, sealed=sealed)
        assert await self.facet.keep_late(made.lease, new)

    async def failed(self, state: str = "unknown", *, times: int = 1, **options: Any) -> None:
        for _ in range(times):
            made = await self.opened()
            await self.facet.fail_refresh(made.lease, error="kit", terminal=False, event=None, state=state, **options)

    async def ended(self) -> None:
        made = await self.opened()
        await self.facet.fail_refresh(made.lease, error="kit", terminal=True, event=None)

    # --- what this runtime does ------------------------------------------------------------------------------------

    async def fly(self) -> None:
        """Begin to refresh here, until the request has left."""
        self.flight = asyncio.create_task(self.runtime.refresh(self.id))
        asked = asyncio.create_task(self.endpoint.asked.wait())
        await asyncio.wait({self.flight, asked}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert asked.done(), self.flight
        self.endpoint.requests = 0

    async def needed(self) -> None:
        """Somebody needs a token; until it is there, asked for, refused, or waited for."""
        self.flight = asyncio.create_task(self.runtime.refresh(self.id))
        slept = len(self.app.clock.slept)
        async with asyncio.timeout(30):
            while not (self.flight.done() or self.endpoint.asked.is_set() or len(self.app.clock.slept) > slept + 2):
                await asyncio.sleep(0.001)

    async def ends(self, outcome: HttpResponse | Exception) -> None:
        """The request of the flight ends."""
        assert self.flight is not None
        self.endpoint.ends(outcome)
        slept = len(self.app.clock.slept)
        async with asyncio.timeout(30):
            while not (self.flight.done() or len(self.app.clock.slept) > slept + 2):
                await asyncio.sleep(0.001)

    def old_one_ends(self) -> None:
        self.app.clock.advance(LIFE)

    def forget(self) -> None:
        """Read everything from the store again."""
        self.core.forget(self.id)

    # --- what the store holds --------------------------------------------------------------------------------------

    def tables(self) -> dict[str, Any]:
        """Every table, as something to compare."""
        if self.app.store is not None:
            held = self.app.store._tables
            names = [name for name in held.__class__.__attrs_attrs__ if name.name != "clock"]
            found = {name.name: repr(getattr(held, name.name)) for name in names}
            (one,) = held.connections.values()
            found["connections"] = (one.status, one.refresh_state)
            found["events"] = [event.name for event in held.events.values()]
            return found
        listed = self.app.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'service_*'")
        found = {name: sorted(map(repr, self.app.rows(f"SELECT * FROM {name}"))) for (name,) in listed}
        ((status, state),) = self.app.rows("SELECT status, refresh_state FROM service_connections")
        found["service_connections"] = (status, state)
        found["service_lifecycle_outbox"] = [
            name for (name,) in self.app.rows("SELECT event_name FROM service_lifecycle_outbox ORDER BY rowid")
        ]
        found.pop("service_pending_events")  # each event once more, until a worker hands it out
        return found

    async def state(self) -> str:
        """By the table of states, from what is stored."""
        connection, row = await self.facet.load(self.id)
        if connection.status != "active":
            return {"pending_reauth": "ended", "disconnected": "disconnected"}[connection.status]
        assert row is not None
        held, unsettled = self._refreshing(row)
        if held:
            return "in flight"
        if unsettled:
            return "abandoned"
        if connection.refresh_state == "unknown":
            history = await self.facet.refresh_history(self.id, row.version)
            return "lost" if history.unknown > 1 else "unknown"
        return {"ok": "ok", "backing_off": "backing off"}[connection.refresh_state]

    def _refreshing(self, row: SealedCredential) -> tuple[bool, bool]:
        """Whether an unsettled intent holds the lease, and whether there is any."""
        if self.app.store is not None:
            held = self.app.store._tables
            hold = held.holds.get(f"refresh:{self.id}")
            open_ = [one for one in held.intents.values() if one.settled_at is None and one.version == row.version]
            alive = hold is not None and hold.owner is not None and hold.expires_at > self.app.clock.now()
            return alive and any(one.fence == hold.fence for one in open_), bool(open_)
        found = self.app.rows(
            """SELECT lease.owner IS NOT NULL AND lease.fence = intent.fence
                AND lease.expires_at > strftime('%Y-%m-%d %H:%M:%f', 'now')
            FROM service_refresh_intents AS intent JOIN service_leases AS lease USING (resource)
            WHERE intent.settled_at IS NULL AND intent.version = ?""",
            row.version,
        )
        return any(held for (held,) in found), bool(found)


def changes(before: dict[str, Any], after: dict[str, Any]) -> frozenset[str]:
    """What changed, in the words of the table; a table that it has no word for under its own name."""
    changed = {COLUMNS.get(name, name) for name in after if name not in NAMES and before[name] != after[name]}
    for name in NAMES & after.keys():
        if name in ("events", "service_lifecycle_outbox"):
            assert after[name][: len(before[name])] == before[name]
            changed |= {f"event {event}" for event in after[name][len(before[name]) :]}
            assert len(set(after[name][len(before[name]) :])) == len(after[name]) - len(before[name])
        else:
            pairs = zip(("status", "refresh_state"), before[name], after[name], strict=True)
            changed |= {column for column, old, new in pairs if old != new}
    return frozenset(changed)


Step = Callable[[Case], Awaitable[None]]


@frozen(kw_only=True)
class Scenario:
    """How a state is made, and its event. ``record`` are fields of the provider's record that differ."""

    given: Step
    when: Step
    record: dict[str, Any] = field(factory=dict)


async def nothing(case: Case) -> None:
    """Connected is all there is."""


async def needed(case: Case) -> None:
    await case.needed()


def ending(outcome: HttpResponse | Exception) -> Step:
    async def when(case: Case) -> None:
        await case.ends(outcome)

    return when


async def flying(case: Case) -> None:
    await case.fly()


async def held_by_another(case: Case) -> None:
    await case.opened()


async def gone_and_late(case: Case) -> None:
    await case.late(await case.gone())


async def gone(case: Case) -> None:
    await case.gone()


async def gone_and_old_ended(case: Case) -> None:
    await case.gone()
    case.old_one_ends()


async def gone_while_recovering(case: Case) -> None:
    await case.failed()
    case.old_one_ends()
    await case.gone()


async def backing_off(case: Case) -> None:
    await case.failed("backing_off", retry_in=30)


async def backed_off(case: Case) -> None:
    await case.failed("backing_off", retry_in=30)
    case.app.age(31)


async def unknown(case: Case) -> None:
    await case.failed()


async def unknown_for_long(case: Case) -> None:
    await case.failed()
    case.app.age(61)


async def unknown_and_old_ended(case: Case) -> None:
    await case.failed()
    case.old_one_ends()


async def unknown_and_late(case: Case) -> None:
    made = await case.opened()
    await case.facet.fail_refresh(made.lease, error="kit", terminal=False, event=None, state="unknown")
    await case.late(made)


async def lost(case: Case) -> None:
    await case.failed(times=2)
    case.old_one_ends()


async def ended(case: Case) -> None:
    await case.ended()
    case.forget()


async def disconnected(case: Case) -> None:
    await case.runtime.disconnect(case.id)


async def recovering(case: Case) -> None:
    await unknown_and_old_ended(case)
    await case.fly()


async def overtaken_by_consent(case: Case) -> None:
    await case.fly()
    await case.app.connect(case.runtime)
    # The lease is still ours: only the credential is another.


async def predecessor_came_late(case: Case) -> None:
    made = await case.gone()
    case.old_one_ends()
    await case.fly()
    await case.late(made)


async def taken_over(case: Case) -> None:
    await case.fly()
    case.app.age(100)
    await case.opened()


async def disconnected_while_asking(case: Case) -> None:
    await case.fly()
    event = await _an_event(case)
    await case.facet.disconnect(case.id, reason="elsewhere", event=event)


async def _an_event(case: Case) -> Any:
    from go_services_core.model import Event

    connection = await case.facet.get(case.id)
    return Event(
        id=uuid7(case.core.clock),
        name="connection.disconnected",
        provider_id="sandbox",
        scope=connection.scope,
        connection_id=case.id,
        occurred_at=case.core.clock.now(),
    )


def consenting(given: Step) -> Scenario:
    async def begun(case: Case) -> None:
        await given(case)
        case.start, case.params = await case.app.begin(case.runtime)  # type: ignore[attr-defined]

    async def complete(case: Case) -> None:
        await case.runtime.complete(case.params, binding=case.start.binding)  # type: ignore[attr-defined]

    return Scenario(given=begun, when=complete)


NONE = {"rotation": "none"}
GRACE = {"rotation": "single-use-grace", "rotation_grace": 60.0}
CUT = RequestTimeout()


def status(code: int) -> HttpResponse:
    return HttpResponse(code, (), b"<h1>no</h1>")


SCENARIOS: dict[str, Scenario] = {
    "ok: token needed": Scenario(given=nothing, when=needed),
    "in flight: token needed": Scenario(given=held_by_another, when=needed),
    "abandoned: token needed, the holder has gone, its token came late": Scenario(given=gone_and_late, when=needed),
    "abandoned: token needed, the holder has gone, nothing rotates": Scenario(given=gone, when=needed, record=NONE),
    "abandoned: token needed, the holder has gone, tokens rotate": Scenario(given=gone, when=needed),
    "abandoned: token needed, the holder has gone, tokens rotate, the old one has ended": Scenario(
        given=gone_and_old_ended, when=needed
    ),
    "abandoned: token needed, who tried to recover has gone": Scenario(given=gone_while_recovering, when=needed),
    "backing off: token needed, before its time": Scenario(given=backing_off, when=needed),
    "backing off: token needed, after its time": Scenario(given=backed_off, when=needed),
    "unknown: token needed, the old one still works, no grace": Scenario(given=unknown, when=needed),
    "unknown: token needed, after the grace": Scenario(given=unknown_for_long, when=needed, record=GRACE),
    "unknown: token needed, within the grace": Scenario(given=unknown, when=needed, record=GRACE),
    "unknown: token needed, the old one has ended": Scenario(given=unknown_and_old_ended, when=needed),
    "unknown: token needed, a token came late": Scenario(given=unknown_and_late, when=needed),
    "lost: token needed, the old one has ended": Scenario(given=lost, when=needed),
    "ended: token needed": Scenario(given=ended, when=needed),
    "disconnected: token needed": Scenario(given=disconnected, when=needed),
    "in flight: new token": Scenario(given=flying, when=ending(NEW)),
    "in flight: failed before a byte was sent": Scenario(given=flying, when=ending(ConnectFailed())),
    "in flight: refused for now (429, 500, 503)": Scenario(given=flying, when=ending(status(503))),
    "in flight: refused by an error that is not invalid_grant": Scenario(
        given=flying, when=ending(HttpResponse(401, (), b'{"error": "unsupported_grant_type"}'))
    ),
    "in flight: answer lost, nothing rotates": Scenario(given=flying, when=ending(CUT), record=NONE),
    "in flight: answer lost, tokens rotate": Scenario(given=flying, when=ending(CUT)),
    "in flight: answer of a gateway (502, 504), tokens rotate": Scenario(given=flying, when=ending(status(504))),
    "in flight: answer unreadable, tokens rotate": Scenario(given=flying, when=ending(HttpResponse(200, (), b"{}"))),
    "in flight: answer lost again": Scenario(given=recovering, when=ending(CUT)),
    "in flight: invalid_grant": Scenario(given=flying, when=ending(INVALID_GRANT)),
    "in flight: invalid_grant, a newer credential is stored": Scenario(
        given=overtaken_by_consent, when=ending(INVALID_GRANT)
    ),
    "in flight: invalid_grant, a predecessor's token came late": Scenario(
        given=predecessor_came_late, when=ending(INVALID_GRANT)
    ),
    "in flight: new token, the lease was taken over": Scenario(given=taken_over, when=ending(NEW)),
    "in flight: new token, a newer credential is stored": Scenario(given=overtaken_by_consent, when=ending(NEW)),
    "disconnected: new token, the connection was disconnected": Scenario(
        given=disconnected_while_asking, when=ending(NEW)
    ),
    "lost: new credential by consent": consenting(lost),
    "ended: new credential by consent": consenting(ended),
}


@asynccontextmanager
async def case_of(app: Any, scenario: Scenario) -> AsyncIterator[Case]:
    auth = app.providers.specs["sandbox"].auth[0]
    app.set(auth=evolve(auth, **scenario.record))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        endpoint = Endpoint(runtime._core.transport.send)
        runtime._core.transport = endpoint  # type: ignore[assignment]
        case = Case(app, runtime, connection, endpoint)
        try:
            yield case
        finally:
            for task in (*runtime._core.tasks, case.flight):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, ServicesError):
                        await task


def test_every_row_has_a_scenario_and_every_scenario_a_row() -> None:
    rows = [line.id for line in lines()]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(SCENARIOS)
    assert len(rows) > 30


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.id)
async def test_row(either: Any, line: Line) -> None:
    """P10, P11, P13, P17, P19, P21: next state, requests, and the rows that changed."""
    scenario = SCENARIOS[line.id]
    async with case_of(either, scenario) as case:
        await scenario.given(case)
        # What an earlier flight left unsettled for the old version is no state of the new one.
        started = await case.state()
        before, case.endpoint.requests = case.tables(), 0
        await scenario.when(case)
        after = case.tables()
        assert case.endpoint.requests == line.asks
        assert await case.state() == line.next
        assert changes(before, after) == line.writes
        if "a newer credential is stored" not in line.event:  # there the state is that of the newer one already
            assert started == line.state
