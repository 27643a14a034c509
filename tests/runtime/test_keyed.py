"""Calls with an idempotency key: carried out once, whatever happens between the key's row and the result's."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
from attrs import evolve

from go_services_core import Operation, Param, Runtime
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    BackendUnavailable,
    BadInput,
    ConnectFailed,
    IdempotencyMismatch,
    OperationRunning,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    ResultNotKept,
    ServicesError,
    StoreUnavailable,
    TransportError,
)
from go_services_core.exchange import Answer, Send
from go_services_core.http import HttpRequest
from go_services_core.protocols import ProviderAdapter
from go_services_core.refs import Ref

from .conftest import App
from .test_execute import statements

ONCE = RetryPolicy(attempts=1)
ECHO = (
    Operation("say", "POST", "/echo", params=Param("text", "body"), idempotency_header="X-Once"),
    Operation("say.unheard", "POST", "/echo", params=Param("text", "body")),
    Operation("say.bytes", "POST", "/echo", params=Param("text", "body"), answer="bytes"),
    Operation("say.text", "POST", "/echo", params=Param("text", "body"), answer="text"),
)


class Beside:
    """An object with some of its methods replaced."""

    def __init__(self, real: Any, **calls: Any) -> None:
        self.__dict__.update(calls)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def provider(app: App, **changes: Any) -> None:
    """Let the sandbox's ``items.create`` have other fields, and its echo be called."""
    spec = app.providers.specs["sandbox"]
    operations = [evolve(one, **changes) if one.id == "items.create" else one for one in spec.operations]
    app.set(operations=(*operations, *ECHO))


def ledger(app: App) -> list[tuple[Any, ...]]:
    return app.rows("SELECT key, status FROM service_idempotency ORDER BY created_at, key")


def names(app: App) -> list[str]:
    return [app.sandbox.items.get(id)["name"] for id in range(121, len(app.sandbox.items) + 1)]  # type: ignore[index]


def expire(app: App) -> None:
    """Let the leases of dead callers end."""
    app.rows("UPDATE service_idempotency SET expires_at = '2020-01-01 00:00:00.000000' WHERE expires_at IS NOT NULL")


async def create(runtime: Runtime, connection: Any, name: str = "lamp", key: str | None = "k1", **options: Any) -> Any:
    return await runtime.execute(connection.id, "items.create", {"name": name}, idempotency_key=key, **options)


# --- the key, and what is kept under it -----------------------------------------------------------------------------


async def test_key_is_stored_before_the_first_byte_leaves(app, runtime):
    connection = await app.connect(runtime)
    core, at_sending = runtime._core, []
    real = core.transport

    async def send(request, **options):
        at_sending.append((request.header("Idempotency-Key"), ledger(app)))
        return await real.send(request, **options)

    core.transport = Beside(real, send=send)
    await create(runtime, connection)
    ((key, rows),) = at_sending
    assert key == "k1"
    ((name, status),) = rows
    assert name.startswith("operation:")
    assert json.loads(name.removeprefix("operation:")) == [connection.id, "items.create", "k1"]
    assert status == "running"


async def test_repeated_call_gets_the_recorded_result_and_sends_nothing(app, runtime, counted):
    connection = await app.connect(runtime)
    made = await create(runtime, connection)
    assert (made.status, made.replayed, made.idempotency_key) == (201, False, "k1")
    counted()
    async with app.open() as other:
        again = await create(other, connection)
    assert counted() == {}
    assert again == evolve(made, replayed=True, headers=again.headers)
    kept = dict(again.headers)
    assert kept["Location"] == dict(made.headers)["Location"]
    assert "X-RateLimit-Remaining" not in kept
    assert again.request_id is not None
    assert names(app) == ["lamp"]


@pytest.mark.parametrize("operation", ["say", "say.bytes", "say.text"])
async def test_result_of_every_kind_is_recorded(app, operation):
    provider(app)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        given = {"text": "Ünï"}
        made = await runtime.execute(connection.id, operation, given, idempotency_key="k1")
        again = await runtime.execute(connection.id, operation, given, idempotency_key="k1")
        assert (again.replayed, again.data) == (True, made.data)
        assert type(again.data) is type(made.data)


