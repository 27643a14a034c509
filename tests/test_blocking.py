"""The blocking face: the same methods, from any thread, also after a fork."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import (
    ApiKey,
    ApiSpec,
    Identity,
    Operation,
    Pagination,
    Param,
    ProviderSpec,
    Runtime,
    Scope,
    hookimpl,
)
from go_services_core.blocking import BlockingRuntime
from go_services_core.calls import OperationRequest
from go_services_core.config import Config
from go_services_core.errors import BadInput, HookRefused, OperationNotFound, SchemaOutOfDate
from go_services_core.model import Drained
from go_services_core.notifications import Recipient
from go_services_core.plugins import PluginManager
from go_services_core.testing.sandbox import SandboxProcess
from go_services_secrets_appkey.key import generate_key

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12

WHO = Scope("user", "u1")
OTHER = Scope("user", "other")


class Provider:
    """The sandbox, reached with an API key."""

    def __init__(self, url: str) -> None:
        self.url = url

    @hookimpl
    def gs_providers(self) -> list[ProviderSpec]:
        return [
            ProviderSpec(
                id="keyed",
                name="Keyed",
                auth=ApiKey(),
                api=ApiSpec(base_url=self.url),
                identity=Identity(url="/private/key"),
                operations=(
                    Operation("me", "GET", "/private/key"),
                    Operation("list", "GET", "/private/key", pagination=Pagination(items="missing")),
                    Operation("echo", "POST", "/echo", params=Param("n", type="integer")),
                ),
            ),
        ]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(auto_approve=True) as started:
        yield started


@pytest.fixture
def opened(sandbox: SandboxProcess, tmp_path: Path):
    """Arguments of ``BlockingRuntime.open``."""
    config = Config.load(
        None,
        environ={},
        arguments={
            "store.url": f"sqlite:///{tmp_path / 'app.db'}",
            "secrets.appkey.key": generate_key(),
            "runtime.callback_url": "http://127.0.0.1/callback",
            "runtime.allow_plaintext_secrets": True,
            "egress.allow": {
                "keyed": [sandbox.url.removeprefix("http://")],
                "sandbox": [sandbox.url.removeprefix("http://")],
            },
            **{f"providers.{id}": table for id, table in sandbox.config()["providers"].items()},
        },
    )

    class Both(Provider):
        @hookimpl
        def gs_providers(self) -> list[ProviderSpec]:
            return [*super().gs_providers(), sandbox.spec()]

    plugins = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http, "made": Both(sandbox.url)})
    return {"source": config, "plugins": plugins, "migrate": True}


@pytest.fixture
def runtime(opened) -> Iterator[BlockingRuntime]:
    with BlockingRuntime.open(**opened) as blocking:
        yield blocking


@pytest.fixture
def connection(runtime, sandbox):
    return runtime.establish("keyed", scope=WHO, fields={"key": sandbox.api_key})


def consent(url: str) -> str:
    """Be the browser: the URL that the provider sends it back to."""
    parts = urlsplit(url)
    browser = HTTPConnection(parts.netloc, timeout=10)
    browser.request("GET", f"{parts.path}?{parts.query}")
    target = browser.getresponse().headers["Location"]
    browser.close()
    return target


# --- parity --------------------------------------------------------------------------------------------------------


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def test_both_faces_have_the_same_methods():
    assert public(BlockingRuntime) == public(Runtime) | {"close", "run"}


@pytest.mark.parametrize("name", sorted(public(Runtime) - {"open"}))
def test_both_faces_agree_on_parameters_defaults_and_results(name):
    theirs, ours = (inspect.signature(getattr(face, name)) for face in (Runtime, BlockingRuntime))
    expected = theirs.return_annotation
    if expected.startswith("AsyncIterator["):
        expected = expected.removeprefix("Async")
        assert (AsyncIterator.__name__, Iterator.__name__) == ("AsyncIterator", "Iterator")
    assert ours.return_annotation == expected
    given = {name: param.replace(annotation="") for name, param in theirs.parameters.items()}
    assert {name: param.replace(annotation="") for name, param in ours.parameters.items()} == given
    for parameter, param in theirs.parameters.items():
        annotation = ours.parameters[parameter].annotation
        assert (param.annotation, annotation) == (param.annotation, param.annotation) or (
            param.annotation == f"{annotation} | Async{annotation}"
        )
    assert not inspect.iscoroutinefunction(getattr(BlockingRuntime, name))


def test_both_faces_are_opened_with_the_same_arguments():
    theirs, ours = (inspect.signature(face.open) for face in (Runtime, BlockingRuntime))
    assert list(ours.parameters.values()) == list(theirs.parameters.values())


OWN_WAYS = {"batch", "callback", "complete", "establish", "events", "notify_on", "observe", "on", "on_request", "work"}
"""They read or keep what they are given in the caller's thread; tests of their own say how."""
ASYNC = [
    name
    for name in sorted(public(Runtime) - {"open"} - OWN_WAYS)
    if inspect.iscoroutinefunction(getattr(Runtime, name)) or inspect.isasyncgenfunction(getattr(Runtime, name))
    or str(inspect.signature(getattr(Runtime, name)).return_annotation).startswith("AsyncIterator[")
]  # fmt: skip


