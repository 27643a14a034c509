"""Recording what a real server answers, and playing it: no secret in the file, no network, typed when it does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import Runtime, Scope, hookimpl
from go_services_core.config import Config
from go_services_core.errors import ConnectFailed, NotRecorded, RecordingInvalid
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.plugins import PluginManager
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.pytest_recording import Recording
from go_services_core.testing.recording import Recorder, load
from go_services_core.testing.replay import ReplayTransport
from go_services_core.testing.sandbox import Sandbox
from go_services_core.testing.transport import ScriptedTransport
from go_services_secrets_appkey.key import generate_key

REDIRECT = "http://127.0.0.1/callback"


def opened(sandbox: Sandbox, **options: Any) -> Any:
    class Provider:
        @hookimpl
        def gs_providers(self) -> Any:
            return [sandbox.spec()]

    sections = sandbox.config()
    config = Config.load(
        None,
        environ={},
        arguments={
            "runtime": sections["runtime"],
            "providers.sandbox": sections["providers"]["sandbox"],
            "secrets.appkey.key": generate_key(),
            "egress.allow.sandbox": [sandbox.url.removeprefix("http://")],
        },
    )
    plugins = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http, "sandbox": Provider()})
    return Runtime.open(config, plugins=plugins, store=MemoryStore(), **options)


async def journey(runtime: Runtime, sandbox: Sandbox) -> list[Any]:
    """Connect, renew, read a page, create; what the application gets."""
    start = await runtime.connect("sandbox", scope=Scope("user", "u1"), redirect_uri=REDIRECT)
    connection = await runtime.complete(await sandbox.consent(start.url), binding=start.binding)
    await runtime.refresh(connection.id)
    listed = await runtime.execute(connection.id, "items.list", {"per_page": 2})
    me = await runtime.execute(connection.id, "me")
    return [listed.data, me.status]


async def test_recording_of_a_journey_holds_no_secret_of_it(tmp_path: Path) -> None:
    """P46, P47: everything that the sandbox gave out, and what its client authenticates with."""
    made: list[Recorder] = []

    def wrap(transport: Any) -> Recorder:
        made.append(Recorder(transport))
        return made[0]

    path = tmp_path / "deep" / "journey.json"
    async with Sandbox() as sandbox:
        async with opened(sandbox, wrap_transport=wrap) as runtime:
            await journey(runtime, sandbox)
        made[0].save(path)
        secrets = {*sandbox.issued_secrets(), sandbox.client_secret.reveal()}
    text = path.read_text("utf-8")
    assert len(secrets) > 4
    assert [secret for secret in secrets if secret in text] == []
    document = json.loads(text)
    assert document["format"] == "go-services-recording/1"
    asked = [(one["request"]["method"], one["request"]["url"].partition("?")[0]) for one in document["exchanges"]]
    assert [url.rpartition("/")[2] for _, url in asked].count("token") == 2
    items = next(one for one in document["exchanges"] if "/items" in one["request"]["url"])
    assert [items["request"]["headers"][-1][0], "Bearer"] == ["Authorization", "Bearer"] or any(
        name == "Authorization" and value.startswith("Bearer REDACTED-") for name, value in items["request"]["headers"]
    )
    assert len(items["response"]["json"]) == 2
    assert items["response"]["status"] == 200


async def test_what_was_recorded_is_played_without_the_server(tmp_path: Path) -> None:
    path = tmp_path / "journey.json"
    recording = Recording(path, records=True)
    async with Sandbox() as sandbox:
        sent: list[Any] = []
        async with opened(sandbox, wrap_transport=recording.wrap) as runtime:
            sent = await journey(runtime, sandbox)
        recording.finish()
        playing = Recording(path, records=False)
        before = dict(sandbox.requests)
        async with opened(sandbox, wrap_transport=playing.wrap) as runtime:
            player = playing._used[0]
            assert isinstance(player, ReplayTransport)
            got = [exchange for exchange in player.unused if "/items" in exchange.request["url"]]
            answer = await player.send(
                HttpRequest("GET", f"{sandbox.url}/items?per_page=2", (("Authorization", "Bearer of-the-test"),)),
                provider_id="sandbox",
            )
        assert json.loads(answer.body) == sent[0]
        assert len(got) == 1
        assert dict(sandbox.requests) == before
    with pytest.raises(AssertionError, match="recorded requests were not sent"):
        playing.finish()


@pytest.fixture
async def recorded(tmp_path: Path) -> Path:
    """Two pages, the same request twice, and a form."""
    inner = ScriptedTransport()
    recorder = Recorder(inner)
    for status, body in ((200, b'{"next_token": "token-of-page-2"}'), (200, b"[2]"), (503, b"down")):
        inner.expect("GET", "/list", HttpResponse(status, (("Content-Type", "application/json"),), body))
    inner.expect("POST", "/form", HttpResponse(201, (), b"\xff"))
    for page in ("", "?page=token-of-page-2", ""):
        await recorder.send(HttpRequest("GET", f"https://api.example/list{page}"), provider_id="p")
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    await recorder.send(HttpRequest("POST", "https://api.example/form", form, b"client_secret=s1&a=1"), provider_id="p")
    path = tmp_path / "list.json"
    recorder.save(path)
    return path


async def test_same_request_gets_its_answers_in_their_order_and_then_none(recorded: Path) -> None:
    player = ReplayTransport(recorded)
    request = HttpRequest("GET", "https://api.example/list", (("Authorization", "Bearer other"),))
    assert [(await player.send(request, provider_id="p")).status for _ in range(2)] == [200, 503]
    with pytest.raises(NotRecorded) as caught:
        await player.send(request, provider_id="p")
    assert caught.value.sent is False
    assert caught.value.retryable is False


async def test_value_of_an_answer_leads_to_the_next_recorded_request(recorded: Path) -> None:
    player = ReplayTransport(recorded)
    first = await player.send(HttpRequest("GET", "https://api.example/list"), provider_id="p")
    token = json.loads(first.body)["next_token"]
    assert token == "REDACTED-1"
    second = await player.send(HttpRequest("GET", f"https://api.example/list?page={token}"), provider_id="p")
    assert json.loads(second.body) == [2]


@pytest.mark.parametrize(
    ("method", "url", "body", "why"),
    [
        ("POST", "/form", b"client_secret=s1&a=2", "its body is another one"),
        ("PUT", "/form", b"client_secret=s1&a=1", "its method is another one"),
        ("GET", "/other", None, "the next one recorded is GET https://api.example/list"),
    ],
)
async def test_request_that_is_not_recorded_is_a_typed_error_that_says_what_differs(
    recorded: Path, method: str, url: str, body: bytes | None, why: str
) -> None:
    player = ReplayTransport(recorded)
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    with pytest.raises(NotRecorded, match=why) as caught:
        await player.send(HttpRequest(method, f"https://api.example{url}", form, body), provider_id="p")
    assert "list.json" in str(caught.value)


async def test_secret_of_the_test_equals_the_recorded_one_and_binary_bodies_come_back(recorded: Path) -> None:
    player = ReplayTransport(recorded)
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    request = HttpRequest("POST", "https://api.example/form", form, b"client_secret=another-one&a=1")
    answer = await player.send(request, provider_id="p")
    assert (answer.status, answer.body) == (201, b"\xff")
    assert [exchange.request["method"] for exchange in player.unused] == ["GET"] * 3


async def test_same_calls_make_the_same_file(tmp_path: Path) -> None:
    texts = []
    for secret in ("first-secret-0123", "second-secret-9876"):
        inner = ScriptedTransport()
        recorder = Recorder(inner)
        answer = HttpResponse(200, (("Date", secret), ("ETag", "1")), f'{{"b": 1, "token": "{secret}"}}'.encode())
        inner.expect("GET", "/a", answer)
        await recorder.send(HttpRequest("GET", "https://api.example/a"), provider_id="p")
        recorder.save(tmp_path / "a.json")
        texts.append((tmp_path / "a.json").read_text("utf-8"))
    assert texts[0] == texts[1]
    assert texts[0].endswith("}\n")
    assert texts[0].splitlines()[1] == '  "format": "go-services-recording/1",'


async def test_secret_that_a_later_exchange_reveals_is_taken_out_of_an_earlier_one(tmp_path: Path) -> None:
    """P46"""
    inner = ScriptedTransport()
    recorder = Recorder(inner)
    inner.expect("GET", "/a", HttpResponse(200, (), b'"shown: late-secret-0123"'))
    inner.expect("GET", "/b", HttpResponse(200, (), b'{"token": "late-secret-0123"}'))
    for path in ("a", "b"):
        await recorder.send(HttpRequest("GET", f"https://api.example/{path}"), provider_id="p")
    recorder.save(tmp_path / "a.json")
    first, second = load(tmp_path / "a.json")
    assert (first.response.body, second.response.body) == (b'"shown: REDACTED-1"', b'{"token": "REDACTED-1"}')


async def test_request_without_an_answer_is_left_out_and_its_error_raised(tmp_path: Path) -> None:
    inner = ScriptedTransport()
    recorder = Recorder(inner)
    inner.expect("GET", "/a", ConnectFailed()).expect("GET", "/b", HttpResponse(204, (), b""))
    with pytest.raises(ConnectFailed):
        await recorder.send(HttpRequest("GET", "https://api.example/a"), provider_id="p")
    await recorder.send(HttpRequest("GET", "https://api.example/b"), provider_id="p")
    recorder.save(tmp_path / "a.json")
    (exchange,) = load(tmp_path / "a.json")
    assert exchange.request["url"] == "https://api.example/b"
    await recorder.aclose()
    assert inner.closed


async def test_secret_that_cannot_be_taken_out_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """P47: a token within bytes that are no text."""
    path = tmp_path / "a.json"
    path.write_text("before", "utf-8")
    inner = ScriptedTransport()
    recorder = Recorder(inner)
    inner.expect("GET", "/a", HttpResponse(200, (), b"\xff\xfe ghp_" + b"a1B2" * 9))
    await recorder.send(HttpRequest("GET", "https://api.example/a"), provider_id="p")
    with pytest.raises(RecordingInvalid, match="not text"):
        recorder.save(path)
    assert path.read_text("utf-8") == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]  # noqa: ASYNC240


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        ("{}", "is no recording"),
        ('{"format": "other/1", "exchanges": []}', "is no recording"),
        ('{"format": "go-services-recording/1", "exchanges": [{}]}', "is no recording"),
        ("nonsense", "is no recording"),
        ('{"format": "go-services-recording/1", "exchanges": [], "x": "ghp_' + "a1B2" * 9 + '"}', "holds a secret"),
    ],
)
def test_file_that_cannot_be_played_is_a_typed_error(tmp_path: Path, content: str | None, why: str) -> None:
    """P47: a recording that holds a secret fails every test that plays it."""
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(RecordingInvalid, match=why):
        ReplayTransport(path)


SUITE = """
import pytest
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.testing.pytest_recording import recording  # noqa: F401
from go_services_core.testing.transport import ScriptedTransport