async def test_keyed_call_costs_two_units_more_and_a_replay_a_look(app, runtime):
    connection = await app.connect(runtime)
    await runtime.execute(connection.id, "me")
    seen = statements(runtime)

    def ran() -> tuple[int, list[str]]:
        """Commits and statements since the last look."""
        words, seen[:] = list(seen), []
        return words.count("COMMIT"), [word for word in words if word in ("INSERT", "UPDATE", "SELECT", "DELETE")]

    await create(runtime, connection)
    assert ran() == (2, ["INSERT", "UPDATE"])
    await create(runtime, connection)
    assert ran() == (1, ["INSERT", "SELECT"])
    app.sandbox.faults.set("items.create", "500")
    with pytest.raises(ServicesError):
        await create(runtime, connection, key="k2", retry=ONCE)
    assert ran() == (2, ["INSERT", "UPDATE"])
    await create(runtime, connection, key=None)
    assert seen == []


async def test_keyed_operation_gets_a_key_of_its_own_for_each_call(app):
    """P80: two calls that are meant to be two are two, although they are alike."""
    provider(app, keyed=True)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        made = [await create(runtime, connection, key=None) for _ in range(2)]
        assert names(app) == ["lamp", "lamp"]
        keys = [result.idempotency_key for result in made]
        assert len(set(keys)) == 2
        assert {json.loads(name.partition(":")[2])[2] for name, _ in ledger(app)} == set(keys)
        assert {key for _, key in app.sandbox.items._keys} == set(keys)
        again = await create(runtime, connection, key=keys[0])
        assert (again.replayed, again.data) == (True, made[0].data)


async def test_key_with_other_parameters_is_refused_and_nothing_is_sent(app, runtime, counted):
    connection = await app.connect(runtime)
    await create(runtime, connection)
    counted()
    with pytest.raises(IdempotencyMismatch, match="other parameters") as refused:
        await create(runtime, connection, "vase")
    assert refused.value.field == "idempotency_key"
    assert refused.value.metadata["idempotency_key"] == "k1"
    assert counted() == {}


async def test_parameters_are_compared_as_they_are_sent(app):
    provider(app, params=(Param("name", "body"), Param("tags", "body", "array"), Param("meta", "body", "object")))
    async with app.open() as runtime:
        connection = await app.connect(runtime)

        async def call(**params):
            return await runtime.execute(connection.id, "items.create", params, idempotency_key="k1")

        await call(name="lamp", tags=["a"], meta={"x": 1, "y": 2})
        assert (await call(meta={"y": 2, "x": 1}, tags=("a",), name="lamp")).replayed
        with pytest.raises(IdempotencyMismatch):
            await call(name="lamp", tags=["a"], meta={"x": 1})
        await runtime.execute(connection.id, "items.create", {"name": "vase"}, idempotency_key="k2")
        same = {"name": "vase", "tags": None}
        assert (await runtime.execute(connection.id, "items.create", same, idempotency_key="k2")).replayed


async def test_same_key_of_another_connection_or_operation_is_another_call(app):
    provider(app)
    spec = app.providers.specs["sandbox"]
    more = [evolve(ECHO[0], id=id) for id in ("a", 'a","b', "a:b")]
    app.set(operations=(*spec.operations, *more))
    async with app.open() as runtime:
        one, two = await app.connect(runtime, "u1"), await app.connect(runtime, "u2")
        for connection in (one, two):
            for operation, key in (("say", "k"), ("a", "b:k"), ("a:b", "k"), ("a", 'b","k'), ('a","b', "k")):
                result = await runtime.execute(connection.id, operation, {"text": "x"}, idempotency_key=key)
                assert not result.replayed
        assert len(ledger(app)) == 10


@pytest.mark.parametrize("key", ["", " k", "k ", "k" * 256, "k\r\nX-Evil: 1", "ключ", "k\x00"])
async def test_key_that_cannot_be_one_is_refused(app, runtime, counted, key):
    connection = await app.connect(runtime)
    counted()
    with pytest.raises(BadInput, match="idempotency key") as refused:
        await create(runtime, connection, key=key)
    assert refused.value.field == "idempotency_key"
    assert counted() == {}
    assert ledger(app) == []


async def test_call_that_is_wrong_in_itself_leaves_no_entry(app, runtime):
    connection = await app.connect(runtime, grants=("items.read",))
    with pytest.raises(PermissionDenied):
        await create(runtime, connection)
    with pytest.raises(BadInput):
        await runtime.execute(connection.id, "items.list", {"per_page": "many"}, idempotency_key="k1")
    assert ledger(app) == []