@pytest.mark.parametrize("name", ASYNC)
def test_every_argument_reaches_the_other_face_under_its_name(name, monkeypatch):
    reached = {}

    def record(method, args, kwargs):
        signature = inspect.signature(getattr(Runtime, method))
        reached[method] = {
            key: value for key, value in signature.bind(None, *args, **kwargs).arguments.items() if key != "self"
        }

    class Other:
        def __getattr__(self, method):
            return lambda *args, **kwargs: record(method, args, kwargs)

    monkeypatch.setattr(BlockingRuntime, "_run", lambda _, call, *args, **kwargs: record(call.__name__, args, kwargs))
    monkeypatch.setattr(BlockingRuntime, "_each", lambda _, start: start(Other()))
    given = {one: object() for one in inspect.signature(getattr(Runtime, name)).parameters if one != "self"}
    getattr(object.__new__(BlockingRuntime), name)(**given)
    assert reached == {name: given}


# --- work ----------------------------------------------------------------------------------------------------------


def test_people_are_notified_without_a_loop(runtime, sandbox):
    sent = []

    async def recipients(definition, event, context):
        return [Recipient("user", "u1")]

    async def send(notification, context):
        sent.append(notification.definition)

    runtime.notify_on("connection.established", name="told", definition="d", recipients=recipients, sender=send)
    runtime.establish("keyed", scope=WHO, fields={"key": sandbox.api_key})
    runtime.drain()
    assert sent == ["d"]
    assert [entry.status for entry in runtime.notifications(name="told").items] == ["sent"]
    runtime._before_fork()
    runtime._after_fork_in_parent()
    runtime.establish("keyed", scope=OTHER, fields={"key": sandbox.api_key})
    runtime.drain()
    assert sent == ["d", "d"]


def test_every_step_of_a_connection_works_without_a_loop(runtime):
    seen = []

    async def handler(event, context):
        seen.append(event.name)

    runtime.on("connection.*", handler, name="h")
    runtime.observe(lambda observation: seen.append(observation.name), name="o", inline=True)
    start = runtime.connect("sandbox", scope=WHO)
    made = runtime.complete(consent(start.url), binding=start.binding)
    assert [item["id"] for item in runtime.paginate(made.id, "items.list", {"per_page": 40}, limit=90)] == [
        *range(1, 91)
    ]
    assert runtime.can(made.id, "items.read").allowed
    assert runtime.refresh(made.id).status == "active"
    assert runtime.find("sandbox", WHO).id == runtime.connection(made.id).id == made.id
    assert [item.id for item in runtime.connections().items] == [made.id]
    assert runtime.token(made.id)
    assert runtime.disconnect(made.id).revoked
    assert runtime.drain() == Drained(events=2)
    assert runtime.run_due("outbox") == 0
    assert seen.count("connection.established") == 2
    assert runtime.migrate(dry_run=True) == []
    assert runtime.store_status().problems == ()
    assert "keyed" in runtime.providers()
    assert "keyed" in runtime.catalog().providers
    assert isinstance(runtime.health(), list)


def test_pages_go_on_from_their_token(runtime):
    start = runtime.connect("sandbox", scope=WHO)
    made = runtime.complete(consent(start.url), binding=start.binding)
    pages = list(runtime.pages(made.id, "items.list", {"per_page": 40}, limit=50))
    assert [len(page.items) for page in pages] == [40, 10]
    rest = runtime.paginate(made.id, "items.list", {"per_page": 40}, resume=pages[-1].resume)
    assert [item["id"] for item in rest] == list(range(51, 121))


