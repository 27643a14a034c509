"""Everything that a run writes — logs of every library at DEBUG, the database, observations — without one secret in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import urllib3
from aiohttp import web
from attrs import evolve

from go_services_core import ApiKey, ApiSpec, Basic, Operation, ProviderSpec, Runtime, Scope, SecretStr
from go_services_core.config import Config
from go_services_core.errors import ServicesError
from go_services_core.model import Observation
from go_services_core.secret import MASK

from .conftest import App

KEY = "api/key+0123456789=abc"
PASSWORD = 'p w"0/1234567+ü'
TYPED = {"keyed-url": KEY, "password": PASSWORD}


def forms(secret: str) -> set[str]:
    """The ways in which a secret travels, written out here without the code that is tested."""
    escaped = json.dumps(secret)[1:-1]
    return {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        escaped,
        json.dumps(secret, ensure_ascii=False)[1:-1],
        b64encode(f"alice:{secret}".encode()).decode(),
        b64encode(secret.encode()).decode(),
    }


def leaks(text: str, secrets: set[str]) -> list[str]:
    return [form for secret in secrets for form in forms(secret) if form in text]


class Echo:
    """A provider that repeats in each refusal what it was sent, in every way; its access log has the whole target."""

    def __init__(self) -> None:
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        said = {
            "headers": dict(request.headers),
            "target": request.raw_path,
            "query": dict(request.query),
            "body": body,
        }
        text = json.dumps(said) + " " + repr(said) + " " + quote(body) + b64encode(body.encode()).decode()
        logging.getLogger("a.provider.sdk").debug("answering %s", said, extra={"sent": said})
        if request.path == "/token":
            refusal = {"error": "invalid_request", "error_description": f"cannot use {body}"}
            return web.json_response(refusal, status=400)
        refusal = {"error": {"code": request.headers.get("Authorization", "none"), "message": text}}
        return web.json_response(refusal, status=int(request.query.get("status", "400")))


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", made.answer)
    runner = web.AppRunner(application)  # with its access log
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler on the root logger writes, everything at DEBUG."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(sent)s", defaults={"sent": ""}))
    levels = {name: logging.getLogger(name).level for name in ("", "aiohttp", "aiohttp.access", "asyncio", "urllib3")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def echoing(app: App, echo: Echo) -> App:
    """The application with the echoing provider in three kinds."""
    api = ApiSpec(base_url=echo.url)
    look = Operation("look", "POST", "/look")
    sandbox = app.providers.specs["sandbox"]
    app.providers.specs |= {
        "keyed-url": ProviderSpec(
            id="keyed-url", name="In the URL", auth=ApiKey(query="api_key"), api=api, operations=look
        ),
        "password": ProviderSpec(id="password", name="Basic", auth=Basic(), api=api, operations=look),
        "sandbox": evolve(sandbox, operations=(*sandbox.operations, Operation("broken", "GET", "/no/such/thing"))),
    }
    app.settings["egress.allow"] |= {id: [echo.url.removeprefix("http://")] for id in ("keyed-url", "password")}
    return app


async def errors_of(*calls: Callable[[], Awaitable[Any]]) -> list[ServicesError]:
    """The error in which each call ends."""
    found = []
    for call in calls:
        with pytest.raises(ServicesError) as caught:
            await call()
        found.append(caught.value)
    return found


async def run(app: App, echo: Echo, runtime: Runtime) -> tuple[list[ServicesError], set[str]]:
    """Connect, call, renew, fail in many ways, disconnect; the errors, and every secret that was in play."""
    start, params = await app.begin(runtime)
    connection = await runtime.complete(params, binding=start.binding)
    await runtime.execute(connection.id, "items.list", {"per_page": 1})
    await runtime.refresh(connection.id)
    keyed = await runtime.establish("keyed-url", scope=Scope("user", "u1"), fields={"key": KEY})
    basic = await runtime.establish(
        "password", scope=Scope("user", "u1"), fields={"username": "alice", "password": SecretStr(PASSWORD)}
    )
    token = (await runtime.token(connection.id)).reveal()
    _, other = await app.begin(runtime, "u2")
    found = await errors_of(
        lambda: runtime.execute(keyed.id, "look"),
        lambda: runtime.execute(basic.id, "look"),
        lambda: runtime.execute(connection.id, "broken"),
        lambda: runtime.complete(params, binding=start.binding),
        lambda: runtime.complete({**other, "state": params["state"]}, binding="guessed-0123456789"),
    )
    app.set(auth=evolve(app.providers.specs["sandbox"].auth[0], token_url=echo.url + "/token"))
    async with app.open(settings={"egress.allow.sandbox": [echo.url[7:], app.sandbox.url[7:]]}) as broken:
        second, third = await app.begin(broken, "u3")
        found += await errors_of(
            lambda: broken.refresh(connection.id), lambda: broken.complete(third, binding=second.binding)
        )
    with urllib3.PoolManager() as pool:  # another library of the application, with what runtime.token gave it
        address, headers = f"{echo.url}/sdk?access_token={token}", {"X-Other": token}
        await asyncio.to_thread(pool.request, "GET", address, headers=headers, retries=False)
    logging.getLogger("the.application").warning("proxy http://alice:%s@proxy:3128 refused", PASSWORD)
    await runtime.disconnect(connection.id, reason=f"leaked {token}")
    secrets = {KEY, PASSWORD, app.sandbox.client_secret.reveal(), start.binding.reveal(), second.binding.reveal()}
    secrets |= {*app.sandbox.issued_secrets(), params["code"], params["state"], third["code"], third["state"]}
    return found, secrets


async def test_a_run_with_everything_logged_at_debug_writes_no_secret_anywhere(
    echoing: App, echo: Echo, written: io.StringIO
) -> None:
    """P40, P42, P44 (typed, from the URL of the callback, from the provider), P45, P46."""
    observed: list[Observation] = []
    async with echoing.open() as runtime:
        runtime.observe(observed.append, name="watching", inline=True)
        errors, secrets = await run(echoing, echo, runtime)
        listed = await runtime.connections(limit=1000)
        outbox = await runtime._core.store.queues.list("outbox")
    text = written.getvalue()
    assert len(secrets) > 10
    for logger in ("aiohttp.access", "urllib3", "a.provider.sdk", "the.application"):
        assert logger in text
    assert text.count(MASK) > 10
    assert leaks(text, secrets) == []
    told = [f"{error!r} {error} {error.as_dict()} {vars(error)}" for error in errors]
    assert leaks("\n".join(told), secrets) == []
    assert leaks(repr(observed) + repr(listed) + repr(outbox), secrets) == []
    assert leaks(echoing.content().decode("utf-8", "replace"), secrets) == []
    rows = echoing.rows("SELECT last_error FROM service_connections") + echoing.rows(
        "SELECT payload FROM service_lifecycle_outbox"
    )
    assert f"leaked {MASK}" in repr(rows)


async def test_without_masking_other_libraries_would_have_written_them_and_ours_still_do_not(
    echoing: App, echo: Echo, written: io.StringIO
) -> None:
    async with echoing.open(settings={"runtime": {**echoing.settings["runtime"], "redact_logs": False}}) as runtime:
        _, secrets = await run(echoing, echo, runtime)
        logging.getLogger("go_services.runtime").error("said %s", KEY)
    lines = written.getvalue().splitlines()
    assert leaks("\n".join(line for line in lines if not line.startswith("go_services")), secrets)
    ours = [line for line in lines if line.startswith("go_services")]
    assert ours[-1].startswith(f"go_services.runtime said {MASK}")
    assert leaks("\n".join(ours), secrets) == []


async def test_logging_is_as_before_when_the_last_runtime_is_closed(app: App) -> None:
    before = logging.Logger.callHandlers
    async with app.open():
        async with app.open():
            pass
        assert logging.Logger.callHandlers is not before
    assert logging.Logger.callHandlers is before


def _with_locals(error: BaseException) -> str:
    """The traceback with the locals of our own frames; a test's and an application's frames are theirs."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    text, one = "", told
    while one is not None:
        for frame in one.stack:
            if "/go_services_" in frame.filename and "/tests/" not in frame.filename:
                text += f"{frame.filename}:{frame.name} {frame.locals}\n"
        one = one.__cause__ or one.__context__  # type: ignore[assignment]
    return text