async def test_recorded_result_is_sealed(app, runtime):
    connection = await app.connect(runtime)
    await create(runtime, connection, "a name that nobody else may read")
    assert b"nobody else may read" not in app.content()
    assert (await create(runtime, connection, "a name that nobody else may read")).replayed


def forget_the_wait(runtime):
    """Ask again at once, although the provider wanted to be left alone for an hour."""
    runtime._core.buckets.clear()
    runtime._core.cache.clear()


# --- refusals and failures ------------------------------------------------------------------------------------------


async def test_refused_call_may_be_made_again_with_its_key(app, runtime, counted):
    """The provider said no: there is no result to keep, and what was wrong may be right now."""
    connection = await app.connect(runtime)
    for kind, error in (("429", RateLimited), ("html", ServicesError)):
        app.sandbox.faults.set("items.create", kind, retry_after=3600)
        with pytest.raises(error) as failed:
            await create(runtime, connection, key=kind)
        assert failed.value.metadata["idempotency_key"] == kind
        forget_the_wait(runtime)
    with pytest.raises(ProviderError) as refused:
        await create(runtime, connection, " ")
    assert refused.value.status == 422
    assert [status for _, status in ledger(app)] == ["failed", "running", "failed"]
    with pytest.raises(IdempotencyMismatch):  # corrected, it is another call
        await create(runtime, connection, "lamp")
    counted()
    assert not (await create(runtime, connection, key="429")).replayed
    assert counted() == {"items.create": 1}


async def test_error_of_a_generated_key_names_it_and_the_call_may_go_on_with_it(app):
    """P80: the same key after a failure as before it."""
    provider(app, keyed=True)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.faults.set("items.create", "500", times=None)
        with pytest.raises(ServicesError) as failed:
            await create(runtime, connection, key=None)
        app.sandbox.faults.clear()
        key = failed.value.metadata["idempotency_key"]
        made = await create(runtime, connection, key=key)
        assert (made.idempotency_key, made.replayed) == (key, False)


async def test_timed_out_call_goes_on_with_its_key_and_creates_once(app, runtime, counted):
    connection = await app.connect(runtime)
    app.sandbox.faults.set("items.create", "slow", seconds=30)
    with pytest.raises(ServicesError) as failed:
        await create(runtime, connection, deadline=0.3, retry=ONCE)
    assert failed.value.metadata["idempotency_key"] == "k1"
    assert names(app) == ["lamp"]
    made = await create(runtime, connection)
    assert (made.replayed, made.data["name"]) == (False, "lamp")
    assert dict(made.headers)["Idempotent-Replayed"] == "true"
    assert names(app) == ["lamp"]
    counted()
    assert (await create(runtime, connection)).data == made.data
    assert counted() == {}


async def test_refusal_before_the_key_is_looked_at_says_nothing_of_an_earlier_attempt(app, runtime):
    """The attempt that timed out may have been carried out still; a provider that forgets keys must be asked then."""
    connection = await app.connect(runtime)
    app.sandbox.faults.set("items.create", "slow", seconds=30)
    with pytest.raises(TransportError):
        await create(runtime, connection, deadline=0.3, retry=ONCE)
    app.sandbox.faults.set("items.create", "429", retry_after=3600)
    with pytest.raises(RateLimited):
        await create(runtime, connection)
    forget_the_wait(runtime)
    assert [status for _, status in ledger(app)] == ["resumed"]
    assert (await runtime.store_status()).problems == ()
    assert (await create(runtime, connection)).status == 201
    assert names(app) == ["lamp"]


async def test_cancelled_call_leaves_its_entry_to_the_next(app):
    """The runtime waits in the end for what is still to be written, however slow the database is."""
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        once = runtime._core.store.once

        async def extend(*args, **kwargs):
            await asyncio.sleep(0.3)
            await once.extend(*args, **kwargs)

        runtime._core.store.once = Beside(once, extend=extend)
        app.sandbox.faults.set("items.create", "slow", seconds=30)
        calling = asyncio.create_task(create(runtime, connection))
        while app.sandbox.requests["items.create"] == 0:
            await asyncio.sleep(0.01)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
    async with app.open() as runtime:
        assert (await create(runtime, connection, deadline=20)).data["name"] == "lamp"
    assert names(app) == ["lamp"]