def test_capability_is_used_by_scope(runtime):
    start = runtime.connect("sandbox", scope=WHO)
    made = runtime.complete(consent(start.url), binding=start.binding)
    assert runtime.can_invoke("items.read", "sandbox", WHO).connection_id == made.id
    used = runtime.invoke("items.read", "sandbox", WHO, operation="items.get", params={"id": 3})
    assert (used.result.data["id"], used.decision.mode) == (3, "full")


def test_batch_reads_its_calls_in_the_callers_thread_and_no_further_than_it_must(runtime, connection):
    here, taken = threading.get_ident(), []

    def calls():
        for number in range(20):
            taken.append(threading.get_ident())
            yield OperationRequest(connection_id=connection.id, operation="echo", params={"n": number})

    found = runtime.batch(calls(), concurrency=4)
    first = next(found)
    assert (first.index, len(taken)) == (0, 4)
    outcomes = [first, *found]
    assert [outcome.index for outcome in outcomes] == list(range(20))
    assert [outcome.unwrap().data["query"]["n"] for outcome in outcomes] == [str(number) for number in range(20)]
    assert set(taken) == {here}


def test_batch_stops_where_it_is_asked_to(runtime, connection):
    wrong = OperationRequest(connection_id=connection.id, operation="mee")
    right = OperationRequest(connection_id=connection.id, method="GET", path="/private/key")
    outcomes = list(runtime.batch([right, wrong, right, right, right], concurrency=2, stop_on=OperationNotFound))
    assert [outcome.ok for outcome in outcomes] == [True, False]
    assert [outcome.ok for outcome in runtime.batch([right, wrong, right])] == [True, False, True]
    with pytest.raises(BadInput):
        next(runtime.batch([right], concurrency=0))


def test_errors_come_out_as_they_are(runtime, connection):
    with pytest.raises(OperationNotFound, match="me"):
        runtime.execute(connection.id, "mee")
    with pytest.raises(BadInput):
        list(runtime.paginate(connection.id, "me"))


def test_start_that_is_refused_leaves_no_thread(opened):
    before = set(threading.enumerate())
    with pytest.raises(SchemaOutOfDate), BlockingRuntime.open(**{**opened, "migrate": False}):
        pytest.fail("opened")
    assert set(threading.enumerate()) <= before


def test_several_threads_may_call_at_once(runtime, connection):
    def call(number):
        result = runtime.execute(connection.id, "echo", {"n": number})
        return result.data["query"]["n"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(40))) == [str(number) for number in range(40)]


def test_list_that_is_left_early_leaves_nothing_behind(runtime):
    start = runtime.connect("sandbox", scope=WHO)
    made = runtime.complete(consent(start.url), binding=start.binding)
    pages = runtime.paginate(made.id, "items.list", {"per_page": 10})
    assert next(pages)["id"] == 1
    pages.close()
    for item in runtime.paginate(made.id, "items.list", {"per_page": 10}):
        assert item["id"] == 1
        break
    gc.collect()
    assert runtime.execute(made.id, "me").status == 200


def test_call_from_its_own_loop_is_refused_instead_of_waiting_for_ever(runtime, sandbox):
    said = []

    async def handler(event, context):
        try:
            runtime.connections()
        except RuntimeError as refused:
            said.append(str(refused))

    runtime.on("*", handler, name="h")
    runtime.establish("keyed", scope=WHO, fields={"key": sandbox.api_key})
    runtime.drain()
    assert len(said) == 1
    assert "async Runtime" in said[0]


def test_closing_twice_is_harmless_and_a_closed_one_says_so(opened):
    with BlockingRuntime.open(**opened) as blocking:
        blocking.close()
        blocking.close()
        with pytest.raises(RuntimeError, match="closed"):
            blocking.connections()
    with pytest.raises(RuntimeError, match="closed"):
        blocking.providers()


# --- fork ----------------------------------------------------------------------------------------------------------


