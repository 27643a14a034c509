"""Requests that want the handler's own answer: verified, answered once, replayed, tried again, given up."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from attrs import evolve

from go_services_core import HttpResponse, InboundRequest, Ref, hookimpl
from go_services_core.clock import uuid7
from go_services_core.errors import (
    BadInput,
    Conflict,
    HandlerFailed,
    HandlerTimeout,
    IdempotencyMismatch,
    NotFound,
    ProviderNotFound,
    RequestExhausted,
    RequestRunning,
    ServicesError,
    WebhookRejected,
)
from go_services_core.handled import Handled, Position
from go_services_core.model import Drained, Event, NewJob, Scope
from go_services_core.protocols import Challenge, Rejected, Verified
from go_services_core.specs import SurfaceSpec
from go_services_store_sql.statement import Statement

from .refresh_workers import line
from .surface_workers import receiving
from .test_refresh_kills import on_disk

__all__ = ["on_disk"]

BODY = b'{"type": "deploy"}'


def counting(*answers):
    """A handler that gives, or raises, one after another; and how often it ran."""
    ran = []

    async def handler(request, context):
        ran.append(request)
        answer = answers[min(len(ran), len(answers)) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return handler, ran


def told(runtime, *jobs):
    now = runtime._core.clock.now()
    event = Event(
        id=uuid7(runtime._core.clock),
        name="deploy.asked",
        provider_id="sandbox",
        scope=Scope("org", "o"),
        connection_id=None,
        occurred_at=now,
        payload={},
    )
    return Handled(
        events=(event,), jobs=tuple(NewJob(id=uuid7(runtime._core.clock), kind=kind, created_at=now) for kind in jobs)
    )


class TokenVerifier:
    """A vendor whose requests have no id: their senders give a key."""

    def __init__(self, record):
        pass

    def verify(self, request, *, secrets, now):
        yield from ()
        if request.header("x-token") == "challenge":
            return Challenge(body=b"echo")
        return Verified(delivery_id="", event="e") if request.header("x-token") else Rejected(reason="no token")


def keyed(**headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return InboundRequest("POST", "/x", (("x-token", "t"), *named.items()), BODY)


async def test_answer_is_the_handlers_and_is_given_again_without_running_it(either):
    async with either.open() as runtime:
        response = HttpResponse(201, (("Content-Type", "text/plain"), ("X-N", "1"), ("X-N", "2")), b"\x00deployed")
        handler, ran = counting(response)
        await runtime.on_request("command", "sandbox", handler)
        sent = either.webhook(BODY)
        assert await runtime.receive("command", "sandbox", sent) == response
        assert await runtime.receive("command", "sandbox", sent) == response
        assert ran == [sent]
        other = either.webhook(BODY, id="msg_2")
        assert await runtime.receive("command", "sandbox", other) == response
        assert len(ran) == 2


async def test_recorded_answer_is_sealed(app):
    async with app.open() as runtime:
        handler, _ = counting(HttpResponse(200, (), b"the-answer-in-clear"))
        await runtime.on_request("command", "sandbox", handler)
        await runtime.receive("command", "sandbox", app.webhook(BODY))
        assert b"the-answer-in-clear" not in app.content()
        assert app.rows("SELECT kind, status, result IS NOT NULL FROM service_idempotency") == [("command", "done", 1)]


async def test_request_that_nobody_answers_is_told_so_before_anything_is_kept(app):
    """Behaviour 27 item 15: where the handler comes later, the same request reaches it."""
    async with app.open() as runtime:
        sent = app.webhook(BODY)
        with pytest.raises(NotFound, match="Nobody answers on the surface command of sandbox") as caught:
            await runtime.receive("command", "sandbox", sent)
        assert caught.value.status == 404
        assert app.rows("SELECT count(*) FROM service_idempotency") == [(0,)]
        handler, ran = counting(HttpResponse(200))
        await runtime.on_request("command", "sandbox", handler)
        await runtime.receive("command", "sandbox", sent)
        assert len(ran) == 1


async def test_request_that_is_not_authentic_runs_nothing_and_keeps_nothing(app):
    async with app.open() as runtime:
        handler, ran = counting(HttpResponse(200))
        await runtime.on_request("command", "sandbox", handler)
        forged = evolve(app.webhook(BODY), body=b'{"type": "other"}')
        with pytest.raises(WebhookRejected) as caught:
            await runtime.receive("command", "sandbox", forged)
        assert caught.value.status == 401
        assert ran == []
        assert app.rows("SELECT count(*) FROM service_idempotency") == [(0,)]


async def test_handlers_are_of_a_provider_and_a_surface(either):
    async with either.open() as runtime:
        for surface, provider_id, body in (
            ("command", "sandbox", b"own"),
            ("command", None, b"any"),
            ("interaction", "sandbox", b"interaction"),
        ):
            await runtime.on_request(surface, provider_id, counting(HttpResponse(200, (), body))[0])
        either.set("keyed", webhook=either.providers.specs["sandbox"].webhook)
        sent = either.webhook(BODY)
        assert (await runtime.receive("command", "sandbox", sent)).body == b"own"
        assert (await runtime.receive("interaction", "sandbox", sent)).body == b"interaction"
        with pytest.raises(NotFound):
            await runtime.receive("event_callback", "sandbox", sent)
        with pytest.raises(BadInput, match="Surfaces: webhook, command"):
            await runtime.receive("mail", "sandbox", sent)
        with pytest.raises(ProviderNotFound):
            await runtime.receive("command", "nobody", sent)
        with pytest.raises(Conflict, match="a handler already"):
            await runtime.on_request("command", "sandbox", counting(HttpResponse(200))[0])
        with pytest.raises(ProviderNotFound):
            await runtime.on_request("command", "nobody", counting(HttpResponse(200))[0])
    async with either.open() as runtime:
        await runtime.on_request("command", None, counting(HttpResponse(200, (), b"any"))[0])
        assert (await runtime.receive("command", "keyed", either.webhook(BODY, id="k"))).body == b"any"


async def test_key_is_the_schemes_or_in_a_header_and_one_is_needed(either, monkeypatch):
    async with either.open() as runtime:
        monkeypatch.setitem(runtime._core.verifiers, "sandbox", TokenVerifier(None))
        handler, ran = counting(HttpResponse(200))
        await runtime.on_request("command", "sandbox", handler)
        with pytest.raises(BadInput, match="no key") as caught:
            await runtime.receive("command", "sandbox", keyed())
        assert caught.value.status == 400
        for header in ("idempotency_key", "X_Idempotency_Key", "x_message_id"):
            for _ in range(2):
                await runtime.receive("command", "sandbox", keyed(**{header: f"by {header}"}))
        assert len(ran) == 3
        challenge = InboundRequest("POST", "/x", (("x-token", "challenge"),), b"")
        assert (await runtime.receive("command", "sandbox", challenge)).body == b"echo"
        assert len(ran) == 3


async def test_key_of_another_request_is_refused(either, monkeypatch):
    async with either.open() as runtime:
        monkeypatch.setitem(runtime._core.verifiers, "sandbox", TokenVerifier(None))
        handler, ran = counting(HttpResponse(200))
        await runtime.on_request("command", "sandbox", handler)
        await runtime.receive("command", "sandbox", keyed(idempotency_key="k"))
        with pytest.raises(IdempotencyMismatch):
            await runtime.receive("command", "sandbox", evolve(keyed(idempotency_key="k"), body=b"other"))
        assert len(ran) == 1


async def test_request_that_is_being_answered_is_a_conflict_and_not_an_answer(either):
    """Behaviour 27 item 10: a 200 would tell the sender to stop."""
    async with either.open() as runtime:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request, context):
            began.set()
            await go_on.wait()
            return HttpResponse(200, (), b"done")

        await runtime.on_request("command", "sandbox", slow)
        sent = either.webhook(BODY)
        first = asyncio.create_task(runtime.receive("command", "sandbox", sent))
        await began.wait()
        with pytest.raises(RequestRunning) as caught:
            await runtime.receive("command", "sandbox", sent)
        assert (caught.value.status, caught.value.retryable) == (409, True)
        assert 1 <= caught.value.retry_after <= 61
        go_on.set()
        assert (await first).body == b"done"
        assert (await runtime.receive("command", "sandbox", sent)).body == b"done"


@pytest.mark.parametrize("failure", [ValueError("no"), HttpResponse(502, (), b"later")])
async def test_failed_request_is_run_again_at_once_and_given_up_after_so_many_attempts(either, failure):
    async with either.open() as runtime:
        handler, ran = counting(failure)
        await runtime.on_request("command", "sandbox", handler)
        sent = either.webhook(BODY)
        for _ in range(5):
            if isinstance(failure, HttpResponse):
                assert await runtime.receive("command", "sandbox", sent) == failure
            else:
                with pytest.raises(HandlerFailed, match="command failed: ValueError") as raised:
                    await runtime.receive("command", "sandbox", sent)
                assert (raised.value.status, raised.value.__cause__) == (502, failure)
        for _ in range(2):
            with pytest.raises(RequestExhausted) as caught:
                await runtime.receive("command", "sandbox", sent)
        assert caught.value.status == 410
        assert len(ran) == 5


async def test_request_that_failed_may_succeed_and_is_then_recorded(either):
    async with either.open() as runtime:
        handler, ran = counting(ValueError(), HttpResponse(500), HttpResponse(422, (), b"wrong"))
        await runtime.on_request("command", "sandbox", handler)
        sent = either.webhook(BODY)
        with pytest.raises(HandlerFailed):
            await runtime.receive("command", "sandbox", sent)
        assert (await runtime.receive("command", "sandbox", sent)).status == 500
        for _ in range(3):
            assert (await runtime.receive("command", "sandbox", sent)).body == b"wrong"
        assert len(ran) == 3


async def test_handler_that_hangs_ends_typed_and_frees_the_key(live):
    async with live.open(settings={"worker.answer_seconds": 0.05}) as runtime:

        async def hanging(request, context):
            await asyncio.sleep(3600)

        await runtime.on_request("command", "sandbox", hanging)
        sent = live.webhook(BODY)
        for _ in range(2):
            with pytest.raises(HandlerTimeout, match="command took longer") as caught:
                await runtime.receive("command", "sandbox", sent)
        assert caught.value.status == 503


async def test_request_whose_sender_leaves_frees_its_key(either):
    async with either.open() as runtime:
        began = asyncio.Event()

        async def hanging(request, context):
            began.set()
            await asyncio.sleep(3600)

        await runtime.on_request("command", "sandbox", hanging)
        sent = either.webhook(BODY)
        for _ in range(2):
            began.clear()
            task = asyncio.create_task(runtime.receive("command", "sandbox", sent))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_what_follows_commits_with_the_answer_and_once(either):
    """A vendor that wants its answer within seconds gets it; an event and a job do the rest."""
    async with either.open() as runtime:
        seen = []

        async def deploy(event, context):
            seen.append(event.name)

        async def answer(request, context):
            return HttpResponse(200, (), b"Deploying."), told(runtime, "connections.revoke")

        await runtime.on("deploy.*", deploy, name="deploy")
        await runtime.on_request("command", "sandbox", answer)
        for _ in range(2):
            assert (await runtime.receive("command", "sandbox", either.webhook(BODY))).body == b"Deploying."
        queues = runtime._core.store.queues
        assert [item.name for item in (await queues.list("jobs")).items] == ["connections.revoke"]
        (claim,) = await queues.claim("jobs", owner="w", lease=30, limit=9, kinds=["connections.revoke"])
        await queues.settle(claim, "done")
        assert await runtime.drain() == Drained(events=1)
        assert seen == ["deploy.asked"]


@pytest.mark.parametrize(
    "answered",
    [
        lambda runtime: (HttpResponse(500), told(runtime)),
        lambda runtime: (HttpResponse(200), Handled(position=Position("k", 1))),
        lambda runtime: HttpResponse(200, (), b"x" * (256 * 1024)),
    ],
    ids=["failure with an effect", "position", "too large"],
)
async def test_answer_that_cannot_be_kept_is_refused_and_has_no_effect(either, answered):
    async with either.open() as runtime:

        async def answer(request, context):
            return answered(runtime)

        await runtime.on_request("command", "sandbox", answer)
        with pytest.raises(BadInput):
            await runtime.receive("command", "sandbox", either.webhook(BODY))
        assert (await runtime._core.store.queues.list("outbox")).items == ()


async def test_webhook_without_a_handler_goes_to_the_inbox_and_with_one_is_answered_by_it(either):
    async with either.open() as runtime:
        sent = either.webhook(BODY)
        assert (await runtime.receive("webhook", "sandbox", sent)).status == 200
        assert len((await runtime._core.store.queues.list("inbox")).items) == 1
        handler, ran = counting(HttpResponse(200, (), b"mine"))
        await runtime.on_request("webhook", "sandbox", handler)
        assert (await runtime.receive("webhook", "sandbox", either.webhook(BODY, id="msg_2"))).body == b"mine"
        assert len(ran) == 1
        assert len((await runtime._core.store.queues.list("inbox")).items) == 1


async def test_context_has_the_connection_of_the_url_and_what_was_verified(app):
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        seen = []

        async def answer(request, context):
            seen.append((context.connection.id, context.verified.event, await context.request() == request))
            assert context.runtime is runtime
            return HttpResponse(200)

        await runtime.on_request("command", "sandbox", answer)
        sent = app.webhook(BODY)
        await runtime.receive("command", "sandbox", sent, connection_id=connection.id)
        assert seen == [(connection.id, "deploy", True)]
        await runtime.on_request("interaction", None, counting(HttpResponse(200))[0])
        with pytest.raises(WebhookRejected):
            await runtime.receive("interaction", "keyed", sent, connection_id=connection.id)


ANSWER = HttpResponse(200, (), b"from a plugin")


async def from_plugin(request, context):
    return ANSWER


class Plugin:
    def __init__(self, *specs):
        self.specs = specs

    @hookimpl
    def gs_inbound_surfaces(self):
        return self.specs


async def test_plugins_bring_handlers(either, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "made_surfaces", sys.modules[__name__])
    handler = Ref("made_surfaces:from_plugin")
    spec = SurfaceSpec(id="deploys", surface="command", provider_id="sandbox", handler=handler)
    async with either.open(plugins={"made_surfaces": Plugin(spec)}) as runtime:
        assert await runtime.receive("command", "sandbox", either.webhook(BODY)) == ANSWER
    with pytest.raises(Conflict):
        async with either.open(plugins={"made_surfaces": Plugin(spec, evolve(spec, id="again"))}):
            pass
    with pytest.raises(ValueError, match="surface"):
        SurfaceSpec(id="x", surface="mail", handler=handler)


async def test_key_of_a_killed_process_is_taken_over_when_its_lease_ends(on_disk):
    """P66: until then it is refused as running, and its effect is there once."""
    app = on_disk
    async with app.open():
        app.rows("CREATE TABLE effects (id TEXT NOT NULL)")
    sent = app.webhook(BODY)
    async with receiving(app, sent, "hold") as dying, receiving(app, sent) as heir:
        for process in (dying, heir):
            assert await line(process) == "ready"
        await tell(dying)
        assert await line(dying) == "running"
        os.kill(dying.pid, signal.SIGKILL)
        await tell(heir)
        assert await line(heir) == f'[409, "{RequestRunning.code}"]'
        answer = "[409"
        async with asyncio.timeout(30):
            while answer.startswith("[409"):
                await asyncio.sleep(0.1)
                await tell(heir)
                answer = await line(heir)
        assert answer == "running"
        assert await line(heir) == f'[200, "{heir.pid}"]'
        assert app.rows("SELECT id FROM effects") == [(str(heir.pid),)]


async def test_of_processes_with_the_same_request_one_runs_it(on_disk, chaos):
    app = on_disk
    async with app.open():
        app.rows("CREATE TABLE effects (id TEXT NOT NULL)")
    sent = app.webhook(BODY)
    async with receiving(app, sent) as one, receiving(app, sent) as two:
        for process in (one, two):
            assert await line(process) == "ready"
        await asyncio.gather(tell(one), tell(two))
        said = [await line(one), await line(two)]
        (runner,) = [process for process, word in zip((one, two), said, strict=True) if word == "running"]
        assert [word for word in said if word != "running"] == [f'[409, "{RequestRunning.code}"]']
        assert await line(runner) == f'[200, "{runner.pid}"]'
        for process in (one, two):
            await tell(process)
            assert await line(process) == f'[200, "{runner.pid}"]'
        assert app.rows("SELECT id FROM effects") == [(str(runner.pid),)]


async def tell(process):
    process.stdin.write(b"go\n")
    await process.stdin.drain()


async def test_effect_that_cannot_commit_is_no_answer(app):
    """The record of the answer and what follows are one commit: without the one there is not the other."""
    async with app.open() as runtime:
        app.rows("CREATE TABLE effects (id TEXT PRIMARY KEY)")
        app.rows("INSERT INTO effects VALUES ('once')")
        effect = Statement("INSERT INTO effects (id) VALUES ('once')")

        def work():
            yield from effect()

        async def answer(request, context):
            return HttpResponse(200), Handled(work=work)

        await runtime.on_request("command", "sandbox", answer)
        with pytest.raises(ServicesError):
            await runtime.receive("command", "sandbox", app.webhook(BODY))
        assert app.rows("SELECT status, result FROM service_idempotency") == [("failed", None)]