async def test_bookkeeping_that_fails_does_not_cost_the_result_and_repeats_nothing(app, runtime, counted):
    connection = await app.connect(runtime)
    once = runtime._core.store.once

    async def finish(*args, **kwargs):
        raise StoreUnavailable("The database is away.")

    runtime._core.store.once = Beside(once, finish=finish)
    counted()
    made = await create(runtime, connection)
    assert (made.status, counted()) == (201, {"items.create": 1})
    runtime._core.store.once = once
    expire(app)
    again = await create(runtime, connection)
    assert (again.data, again.replayed) == (made.data, False)
    assert names(app) == ["lamp"]


async def test_nothing_is_sent_where_the_result_could_not_be_sealed(app, runtime, counted):
    connection = await app.connect(runtime)
    await runtime.execute(connection.id, "me")
    sealer = runtime._core.sealer

    async def seal(plaintext, binding):
        raise BackendUnavailable("The key service is away.")

    runtime._core.sealer = Beside(sealer, seal=seal)
    counted()
    with pytest.raises(BackendUnavailable):
        await create(runtime, connection)
    assert (counted(), ledger(app)) == ({}, [])


async def test_result_that_cannot_be_kept_is_known_to_have_been(app, caplog):
    """Too large, or the key service went away meanwhile: who asks again is told, and nothing is done twice."""
    provider(app)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        large = {"text": "x" * 300_000}
        assert (await runtime.execute(connection.id, "say", large, idempotency_key="k1")).status == 200
        sealer = runtime._core.sealer

        async def seal(plaintext, binding):
            if plaintext:
                raise BackendUnavailable("The key service is away.")
            return await sealer.seal(plaintext, binding)

        runtime._core.sealer = Beside(sealer, seal=seal)
        assert (await create(runtime, connection)).status == 201
        before = app.sandbox.requests.total()
        for call in (
            runtime.execute(connection.id, "say", large, idempotency_key="k1"),
            create(runtime, connection),
        ):
            with pytest.raises(ResultNotKept, match="carried out"):
                await call
        assert app.sandbox.requests.total() == before
    assert "not kept" in caplog.text


# --- at once --------------------------------------------------------------------------------------------------------


async def test_of_two_calls_at_once_one_is_made_and_both_get_its_result(app, counted):
    async with app.open() as one, app.open() as two:
        connection = await app.connect(one)
        await two.execute(connection.id, "me")
        app.sandbox.faults.set("items.create", "slow", seconds=0.3)
        counted()
        made = await asyncio.gather(*(create(runtime, connection) for runtime in (one, two, one)))
        assert counted() == {"items.create": 1}
        assert sorted(result.replayed for result in made) == [False, True, True]
        assert len({result.data["id"] for result in made}) == 1


async def test_call_that_has_no_time_to_wait_is_told_that_another_runs(app):
    """The entry is held for as long as the first call goes on, however short the lease is."""
    async with app.open(settings={"worker.lease": 0.15}) as one, app.open() as two:
        connection = await app.connect(one)
        await two.execute(connection.id, "me")
        app.sandbox.faults.set("items.create", "slow", seconds=1.5)
        first = asyncio.create_task(create(one, connection))
        while app.sandbox.requests["items.create"] == 0:
            await asyncio.sleep(0.01)
        with pytest.raises(OperationRunning) as running:
            await create(two, connection, deadline=0.6)
        assert running.value.metadata["retry_in"] > 0
        assert running.value.metadata["idempotency_key"] == "k1"
        assert not (await first).replayed
        assert app.sandbox.requests["items.create"] == 1


# --- a provider that honours no key ---------------------------------------------------------------------------------


async def test_key_that_the_provider_does_not_know_is_kept_here_alone(app, counted):
    provider(app, idempotency_header=None)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        said = await runtime.execute(connection.id, "say.unheard", {"text": "x"}, idempotency_key="k-0")
        assert "k-0" not in json.dumps(said.data["headers"])
        counted()
        made = await create(runtime, connection)
        again = await create(runtime, connection)
        assert counted() == {"items.create": 1}
        assert (made.replayed, again.replayed, again.data) == (False, True, made.data)
        assert made.idempotency_key == "k1"