@pytest.mark.parametrize("fault", ["cut", "500", "html", "429", "truncated_json"])
async def test_tracebacks_with_locals_hold_no_secret(app: App, fault: Any) -> None:  # P41
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        keyed = await runtime.establish(
            "keyed", scope=Scope("user", "u1"), fields={"key": app.sandbox.api_key.reveal()}
        )
        start, params = await app.begin(runtime, "u2")
        for endpoint in ("token", "private.key", "items.list"):
            app.sandbox.faults.set(endpoint, fault, times=None)
        wrong = "wr0ng-api-key-0123456789"
        errors = await errors_of(
            lambda: runtime.complete(params, binding=start.binding.reveal()),
            lambda: runtime.refresh(connection.id),
            lambda: runtime.execute(connection.id, "items.list"),
            lambda: runtime.establish("keyed", scope=Scope("user", "u2"), fields={"key": wrong}),
            lambda: runtime.establish(
                "basic", scope=Scope("user", "u2"), fields={"password": wrong, "username": "a:b"}
            ),
            lambda: runtime.establish("keyed", scope=Scope("user", "u2"), fields={"key": wrong + "\r\nX: 1"}),
            lambda: runtime.complete([*params.items(), ("code", "twice")], binding="guessed-0123456789"),
        )
    assert keyed.status == "active"
    secrets = {*app.sandbox.issued_secrets(), wrong, params["code"], params["state"], start.binding.reveal()}
    secrets |= {app.sandbox.api_key.reveal(), app.sandbox.client_secret.reveal(), "guessed-0123456789"}
    for error in errors:
        shown = _with_locals(error)
        assert "/runtime/face/" in shown
        assert [(form, shown) for form in leaks(shown, secrets)] == []


