"""Real processes that bring the same callback, or poll the same device attempt, on both databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from attrs import define, field

from go_services_core import ApiSpec, DeviceCode, Identity, ProviderSpec, Scope, hookimpl
from go_services_core.testing.rawserver import http_answer, raw_server

from .callback_workers import callback_worker, tell, with_identity
from .conftest import App
from .refresh_workers import line
from .test_refresh_kills import on_disk  # noqa: F401  fixtures

pytestmark = pytest.mark.chaos


async def test_of_callbacks_in_three_processes_one_connects(on_disk: App, chaos: Any) -> None:  # noqa: F811
    """P03, P04: the code is sent once; the others are told that the state was used."""
    app = on_disk
    async with app.open() as runtime, AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(callback_worker(with_identity(app))) for _ in range(3)]
        for round in range(chaos.rounds(4, 50)):
            start, params = await app.begin(runtime, f"u{round}")
            before = app.sandbox.requests["token"]
            for worker in workers:
                tell(worker, "complete", params, start.binding.reveal())
            said = [await line(worker) for worker in workers]
            (connection,) = (await runtime.connections(scope=Scope("user", f"u{round}"))).items
            assert sorted(said) == sorted([connection.id, "StateUsed", "StateUsed"]), f"round {round}"
            assert app.sandbox.requests["token"] - before == 1, f"round {round}"


async def test_attempt_of_a_process_that_ended_is_finished_by_another(on_disk: App) -> None:  # noqa: F811
    """P04."""
    app = on_disk
    async with app.open() as runtime:
        start, params = await app.begin(runtime, session="session-of-the-person-1")
    async with callback_worker(with_identity(app)) as worker:
        tell(worker, "complete", params, "session-of-somebody-else")
        assert await line(worker) == "BindingMismatch"
        tell(worker, "complete", params, start.binding.reveal())
        made = await line(worker)
    async with app.open() as runtime:
        assert (await runtime.execute(made, "me")).status == 200


# --- device --------------------------------------------------------------------------------------------------------


@define
class Devices:
    """A server for device authorization (RFC 8628) whose codes work once."""

    url: str = ""
    consented: bool = False
    questions: list[str] = field(factory=list)
    given: set[str] = field(factory=set)
    codes: int = 0

    async def answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        if head.startswith(b"GET /me "):
            status, answer = 200, {"id": "alice"}
        elif head.startswith(b"POST /device "):
            self.codes += 1
            said = {"device_code": f"dc-{self.codes}", "user_code": "ABCD", "verification_uri": f"{self.url}/go"}
            status, answer = 200, {**said, "expires_in": 600, "interval": 0.05}
        else:
            code = body.decode().partition("device_code=")[2].partition("&")[0]
            self.questions.append(code)
            await asyncio.sleep(0.02)
            if not self.consented:
                status, answer = 400, {"error": "authorization_pending"}
            elif code in self.given:
                status, answer = 400, {"error": "invalid_grant"}
            else:
                self.given.add(code)
                status, answer = 200, {"access_token": f"at-{code}", "token_type": "bearer", "expires_in": 3600}
        writer.write(http_answer(status, json.dumps(answer).encode(), (("Content-Type", "application/json"),)))
        await writer.drain()


@asynccontextmanager
async def devices(app: App) -> AsyncIterator[tuple[Devices, dict[str, Any]]]:
    """The server, registered with the application as ``tv``; and the settings for a worker."""
    made = Devices()
    async with raw_server(made.answer) as running:
        made.url = running.url("").rstrip("/")
        record = {"device_authorization_url": f"{made.url}/device", "token_url": f"{made.url}/token"}
        whose = {"api": {"base_url": made.url}, "identity": {"url": "/me"}}
        tv = ProviderSpec(
            id="tv",
            name="TV",
            auth=DeviceCode(**record),
            api=ApiSpec(**whose["api"]),
            identity=Identity(**whose["identity"]),
        )
        app.plugins["tv"] = _Provided(tv)
        client = {"client_id": "c", "client_secret": "s-0123456789"}
        app.settings["providers.tv"] = client
        app.settings["egress.allow"] = {**app.settings["egress.allow"], "tv": [made.url.removeprefix("http://")]}
        settings = with_identity(app)
        settings["providers.tv"] = {**client, **whose, "auth": {"kind": "oauth2_device_code", **record}}
        settings["egress.allow.tv"] = app.settings["egress.allow"]["tv"]
        yield made, settings


class _Provided:
    GS_CONTRACT = 1

    def __init__(self, spec: ProviderSpec) -> None:
        self.spec = spec

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return [self.spec]


async def test_of_polls_in_three_processes_one_connects_and_each_code_is_spent_once(
    on_disk: App,  # noqa: F811
    chaos: Any,
) -> None:
    """RFC 8628 across workers: never two questions at once for one attempt, whoever asks."""
    app = on_disk
    async with devices(app) as (tv, settings), app.open() as runtime, AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(callback_worker(settings)) for _ in range(3)]
        for round in range(chaos.rounds(4, 50)):
            tv.consented = False
            start = await runtime.begin_device("tv", scope=Scope("user", f"u{round}"))
            made: list[str] = []
            said: list[str] = []
            for turn in range(200):
                tv.consented = turn >= 2
                await asyncio.sleep(0.06 if turn < 3 else 0.01)
                for worker in workers:
                    tell(worker, "poll_device", start.attempt_id, start.binding.reveal())
                said = [await line(worker) for worker in workers]
                made = [word for word in said if word not in ("AuthorizationPending", "StateUsed")]
                if made:
                    break
            assert len(made) == 1, f"round {round}: {said}"
            (connection,) = (await runtime.connections(scope=Scope("user", f"u{round}"))).items
            assert connection.id == made[0]
            assert (await runtime.token(connection.id)).reveal() == f"at-dc-{tv.codes}"
            for worker in workers:
                tell(worker, "poll_device", start.attempt_id, start.binding.reveal())
            assert [await line(worker) for worker in workers] == ["StateUsed"] * 3
        assert len(tv.given) == tv.codes


async def test_device_attempt_of_a_process_that_ended_is_finished_by_another(on_disk: App) -> None:  # noqa: F811
    app = on_disk
    async with devices(app) as (tv, settings):
        async with app.open() as runtime:
            shown: asyncio.Queue[Any] = asyncio.Queue()
            waiting = asyncio.create_task(
                runtime.connect_device("tv", scope=Scope("user", "u1"), show=shown.put_nowait)
            )
            start = await asyncio.wait_for(shown.get(), 20)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        tv.consented = True
        async with callback_worker(settings) as worker:
            tell(worker, "poll_device", start.attempt_id, "wrong")
            assert await line(worker) == "BindingMismatch"
            said = "AuthorizationPending"
            for _ in range(200):
                if said != "AuthorizationPending":
                    break
                await asyncio.sleep(0.02)
                tell(worker, "poll_device", start.attempt_id, start.binding.reveal())
                said = await line(worker)
        async with app.open() as runtime:
            (connection,) = (await runtime.connections()).items
            assert (connection.id, connection.status) == (said, "active")