async def test_unknown_outcome_stays_unknown_where_nobody_can_tell(app, counted):
    """P81: what may have been carried out is not sent again, and a key of ours does not change that."""
    provider(app, idempotency_header=None)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.faults.set("items.create", "slow", seconds=30)
        with pytest.raises(TransportError):
            await create(runtime, connection, deadline=0.3, retry=ONCE)
        counted()
        for _ in range(2):
            with pytest.raises(OutcomeUnknown) as unknown:
                await create(runtime, connection)
            assert unknown.value.metadata["idempotency_key"] == "k1"
        assert counted() == {}
        assert names(app) == ["lamp"]


@pytest.mark.parametrize("kind", ["429", "unsent"])
async def test_call_that_was_turned_away_is_made_again_without_a_question(app, kind):
    provider(app, idempotency_header=None)
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        real = runtime._core.transport

        async def unsent(request, **options):
            raise ConnectFailed("Nobody listens there.")

        if kind == "429":
            app.sandbox.faults.set("items.create", "429", times=None, retry_after=3600)
        else:
            runtime._core.transport = Beside(real, send=unsent)
        with pytest.raises((RateLimited, ConnectFailed)):
            await create(runtime, connection)
        app.sandbox.faults.clear()
        forget_the_wait(runtime)
        runtime._core.transport = real
        assert (await create(runtime, connection)).status == 201
        assert names(app) == ["lamp"]


class ByName(ProviderAdapter):
    """Looks for the item among those that the provider has; the name is the application's own id of it."""

    asked: list[Any] = []  # noqa: RUF012

    def reconcile(self, call):
        self.asked.append(call)

        def look():
            found = yield Send(request=HttpRequest("GET", f"{call.base_url}/items?per_page=100&page=2"))
            for item in json.loads(found.body):
                if item["name"] == call.params["name"]:
                    return Answer(item, found)
            return None

        return look()


class Shy(ProviderAdapter):
    def reconcile(self, call):
        def look():
            raise OutcomeUnknown("It takes a day until it shows.")
            yield

        return look()


@pytest.mark.parametrize("fault", ["slow", "500"])
async def test_unknown_outcome_is_reconciled_before_anything_is_sent_again(app, counted, monkeypatch, fault):
    """Found, it is the result; not found, it is sent."""
    monkeypatch.setitem(sys.modules, "made_adapters", sys.modules[__name__])
    monkeypatch.setattr(ByName, "asked", [])
    provider(app, idempotency_header=None)
    app.set(adapter=Ref("made_adapters:ByName"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.faults.set("items.create", fault, seconds=30)
        with pytest.raises((TransportError, ProviderUnavailable)):
            await create(runtime, connection, deadline=0.5, retry=ONCE)
        assert ByName.asked == []
        counted()
        made = await create(runtime, connection)
        assert counted() == ({"items.list": 1} if fault == "slow" else {"items.list": 1, "items.create": 1})
        assert (made.data["name"], made.replayed, made.idempotency_key) == ("lamp", False, "k1")
        (asked,) = ByName.asked
        assert (asked.operation_id, asked.key, asked.params) == ("items.create", "k1", {"name": "lamp"})
        assert asked.seconds > 0
        again = await create(runtime, connection)
        assert (again.replayed, again.data) == (True, made.data)
        assert names(app) == ["lamp"]


async def test_reconciliation_that_cannot_tell_leaves_the_outcome_unknown(app, counted, monkeypatch):
    monkeypatch.setitem(sys.modules, "made_adapters", sys.modules[__name__])
    provider(app, idempotency_header=None)
    app.set(adapter=Ref("made_adapters:Shy"))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.faults.set("items.create", "slow", seconds=30)
        with pytest.raises(TransportError):
            await create(runtime, connection, deadline=0.3, retry=ONCE)
        counted()
        for _ in range(2):
            with pytest.raises(OutcomeUnknown, match="takes a day"):
                await create(runtime, connection)
        assert counted() == {}


async def test_key_that_the_provider_has_forgotten_is_not_relied_on(app, counted):
    provider(app)
    app.set(api=evolve(app.providers.specs["sandbox"].api, idempotency_seconds=0.001))
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.faults.set("items.create", "slow", seconds=30)
        with pytest.raises(TransportError):
            await create(runtime, connection, deadline=0.3, retry=ONCE)
        counted()
        with pytest.raises(OutcomeUnknown):
            await create(runtime, connection)
        assert counted() == {}