WAYS_IN = ("argument", "file", "env", "plaintext", "file-reference")


@pytest.mark.parametrize("way", WAYS_IN)
async def test_a_setting_is_masked_by_whichever_way_it_came_in(
    app: App, way: str, written: io.StringIO, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # P44
    secret = "cl1ent-secret-of-the-application"
    monkeypatch.setenv("APP_CLIENT_SECRET", secret)
    (tmp_path / "client.secret").write_text(secret + "\n", "utf-8")
    settings = {**app.settings, "runtime": {**app.settings["runtime"], "allow_plaintext_secrets": True}}
    own = {name: value for name, value in settings["providers.sandbox"].items() if name != "client_secret"}
    settings["providers.sandbox"] = own
    environ, path = {"APP_CLIENT_SECRET": secret}, None
    if way == "argument":
        own["client_secret"] = SecretStr(secret)
    elif way == "plaintext":
        environ["GO_SERVICES__PROVIDERS__SANDBOX__CLIENT_SECRET"] = secret
    elif way == "file":
        path = tmp_path / "go-services.toml"
        path.write_text(f'[providers.sandbox]\nclient_secret = "{secret}"\n', "utf-8")
    else:
        own["client_secret"] = "env:APP_CLIENT_SECRET" if way == "env" else f"file:{tmp_path / 'client.secret'}"
    config = Config.load(path, environ=environ, arguments=settings)
    async with Runtime.open(config, plugins=app.manager(), clock=app.clock, migrate=True):
        logging.getLogger("some.library").warning("configured with %s", secret)
    assert f"some.library configured with {MASK}" in written.getvalue()
    assert leaks(written.getvalue(), {secret}) == []


async def test_references_to_secrets_are_not_masked_since_errors_name_them(app: App, written: io.StringIO) -> None:
    reference = "env:APP_CLIENT_SECRET_2026"
    own = {**app.settings["providers.sandbox"], "client_secret": reference}
    config = Config.load(
        None,
        environ={"APP_CLIENT_SECRET_2026": "cl1ent-secret-0123"},
        arguments={**app.settings, "providers.sandbox": own},
    )
    async with Runtime.open(config, plugins=app.manager(), clock=app.clock, migrate=True):
        logging.getLogger("some.library").warning("%s is cl1ent-secret-0123", reference)
    assert f"some.library {reference} is {MASK}" in written.getvalue()
