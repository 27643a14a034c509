"""docs/plugins/hooks.md has every hook with its exact signature, and each example is a plugin that works."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

import go_services_envelope
import go_services_github.plugin
import go_services_secrets_appkey.plugin
import go_services_store_sqlite.plugin
import go_services_transport_http.plugin
from go_services_core import HttpRequest, HttpResponse, InboundRequest, Ref, Runtime, Scope, SecretBytes, SecretStr
from go_services_core.catalog import KINDS
from go_services_core.clock import SystemClock
from go_services_core.config import Config
from go_services_core.config.secrets import SourceSettings
from go_services_core.errors import CannotOpen, ProviderUnavailable, RateLimited
from go_services_core.hookspecs import COLLECTED, HookSpecs
from go_services_core.model import Binding, Connection
from go_services_core.ownership import CallbackRequest
from go_services_core.plugins import PluginManager
from go_services_core.protocols import AuthContext, PluginEnv, Rejected, SigningContext, SigningKey, Verified
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.transport import ScriptedTransport
from go_services_secrets_appkey.key import generate_key

PAGE = Path(__file__).parents[2] / "docs/plugins/hooks.md"
HOOKS = [name for name in vars(HookSpecs) if name.startswith("gs_")]
OWNERSHIP = ("gs_callback_url", "gs_error_classifier", "gs_rate_limit_policy", "gs_connection_policy")
SECTION = re.compile(r"^### (gs_\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
SIGNATURE = re.compile(r"^```\{code-block\} python\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Sections = Mapping[str, str]


def read(text: str) -> Sections:
    return dict(SECTION.findall(text))


def signature(hook: str) -> str:
    """The signature as the page shows it: of a module's function, and record names without their module."""
    declared = inspect.signature(getattr(HookSpecs, hook))
    parameters = [parameter for name, parameter in declared.parameters.items() if name != "self"]
    shown = str(declared.replace(parameters=parameters)).replace("'", "")
    return "def " + hook + re.sub(r"\b[os]\.", "", shown)


def undocumented(sections: Sections) -> list[str]:
    """What the page lacks or says wrongly."""
    found = []
    for hook in HOOKS:
        section = sections.get(hook)
        if section is None:
            found.append(f"{hook} has no section")
            continue
        if SIGNATURE.findall(section) != [signature(hook)]:
            found.append(f"{hook} must show: {signature(hook)}")
        for word in ("*Called*", "*Returns*"):
            if word not in section:
                found.append(f"{hook} does not say {word}")
        if len(EXAMPLE.findall(section)) != 1:
            found.append(f"{hook} needs one example")
    return found + [f"{hook} is no hook" for hook in sections if hook not in HOOKS]


SECTIONS = read(PAGE.read_text(encoding="utf-8"))


def test_every_hook_is_documented_with_its_signature() -> None:
    assert undocumented(SECTIONS) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace("### gs_signers", "### gs_singers"), "gs_signers has no section"),
        (lambda text: text.replace("gs_lifespan(runtime: Runtime)", "gs_lifespan(runtime)"), "gs_lifespan must show"),
        (lambda text: text.replace("*Called* by `go-services`", "Used by `go-services`"), "gs_commands does not say"),
    ],
)
def test_a_page_that_fell_behind_is_noticed(change: Callable[[str], str], complaint: str) -> None:
    changed = change(PAGE.read_text(encoding="utf-8"))
    assert any(found.startswith(complaint) for found in undocumented(read(changed)))


# --- the examples ---------------------------------------------------------------------------------------------------


