"""Clocks that differ: a host that refuses what is not signed at its own time, and says in ``Date`` what that is."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from attrs import define, field

import go_services_auth_jwt.plugin as jwt
import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import ApiKey, ApiSpec, HttpRequest, Operation, ProviderSpec, Runtime, Scope, hookimpl
from go_services_core.auth_specs import AwsSigV4, Hmac, HttpSignature
from go_services_core.clock import SystemClock
from go_services_core.config import Config
from go_services_core.errors import ProviderError, ProviderForbidden, ServicesError
from go_services_core.http import HttpResponse
from go_services_core.plugins import PluginManager
from go_services_core.runtime.skew import ClockSkew, send_dated
from go_services_secrets_appkey.key import generate_key

SECRET = "shared-s3cret-of-the-warehouse"
HOUR = timedelta(hours=1)


def hmac_time(request: web.Request, body: bytes) -> datetime:
    """The time of a request whose signature is right."""
    stamp = request.headers["X-Timestamp"]
    text = "\n".join((request.method, request.raw_path, stamp, hashlib.sha256(body).hexdigest()))
    assert hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest() == request.headers["X-Signature"]
    return datetime.fromtimestamp(int(stamp), UTC)


def aws_time(request: web.Request, body: bytes) -> datetime:
    stamp = request.headers.get("X-Amz-Date") or request.query["X-Amz-Date"]
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def created_time(request: web.Request, body: bytes) -> datetime:
    found = re.search(r";created=(\d+)", request.headers["Signature-Input"])
    assert found is not None
    return datetime.fromtimestamp(int(found[1]), UTC)


@define
class Host:
    """Refuses what is signed at another time than its own, by more than a minute."""

    time_of: Callable[[web.Request, bytes], datetime] = hmac_time
    ahead: timedelta = HOUR
    says: str | None = None
    """Its ``Date``, where that is not its time."""
    refuses: tuple[int, str] = (403, "{}")
    forbids: bool = False
    """Whether it refuses everything."""
    url: str = ""
    seen: list[bool] = field(factory=list)
    """Whether each request was signed at the right time."""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        now = datetime.now(UTC) + self.ahead
        right = abs(self.time_of(request, body) - now) < timedelta(minutes=1)
        self.seen.append(right)
        headers = {"Date": self.says if self.says is not None else format_datetime(now, usegmt=True)}
        if right and not self.forbids:
            return web.json_response({"body": body.decode()}, headers=headers)
        status, text = self.refuses
        return web.Response(status=status, text=text, headers=headers)


RECORDS: dict[str, tuple[Any, dict[str, str]]] = {
    "hmac": (Hmac(), {"secret": SECRET}),
    "aws": (AwsSigV4(service="execute-api", region="x"), {"access_key_id": "AKID", "secret_access_key": SECRET}),
    "presigned": (
        AwsSigV4(service="execute-api", region="x", mode="query"), {"access_key_id": "AKID", "secret_access_key": SECRET}
    ),
    "signature": (HttpSignature(algorithm="hmac-sha256"), {"key_id": "k", "secret": SECRET}),
    "undated": (Hmac(signed="body", timestamp_header=None), {"secret": SECRET}),
    "plain": (ApiKey(), {"key": SECRET}),
}  # fmt: skip


class Plugin:
    GS_CONTRACT = 1

    def __init__(self, url: str) -> None:
        self.url = url

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        operations = (Operation("read", "GET", "/items?a=1"), Operation("write", "POST", "/items"))
        api = ApiSpec(base_url=self.url)
        return [
            ProviderSpec(id=id, name=id, auth=auth, api=api, operations=operations) for id, (auth, _) in RECORDS.items()
        ]


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def runtime(host: Host, tmp_path: Path) -> AsyncIterator[Runtime]:
    plugins = PluginManager.of(
        {"hosts": Plugin(host.url), "appkey": appkey, "sqlite": sqlite, "http": http, "jwt": jwt}
    )
    arguments: dict[str, Any] = {
        "store.url": f"sqlite:///{tmp_path / 'app.db'}",
        "secrets.appkey.key": generate_key(),
        **{f"egress.allow.{id}": [host.url.removeprefix("http://")] for id in RECORDS},
    }
    config = Config.load(None, environ={}, arguments=arguments)
    async with Runtime.open(config, plugins=plugins, migrate=True) as opened:
        yield opened


async def connected(runtime: Runtime, id: str) -> str:
    fields: Any = RECORDS[id][1]
    return (await runtime.establish(id, scope=Scope("user", "u1"), fields=fields)).id


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, timedelta(seconds=-100)])
@pytest.mark.parametrize(
    ("id", "time_of", "refuses"),
    [
        ("hmac", hmac_time, (401, "{}")),
        ("signature", created_time, (403, "{}")),
        ("aws", aws_time, (403, "<Error><Code>RequestTimeTooSkewed</Code></Error>")),
        ("aws", aws_time, (400, json.dumps({"__type": "InvalidSignatureException"}))),
        ("presigned", aws_time, (403, "{}")),
    ],
)
async def test_request_that_the_hosts_clock_refuses_is_signed_at_its_time_and_later_ones_at_once(
    runtime: Runtime, host: Host, id: str, time_of: Any, refuses: tuple[int, str], ahead: timedelta
) -> None:
    host.time_of, host.refuses, host.ahead = time_of, refuses, ahead
    connection = await connected(runtime, id)
    first = await runtime.execute(connection, "read")
    assert (host.seen, first.attempts) == ([False, True], 2)
    for _ in range(2):
        assert (await runtime.execute(connection, "read")).attempts == 1
    assert host.seen == [False, True, True, True]


async def test_a_signature_that_is_made_for_others_has_the_hosts_time(runtime: Runtime, host: Host) -> None:
    connection = await connected(runtime, "hmac")
    await runtime.execute(connection, "read")
    signed = await runtime.sign(connection, HttpRequest("GET", host.url + "/x"))
    made = datetime.fromtimestamp(int(signed.header("X-Timestamp") or 0), UTC)
    assert abs(made - datetime.now(UTC) - HOUR) < timedelta(minutes=1)
    ours = await runtime.sign(connection, HttpRequest("GET", host.url.replace("http", "https") + "/x"))
    made = datetime.fromtimestamp(int(ours.header("X-Timestamp") or 0), UTC)
    assert abs(made - datetime.now(UTC)) < timedelta(minutes=1)


async def test_request_is_sent_once_more_only(runtime: Runtime, host: Host) -> None:
    host.forbids = True
    connection = await connected(runtime, "hmac")
    for _ in range(2):
        with pytest.raises(ProviderForbidden):
            await runtime.execute(connection, "read")
    assert host.seen == [False, True, False, True]
    assert not len(runtime._core.skew)


@pytest.mark.parametrize(
    "says",
    ["", "yesterday", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 99 Foo 1 1:1:1 -9999"],
)
async def test_date_that_is_absurd_is_not_believed(runtime: Runtime, host: Host, says: str) -> None:
    host.says = says
    connection = await connected(runtime, "hmac")
    with pytest.raises(ProviderForbidden):
        await runtime.execute(connection, "read")
    assert host.seen == [False]
    assert not len(runtime._core.skew)


async def test_date_that_is_wrong_spoils_no_later_call(runtime: Runtime, host: Host) -> None:
    """The host's clock is right, its Date is not, and it refuses for another reason."""
    host.ahead, host.forbids = timedelta(), True
    host.says = format_datetime(datetime.now(UTC) + 3 * HOUR, usegmt=True)
    connection = await connected(runtime, "hmac")
    with pytest.raises(ProviderForbidden):
        await runtime.execute(connection, "write")
    host.forbids = False
    assert (await runtime.execute(connection, "write")).attempts == 1
    assert host.seen == [True, False, True]


