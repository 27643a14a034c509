"""Many calls at once: bounded, in order, each with its own outcome, and cancelled cleanly."""

from __future__ import annotations

import asyncio
import inspect

import attrs
import pytest

from go_services_core import Runtime
from go_services_core.calls import CallOutcome, OperationRequest
from go_services_core.errors import BadInput, ProviderError, ProviderNotFoundAnswer, ServicesError, UnknownParameter

from .list_server import TOTAL, connect


@pytest.fixture
async def runtime(lists_app):
    async with lists_app() as found:
        yield found


@pytest.fixture
async def connection(runtime):
    return await connect(runtime)


def get(connection, number):
    return OperationRequest(connection_id=connection.id, operation="one.get", params={"id": str(number)})


async def gathered(found):
    return [outcome async for outcome in found]


async def test_outcomes_come_in_the_order_of_the_calls_and_one_failure_stops_no_other(runtime, connection):
    numbers = [3, TOTAL + 1, 5, 0, TOTAL, 22]
    calls = [get(connection, number) for number in numbers]
    calls.insert(2, OperationRequest(connection_id=connection.id, operation="one.get", params={"idd": "1"}))
    calls.append(OperationRequest(connection_id=connection.id, method="GET", path="/csv"))
    outcomes = await gathered(runtime.batch(calls))
    assert [outcome.index for outcome in outcomes] == list(range(8))
    assert [outcome.ok for outcome in outcomes] == [True, False, False, True, True, False, True, True]
    assert [outcomes[place].unwrap().data["id"] for place in (0, 3, 4, 6)] == [3, 5, 0, 22]
    assert outcomes[7].unwrap().data == "a,b"
    assert isinstance(outcomes[1].error, ProviderNotFoundAnswer)
    with pytest.raises(UnknownParameter):
        outcomes[2].unwrap()


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_no_more_than_so_many_run_at_once(runtime, connection, server, concurrency):
    server.delay = 0.02
    outcomes = await gathered(runtime.batch([get(connection, one) for one in range(20)], concurrency=concurrency))
    assert all(outcome.ok for outcome in outcomes)
    assert server.most_at_once == concurrency


@pytest.mark.parametrize("kind", ["iterable", "async iterable"])
async def test_calls_are_taken_as_they_are_needed(runtime, connection, kind):
    taken = []

    def numbers():
        for number in range(20):
            taken.append(number)
            yield get(connection, number)

    async def numbers_too():
        for call in numbers():
            yield call

    found = runtime.batch(numbers() if kind == "iterable" else numbers_too(), concurrency=3)
    for told in range(1, 21):
        await anext(found)
        await asyncio.sleep(0.01)
        assert len(taken) <= told + 3
    assert [outcome async for outcome in found] == []


async def test_a_slow_source_does_not_hold_back_outcomes(runtime, connection):
    more = asyncio.Event()

    async def source():
        yield get(connection, 1)
        await more.wait()
        yield get(connection, 2)

    found = runtime.batch(source())
    assert (await asyncio.wait_for(anext(found), 10)).ok
    more.set()
    assert (await asyncio.wait_for(anext(found), 10)).unwrap().data["id"] == 2
    await found.aclose()


async def test_stop_on_begins_no_further_call_and_tells_those_that_ran(runtime, connection, server):
    server.delay = 0.02
    calls = [get(connection, TOTAL if number == 4 else number) for number in range(20)]
    outcomes = await gathered(runtime.batch(calls, concurrency=3, stop_on=ProviderNotFoundAnswer))
    assert 5 <= len(outcomes) <= 7
    assert not outcomes[4].ok
    assert len(server.asked) == server.ended + 1 == len(outcomes)
    everything = await gathered(runtime.batch(calls, stop_on=(UnknownParameter, BadInput)))
    assert len(everything) == 20
    first = await gathered(runtime.batch([get(connection, TOTAL)] * 5, concurrency=1, stop_on=(ProviderError,)))
    assert len(first) == 1


async def test_cancelling_the_consumer_cancels_every_call(runtime, connection, server):
    server.delay = 30
    ended = asyncio.Event()

    async def source():
        try:
            while True:
                yield get(connection, 1)
        finally:
            ended.set()

    task = asyncio.create_task(gathered(runtime.batch(source(), concurrency=4)))
    async with asyncio.timeout(10):
        while server.at_once < 4:
            await asyncio.sleep(0.01)
    before = asyncio.all_tasks()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert not [
        one for one in asyncio.all_tasks() & before if one is not asyncio.current_task() and "_one" in repr(one)
    ]
    assert server.ended == 0


async def test_what_the_source_raises_comes_after_the_outcomes_before_it(runtime, connection):
    def source():
        yield get(connection, 1)
        yield get(connection, 2)
        raise LookupError("no more")

    seen = []
    with pytest.raises(LookupError):
        async for outcome in runtime.batch(source()):
            seen.append(outcome)
    assert [outcome.unwrap().data["id"] for outcome in seen] == [1, 2]


@pytest.mark.parametrize("concurrency", [0, -1, True])
async def test_concurrency_below_one_is_refused(runtime, concurrency):
    with pytest.raises(BadInput, match="concurrency"):
        await gathered(runtime.batch([], concurrency=concurrency))


async def test_nothing_is_done_for_nothing_and_what_is_no_request_is_an_outcome(runtime):
    assert await gathered(runtime.batch([])) == []
    (outcome,) = await gathered(runtime.batch(["one.get"]))
    assert isinstance(outcome.error, BadInput)


def test_request_has_the_arguments_of_execute():
    given = [name for name in inspect.signature(Runtime.execute).parameters if name != "self"]
    assert [one.name for one in attrs.fields(OperationRequest)] == given
    defaults = {name: one.default for name, one in inspect.signature(Runtime.execute).parameters.items()}
    for one in attrs.fields(OperationRequest):
        assert one.default == defaults[one.name] or one.name == "connection_id"
    assert "hidden" not in repr(OperationRequest(connection_id="c", params={"a": "hidden"}, body="hidden"))
    assert CallOutcome(index=0, error=ServicesError("x")).ok is False