@pytest.fixture
def acme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example of one hook, imported as the module ``acme``."""
    (source,) = EXAMPLE.findall(SECTIONS[request.param])
    module = ModuleType("acme")
    monkeypatch.setitem(sys.modules, "acme", module)
    monkeypatch.setattr("go_services_core.refs._resolved", {})
    exec(compile(source, f"{PAGE.name}: {request.param}", "exec", dont_inherit=True), module.__dict__)
    return module


def of(acme: ModuleType) -> PluginManager:
    return PluginManager.of({"acme": acme, "github": go_services_github.plugin})


def references(record: Any) -> Iterator[Ref[Any]]:
    for field in attrs.fields(type(record)):
        value = getattr(record, field.name)
        if isinstance(value, Ref):
            yield value


@pytest.mark.parametrize(("hook", "acme"), [(hook, hook) for hook in COLLECTED], indirect=["acme"])
def test_example_registers_its_record(hook: str, acme: ModuleType) -> None:
    manager = of(acme)
    catalog = manager.catalog()
    kind = KINDS[hook]
    (record,) = manager.offered("acme")[hook]
    assert catalog.owner(kind.attribute, getattr(record, kind.key)).plugin == "acme"
    for reference in references(record):
        assert reference.resolve() is not None


@pytest.mark.parametrize(("hook", "acme"), [(hook, hook) for hook in OWNERSHIP], indirect=["acme"])
def test_example_answers_for_its_provider_only(hook: str, acme: ModuleType) -> None:
    manager = of(acme)
    assert manager.first(hook, "acme") is not None
    assert manager.first(hook, "github") is None


def example(hook: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("acme", [hook], indirect=True)


def env() -> PluginEnv:
    import logging

    return PluginEnv(clock=FrozenClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)


def finish(generator: Any, *answers: Any) -> Any:
    """Run a flow to its end with these answers to its steps."""
    sent = iter(answers)
    try:
        generator.send(None)
        while True:
            generator.send(next(sent))
    except StopIteration as done:
        return done.value


@example("gs_operations")
def test_operation_pack_extends_the_other_plugins_provider(acme: ModuleType) -> None:
    operations = {operation.id for operation in of(acme).catalog().provider("github").operations}
    assert {"gists.list", "repos.list"} <= operations


@example("gs_auth_strategies")
def test_auth_strategy_changes_a_password_into_a_token(acme: ModuleType) -> None:
    record = acme.Session(login_url="https://acme.example/login")
    ctx = AuthContext(
        provider_id="acme",
        auth=record,
        settings=None,
        scope=Scope("user", "1"),
        now=NOW,
        random=lambda size: b"0" * size,
    )
    flow = acme.SessionFlow().complete(ctx, {"username": "ann", "password": "x"})
    tokens = finish(flow, HttpResponse(200, (), b'{"token": "t-1"}'))
    assert tokens.access_token == SecretStr("t-1")
    assert (tokens.expires_at - NOW).total_seconds() == 3600


@example("gs_jose")
def test_jose_names_each_assertion_in_a_log(acme: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "acme")
    made = acme.AuditedJose().client_assertion(
        acme.AuditedJose().new_proof_key(os.urandom),
        client_id="app",
        audience="https://as.example",
        now=NOW,
        random=os.urandom,
    )
    assert made.count(".") == 2
    assert caplog.messages == ["assertion of app for https://as.example"]


@example("gs_signers")
def test_signer_signs_the_body(acme: ModuleType) -> None:
    key = SigningKey(secret=SecretStr("k"), auth=go_services_github.plugin.GITHUB.auth[0])
    signed = [
        acme.BodySigner().sign(HttpRequest("POST", "https://a.example/", (), body), key, SigningContext(NOW, bytes))
        for body in (b"1", b"2")
    ]
    assert len({request.header("X-Acme-Signature") for request in signed}) == 2


@example("gs_secret_backends")
async def test_secret_backend_seals_under_its_context(acme: ModuleType) -> None:
    backend = acme.ForgetfulBackend(None, env())
    sealer = go_services_envelope.Sealer(backend, store_id="s", clock=SystemClock())
    here, there = (Binding(purpose="t", provider_id=id, scope=None, record_id="1") for id in ("a", "b"))
    sealed = await sealer.seal(b"secret", here)
    assert await sealer.open(sealed, here) == SecretBytes(b"secret")
    with pytest.raises(CannotOpen):
        await sealer.open(sealed, there)


@example("gs_secret_sources")
def test_secret_source_reads_a_credential(acme: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "client-secret").write_text("s3\n")
    settings = SourceSettings(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert acme.SystemdCredentials(settings, env()).get("client-secret") == SecretStr("s3")


@example("gs_webhook_schemes")
def test_webhook_scheme_compares_the_token(acme: ModuleType) -> None:
    verifier = acme.TokenVerifier(acme.SharedToken())
    verdicts = [
        finish(
            verifier.verify(
                InboundRequest("POST", "/", (("x-acme-token", token),), b"{}"), secrets=[SecretStr("right")], now=NOW
            )
        )
        for token in ("right", "wrong")
    ]
    assert [type(verdict) for verdict in verdicts] == [Verified, Rejected]


@example("gs_inbound_surfaces")
async def test_surface_answers(acme: ModuleType) -> None:
    assert (await acme.answer(InboundRequest("GET", "/", (), b""), None)).status == 200


@example("gs_job_engines")
async def test_job_engine_hands_on(acme: ModuleType) -> None:
    engine = acme.QueueEngine(None, env())
    await engine.enqueue("inbox", "row-1")
    assert await engine.jobs.get() == ("inbox", "row-1")


@example("gs_commands")
def test_command_runs(acme: ModuleType) -> None:
    assert CliRunner().invoke(acme.greet, ["--name", "you"]).output == "Hello you.\n"


@example("gs_callback_url")
def test_callback_url_is_the_tenants(acme: ModuleType) -> None:
    url = acme.by_tenant(CallbackRequest(provider_id="acme", scope=Scope("org", "t1")))
    assert url == "https://t1.app.example/callback/acme"


@example("gs_error_classifier")
def test_classifier_types_the_quota(acme: ModuleType) -> None:
    assert isinstance(acme.quota(HttpResponse(403, (), b"over quota")), RateLimited)
    assert acme.quota(HttpResponse(404)) is None


@example("gs_rate_limit_policy")
def test_policy_waits_once(acme: ModuleType) -> None:
    policy = acme.SlowDown()
    policy.after("b", HttpResponse(200, (("X-Acme-Remaining", "0"), ("X-Acme-Reset-After", "7"))))
    assert [policy.before("b"), policy.before("b")] == [7.0, 0.0]


@example("gs_connection_policy")
def test_policy_takes_the_newest(acme: ModuleType) -> None:
    old, new = (
        Connection(
            id=id, provider_id="acme", auth_kind="pat", scope=Scope("user", "1"), external_account_id=id,
            status="active", created_at=NOW.replace(day=day), updated_at=NOW,
        )
        for id, day in (("a", 1), ("b", 2))
    )  # fmt: skip
    assert acme.newest(old.scope, [new, old]) is new
    assert acme.newest(old.scope, []) is None


# --- the examples that a runtime uses -------------------------------------------------------------------------------


@asynccontextmanager
async def runtime_with(acme: ModuleType, *, url: str = "sqlite:///unused.db", **parts: Any) -> AsyncIterator[Runtime]:
    """A runtime of the example, GitHub and what every runtime needs."""
    plugins = PluginManager.of(
        {
            "acme": acme,
            "github": go_services_github.plugin,
            "secrets-appkey": go_services_secrets_appkey.plugin,
            "store-sqlite": go_services_store_sqlite.plugin,
            "transport-http": go_services_transport_http.plugin,
        },
        prefer={"rest": "acme"} if hasattr(acme, "gs_transports") else {},
    )
    config = Config.load(environ={}, arguments={"secrets.appkey.key": generate_key(), "store.url": url})
    async with Runtime.open(config, plugins=plugins, **parts) as runtime:
        yield runtime


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory without a configuration."""
    monkeypatch.chdir(tmp_path)