async def test_clock_that_is_set_right_is_seen(runtime: Runtime, host: Host) -> None:
    connection = await connected(runtime, "hmac")
    await runtime.execute(connection, "read")
    host.ahead = timedelta()
    assert (await runtime.execute(connection, "read")).attempts == 2
    assert (await runtime.execute(connection, "read")).attempts == 1
    assert not len(runtime._core.skew)


@pytest.mark.parametrize(
    ("id", "status"), [("plain", 403), ("undated", 403), ("hmac", 404), ("hmac", 400), ("hmac", 500)]
)
async def test_what_no_clock_can_be_the_reason_of_is_not_sent_again(
    runtime: Runtime, host: Host, id: str, status: int
) -> None:
    host.forbids, host.refuses, host.time_of = True, (status, "{}"), lambda request, body: datetime.now(UTC)
    connection = await connected(runtime, id)
    with pytest.raises((ProviderError, ServicesError)):
        await runtime.execute(connection, "write")
    assert len(host.seen) == 1


def test_memory_is_bounded_and_forgets_the_first() -> None:
    skew = ClockSkew(most=3)
    for number in range(5):
        skew.set(f"https://h{number}.example/x", HOUR)
    assert len(skew) == 3
    assert [skew.offset(f"https://H{number}.example/y?z") for number in (1, 2)] == [timedelta(), HOUR]
    skew.set("https://h2.example/", timedelta(seconds=29))
    assert (len(skew), skew.offset("https://h2.example")) == (2, timedelta())


async def test_body_that_can_be_opened_once_is_not_sent_again() -> None:
    class Flowing:
        length = 1
        once = True

        async def open(self) -> AsyncIterator[bytes]:
            yield b"x"

    seen = []

    async def refuse(ahead: timedelta) -> HttpResponse:
        seen.append(ahead)
        return HttpResponse(403, (("Date", format_datetime(datetime.now(UTC) + HOUR, usegmt=True)),))

    core: Any = SimpleNamespace(skew=ClockSkew(), clock=SystemClock())
    call: Any = SimpleNamespace(attempts=1)
    for body, sent in ((Flowing(), 1), (b"x", 2)):
        seen.clear()
        request = HttpRequest("PUT", "https://api.example/x", body=body)
        assert (await send_dated(core, call, request, refuse)).status == 403
        assert len(seen) == sent