def in_child(work):
    """Run ``work`` in a forked process; gives what it printed when it failed, or an empty string."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            work()
        except BaseException:
            said = traceback.format_exc()
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    watchdog = threading.Timer(30, os.kill, (pid, signal.SIGKILL))
    watchdog.start()
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    watchdog.cancel()
    return said or ("" if status == 0 else f"the child ended with status {status}")


def test_child_of_a_fork_works_and_so_does_its_parent(runtime, connection):
    seen = []

    async def handler(event, context):
        seen.append(event.name)

    runtime.on("connection.*", handler, name="h")

    def work():
        assert runtime.execute(connection.id, "me").status == 200
        runtime.disconnect(connection.id)
        assert runtime.drain() == Drained(events=1)
        assert seen == ["connection.disconnected"]
        runtime.close()

    assert runtime.execute(connection.id, "me").status == 200
    assert in_child(work) == ""
    assert runtime.connection(connection.id).status == "disconnected"
    assert runtime.drain() == Drained()
    assert seen == []


def test_children_of_a_pre_forking_server_work_side_by_side(runtime, connection):
    def serve():
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda n: runtime.execute(connection.id, "echo", {"n": n}).status, range(8))
            assert list(answers) == [200] * 8

    threads = [ThreadPoolExecutor(1).submit(in_child, serve) for _ in range(2)]
    assert [thread.result(60) for thread in threads] == ["", ""]
    assert runtime.execute(connection.id, "me").status == 200


def test_what_a_child_commits_after_its_parent_closed_is_kept(opened, sandbox):
    """A SQLite connection that is carried over a fork loses the log under the other process's feet."""
    told, tell = os.pipe()
    with BlockingRuntime.open(**opened) as runtime:
        made = runtime.establish("keyed", scope=WHO, fields={"key": sandbox.api_key})
        pid = os.fork()
        if pid == 0:
            try:
                runtime.establish("keyed", scope=Scope("user", "u2"), fields={"key": sandbox.api_key})
                os.read(told, 1)
                runtime.establish("keyed", scope=Scope("user", "u3"), fields={"key": sandbox.api_key})
            finally:
                os._exit(0)
        while len(runtime.connections().items) < 2:
            time.sleep(0.01)
    os.write(tell, b"x")
    os.waitpid(pid, 0)
    for end in (told, tell):
        os.close(end)
    with BlockingRuntime.open(**opened) as runtime:
        assert runtime.connection(made.id).status == "active"
        assert {item.scope.id for item in runtime.connections().items} == {"u1", "u2", "u3"}


def test_fork_waits_for_the_calls_of_other_threads_and_spoils_none(runtime, connection, sandbox):
    sandbox.set_fault("echo", "slow", seconds=0.3, times=3)
    before = sandbox.requests().get("echo", 0)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(runtime.execute, connection.id, "echo", {"n": n}) for n in range(3)]
        while sandbox.requests().get("echo", 0) < before + 3:
            time.sleep(0.01)
        assert in_child(lambda: runtime.execute(connection.id, "me")) == ""
        assert [call.result(30).status for call in calls] == [200] * 3


def test_list_that_a_fork_interrupts_says_so(runtime):
    start = runtime.connect("sandbox", scope=WHO)
    made = runtime.complete(consent(start.url), binding=start.binding)
    pages = runtime.paginate(made.id, "items.list", {"per_page": 10})
    next(pages)
    assert in_child(lambda: runtime.execute(made.id, "me")) == ""
    with pytest.raises(RuntimeError, match="read it again"):
        next(pages)


def test_runtime_in_use_on_a_list_closes_cleanly(opened):
    with BlockingRuntime.open(**opened) as runtime:
        start = runtime.connect("sandbox", scope=WHO)
        made = runtime.complete(consent(start.url), binding=start.binding)
        pages = runtime.paginate(made.id, "items.list")
        next(pages)
    with pytest.raises(RuntimeError, match="closed"):
        next(pages)
    del pages
    gc.collect()


def test_child_that_never_calls_may_close_without_harm(runtime, connection):
    assert in_child(runtime.close) == ""
    assert runtime.execute(connection.id, "me").status == 200


def test_hooks_and_listeners_work_without_a_loop(runtime):
    heard, refused = [], []

    def no(event):
        refused.append(threading.get_ident())
        raise PermissionError

    listening = runtime.events("connection.*", buffer=5)
    runtime.after("connection.*", lambda event: heard.append(event.name), name="hears")
    runtime.before("connection.established", no, name="no")
    start = runtime.connect("sandbox", scope=WHO)
    with pytest.raises(HookRefused, match="'no'"):
        runtime.complete(consent(start.url), binding=start.binding)
    runtime.before("connection.established", lambda event: runtime.connections(), name="no")  # may use the runtime
    start = runtime.connect("sandbox", scope=WHO)
    made = runtime.complete(consent(start.url), binding=start.binding)
    assert next(listening).connection_id == made.id
    assert refused != [threading.get_ident()]
    runtime.disconnect(made.id)
    assert next(listening).name == "connection.disconnected"
    listening.close()
    runtime.close()
    assert heard == ["connection.established", "connection.disconnected"]