async def test_read(recording):
    live = ScriptedTransport()
    live.expect("GET", "/a", HttpResponse(200, (("Content-Type", "application/json"),), BODY))
    answer = await recording.wrap(live).send(HttpRequest("GET", "https://api.example/a"), provider_id="p")
    assert answer.status == 200
    assert bool(live.requests) == recording.records
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a file of one test with the fixture, in a process of its own; gives exit code and output."""

    def run(body: bytes, *, record: bool) -> tuple[int, str]:
        (tmp_path / "test_plugin.py").write_text(SUITE.replace("BODY", repr(body)), "utf-8")
        environ = {**os.environ, "GO_SERVICES_RECORD": "1" if record else ""}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "."]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout

    return run


def test_fixture_records_when_asked_and_plays_after_that(suite: Any, tmp_path: Path) -> None:
    path = tmp_path / "recordings" / "test_read.json"
    code, output = suite(b"{}", record=False)
    assert code == 1
    assert "GO_SERVICES_RECORD=1" in output
    assert suite(b'{"token": "abc"}', record=True)[0] == 0
    assert '"token": "REDACTED-1"' in path.read_text("utf-8")
    assert suite(b"{}", record=False)[0] == 0


def test_fixture_fails_the_test_whose_recording_holds_a_secret(suite: Any, tmp_path: Path) -> None:
    """P47"""
    assert suite(b"{}", record=True)[0] == 0
    path = tmp_path / "recordings" / "test_read.json"
    path.write_text(path.read_text("utf-8").replace("{}", '{"left": "ghp_' + "a1B2" * 9 + '"}'), "utf-8")
    code, output = suite(b"{}", record=False)
    assert code == 1
    assert "holds a secret: GitHub token" in output
    assert suite(b"\xff\xfe ghp_" + b"a1B2" * 9, record=True)[0] == 1
