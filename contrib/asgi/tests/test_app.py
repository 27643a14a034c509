"""The ASGI application's own life, and what servers and frameworks may leave out or log."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import pytest
import trustme

from go_services_asgi import GoServices
from go_services_core import Runtime
from go_services_core.errors import BadInput
from go_services_core.testing.face import FaceSubject, face_app

from .serving import serving


class Caller:
    """A server that calls the application by hand."""

    def __init__(self, *received: dict[str, Any]) -> None:
        self.received = list(received)
        self.sent: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        return self.received.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)


def http(path: str, **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", **more}


async def test_application_of_its_own_opens_and_closes_the_runtime_with_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with face_app() as app:
        opening = app.opening
        source, options = opening.pop("source"), opening
        monkeypatch.setattr(Runtime, "open", classmethod(lambda _, given, was=Runtime.open: was(given, **options)))
        services = GoServices(source)
        with pytest.raises(BadInput, match="not open"):
            _ = services.runtime
        async with serving(services, app.listening, lifespan="on"):
            live = await FaceSubject(app, services.runtime).send("GET", "/health")
            assert live.status == 200
        with pytest.raises(BadInput, match="async with services"):
            _ = services.runtime


async def test_start_that_fails_is_told_to_the_server(tmp_path: Any) -> None:
    caller = Caller({"type": "lifespan.startup"})
    await GoServices(tmp_path / "missing.toml")({"type": "lifespan"}, caller.receive, caller.send)
    assert caller.sent[0]["type"] == "lifespan.startup.failed"
    assert "missing.toml" in caller.sent[0]["message"]


async def test_runtime_that_was_given_is_not_closed() -> None:
    async with face_app() as app, Runtime.open(**app.opening) as runtime:
        async with GoServices(runtime) as services:
            assert services.runtime is runtime
        assert dict(await runtime.health())["store"].ok
        assert services.runtime is runtime


async def test_path_is_found_without_raw_path_and_below_every_form_of_mount() -> None:
    async with face_app() as app, Runtime.open(**app.opening) as runtime:
        services = GoServices(runtime)
        for scope in (
            http("/health/live"),
            http("/a b/health/live", root_path="/a b"),
            http("/a/health/live", root_path="/a/", raw_path=b"/a/health/live"),
            http("/health/live/", raw_path=b"/a/health/live"),
            http("/health/live", raw_path=b"/a/health/live?x=1"),
        ):
            caller = Caller()
            await services(scope, caller.receive, caller.send)
            assert [one["type"] for one in caller.sent] == ["http.response.start", "http.response.body"]
            assert caller.sent[0]["status"] == 200, scope


async def test_client_that_hangs_up_in_its_body_is_answered_nothing_and_nothing_is_kept() -> None:
    async with face_app() as app, Runtime.open(**app.opening) as runtime:
        caller = Caller({"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"})
        await GoServices(runtime)(http("/webhooks/kit", method="POST"), caller.receive, caller.send)
        assert caller.sent == []
        assert (await app.store.queues.list("inbox")).items == ()


async def test_websocket_is_refused() -> None:
    async with face_app() as app, Runtime.open(**app.opening) as runtime:
        caller = Caller({"type": "websocket.connect"})
        await GoServices(runtime)({"type": "websocket", "path": "/"}, caller.receive, caller.send)
        assert caller.sent == [{"type": "websocket.close"}]


async def test_certificate_of_the_tls_extension_reaches_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    pem = trustme.CA().issue_cert("client@example.com").cert_chain_pems[0].bytes().decode()
    async with face_app() as app, Runtime.open(**app.opening) as runtime:
        received = runtime.receive

        async def watched(surface: Any, provider_id: str, request: Any, **options: Any) -> Any:
            seen.append(request.peer_certificate)
            return await received(surface, provider_id, request, **options)

        monkeypatch.setattr(runtime, "receive", watched)
        scope = http("/webhooks/kit", extensions={"tls": {"client_cert_chain": [pem]}})
        caller = Caller({"type": "http.request", "body": b""})
        await GoServices(runtime)(scope, caller.receive, caller.send)
    assert seen == [ssl.PEM_cert_to_DER_cert(pem)]


async def test_neither_code_nor_state_is_in_the_servers_access_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logged: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: logged.append(record.getMessage()))
    access = logging.getLogger("uvicorn.access")  # another server of this process may have set it
    for name, value in {"handlers": [handler], "propagate": False, "disabled": False}.items():
        monkeypatch.setattr(access, name, value)
    caplog.set_level(logging.INFO, access.name)
    async with (
        face_app() as app,
        Runtime.open(**app.opening) as runtime,
        serving(GoServices(runtime, **app.options), app.listening, lifespan="off", access_log=True),
    ):
        face = FaceSubject(app, runtime)
        assert (await face.send("GET", "/callback?code=the-code-of-u1&state=the-state-of-u1")).status == 401
        await asyncio.sleep(0)
    assert len(logged) == 1
    assert "/callback?" in logged[0]
    assert "the-code" not in logged[0]
    assert "the-state" not in logged[0]