def github() -> ScriptedTransport:
    """GitHub, as far as it is asked whose token it is."""
    transport = ScriptedTransport()
    transport.expect("GET", "https://api.github.com/user", HttpResponse(200, (), b'{"id": 7}'))
    return transport


async def connected(runtime: Runtime) -> Connection:
    return await runtime.establish("github", scope=Scope("user", "1"), fields={"token": "ghp_1"}, auth="pat")


@example("gs_providers")
async def test_provider_can_be_connected(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore(), transport=ScriptedTransport()) as runtime:
        assert runtime.providers()["acme"].spec.name == "Acme"


@example("gs_transports")
async def test_transport_replaces_the_installed_one(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore()) as runtime:
        with pytest.raises(ProviderUnavailable):
            await connected(runtime)


@example("gs_stores")
async def test_store_serves_its_url(acme: ModuleType) -> None:
    async with runtime_with(acme, url="memory:", transport=github()) as runtime:
        connection = await connected(runtime)
        assert await runtime.find("github", connection.scope) == connection


@example("gs_event_handlers")
async def test_event_handler_gets_the_committed_event(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore(), transport=github()) as runtime:
        connection = await connected(runtime)
        await runtime.disconnect(connection.id, reason="left")
        await runtime.drain()
        ended = acme.ENDED
        assert ended == [(connection.id, "left")]


@example("gs_notifications")
async def test_notification_is_sent(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore(), transport=github()) as runtime:
        connection = await connected(runtime)
        await runtime.drain()
        assert [("acme.connected", f"{connection.scope.type}:{connection.scope.id}")] == acme.TOLD


@example("gs_observers")
async def test_observer_counts_what_happens(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore(), transport=github()) as runtime:
        await connected(runtime)
    assert acme.COUNTS["connection.established", True] == 1


@example("gs_messages")
async def test_message_is_found_and_answers(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore(), transport=github()) as runtime:
        await connected(runtime)
        message = runtime.catalog().messages["acme.count"]
        assert await message.handler.resolve()(runtime, {"provider": "github"}) == 1


@example("gs_health_checks")
async def test_health_check_is_run(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore(), transport=ScriptedTransport()) as runtime:
        assert dict(await runtime.health())["acme.reauth"].ok


@example("gs_catalog_ready")
async def test_catalog_is_shown_when_complete(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore(), transport=ScriptedTransport()):
        assert acme.SEEN == ["github"]


@example("gs_lifespan")
async def test_lifespan_is_entered_and_left(acme: ModuleType) -> None:
    async with runtime_with(acme, store=MemoryStore(), transport=ScriptedTransport()):
        assert acme.LOG == ["open with 1 providers"]
    assert acme.LOG[-1] == "closing"
