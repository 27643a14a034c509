"""A runtime over a failover backend: configured, told, survived, and brought back under the primary."""

from __future__ import annotations

import sys

import pytest

import go_services_secrets_appkey.plugin as appkey
import go_services_secrets_failover.plugin as failover
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import ApiKey, ApiSpec, ProviderSpec, Ref, Runtime, Scope, SecretBackendSpec, hookimpl
from go_services_core.config import Config
from go_services_core.errors import BackendUnavailable, ConfigError, KeyInvalid
from go_services_core.plugins import PluginManager
from go_services_core.testing.clock import FrozenClock
from go_services_core.testing.memory import MemoryStore
from go_services_secrets_appkey.key import generate_key

from .members import Local

THIS = "made_members"
near = Local("near")


def open_near(settings, env):
    return near


class Made:
    GS_CONTRACT = 1

    @hookimpl
    def gs_secret_backends(self):
        return [
            SecretBackendSpec(id="near", factory=Ref(f"{THIS}:open_near"), sealer=Ref("go_services_envelope:Sealer"))
        ]

    @hookimpl
    def gs_providers(self):
        api = ApiSpec(base_url="https://api.example")
        return [ProviderSpec(id="keyed", name="Keyed", auth=ApiKey(), api=api)]


class App:
    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.store = MemoryStore(clock=self.clock)
        self.key = generate_key()

    def open(self, **settings):
        given = {
            "runtime.allow_plaintext_secrets": True,
            "secrets.backend": "failover",
            "secrets.appkey.key": self.key,
            "secrets.failover.primary": "near",
            "secrets.failover.fallback": "appkey",
            **{f"secrets.{name.replace('__', '.')}": value for name, value in settings.items()},
        }
        plugins = {"appkey": appkey, "failover": failover, "sqlite": sqlite, "http": http, "made": Made()}
        return Runtime.open(
            Config.load(
                None, environ={}, arguments={name: value for name, value in given.items() if value is not None}
            ),
            plugins=PluginManager.of(plugins),
            clock=self.clock,
            store=self.store,
            migrate=True,
        )

    async def connect(self, runtime, who):
        connection = await runtime.establish("keyed", scope=Scope("user", who), fields={"key": f"key of {who}"})
        return connection.id

    async def key_of(self, connection_id):
        _, credential = await self.store.connections.load(connection_id)
        return credential.sealed.key


@pytest.fixture
def app(monkeypatch) -> App:
    global near
    near = Local("near")
    monkeypatch.setitem(sys.modules, THIS, sys.modules[__name__])
    return App()


async def test_outage_is_survived_and_what_was_written_meanwhile_comes_back_under_the_primary(app):
    told = []
    async with app.open(failover__policy="fallback_allowed") as runtime:
        runtime.observe(told.append, name="test", inline=True)
        before = await app.connect(runtime, "u1")
        near.switch.error = BackendUnavailable("off")
        during = await app.connect(runtime, "u2")
        assert (await app.key_of(before), (await app.key_of(during)).backend) == (near.primary, "appkey")
        assert (await runtime.token(during)).reveal() == "key of u2"

        app.clock.advance(15)
        await runtime.run_due("secrets.rewrap")
        assert (await app.key_of(during)).backend == "appkey", "the primary does not answer yet"

        near.switch.error = None
        app.clock.advance(3600)
        await runtime.run_due("secrets.rewrap")
        assert await app.key_of(during) == near.primary
        assert (await runtime.token(during)).reveal() == "key of u2"
    switches = [seen for seen in told if seen.name == "secrets.failover"]
    assert [seen.detail["outcome"] for seen in switches] == ["primary_failed", "fallback_succeeded", "primary_back"]


async def test_outage_is_reported_under_strict_fail_and_ends_by_itself(app):
    async with app.open() as runtime:
        connection = await app.connect(runtime, "u1")
        near.switch.error = BackendUnavailable("off")
        with pytest.raises(BackendUnavailable):
            await app.connect(runtime, "u2")
        near.switch.error = None
        app.clock.advance(15)
        other = await app.connect(runtime, "u2")
        assert await app.key_of(connection) == await app.key_of(other) == near.primary


async def test_move_from_one_backend_to_another_ends_without_the_old_one(app):
    async with app.open(backend="appkey", failover__primary=None, failover__fallback=None) as runtime:
        moved = await app.connect(runtime, "u1")
        assert (await app.key_of(moved)).backend == "appkey"
    async with app.open() as runtime:
        assert (await runtime.token(moved)).reveal() == "key of u1"
        assert await app.key_of(await app.connect(runtime, "u2")) == near.primary
        report = await runtime.rewrap()
        assert report.remaining == 0
        assert await app.key_of(moved) == near.primary
    async with app.open(backend="near", appkey__key=None, failover__primary=None, failover__fallback=None) as runtime:
        assert (await runtime.token(moved)).reveal() == "key of u1"


async def test_process_that_starts_in_an_outage_goes_on_with_the_fallback_where_that_is_allowed(app):
    async with app.open() as runtime:
        before = await app.connect(runtime, "u1")
    near.switch.error = BackendUnavailable("off")
    async with app.open(at_start="lazy", failover__policy="fallback_allowed") as runtime:
        during = await app.connect(runtime, "u2")
        assert (await app.key_of(during)).backend == "appkey"
        assert (await runtime.token(during)).reveal() == "key of u2"
        with pytest.raises(BackendUnavailable):
            await runtime.token(before)
        assert (await runtime.connection(before)).secret_state == "ok"
        near.switch.error = None
        app.clock.advance(3600)
        assert await runtime.run_due("secrets.rewrap") > 0
        assert await app.key_of(during) == near.primary
        assert (await runtime.token(before)).reveal() == "key of u1"


async def test_wrong_primary_key_is_found_out_as_soon_as_the_primary_answers(app):
    global near
    async with app.open() as runtime:
        await app.connect(runtime, "u1")
    near = Local("near")  # another key under the same name
    near.switch.error = BackendUnavailable("off")
    async with app.open(at_start="lazy", failover__policy="fallback_allowed") as runtime:
        await app.connect(runtime, "u2")
        near.switch.error = None
        app.clock.advance(3600)
        with pytest.raises(KeyInvalid):
            await app.connect(runtime, "u3")


@pytest.mark.parametrize("policy", ["strict_fail", "fallback_allowed"])
async def test_start_without_the_primary_is_refused(app, policy):
    near.switch.error = BackendUnavailable("off")
    with pytest.raises(BackendUnavailable):
        async with app.open(failover__policy=policy):
            pytest.fail("opened")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"failover__primary": None}, r"secrets\.failover\.primary"),
        ({"failover__policy": "Fallback_Allowed"}, r"secrets\.failover\.policy"),
        ({"failover__policy": "fallback_allowed", "failover__fallback": None}, r"secrets\.failover\.fallback"),
        ({"failover__fallback": "near"}, r"secrets\.failover\.fallback"),
        ({"failover__fallback": "failover"}, "failover → failover"),
        ({"failover__fallback": "appkeyy"}, "appkeyy"),
        ({"failover__timeout": 0}, r"secrets\.failover\.timeout"),
        ({"failover__fallbak": "appkey"}, r"secrets\.failover\.fallbak"),
        ({"appkey__key": None}, r"secrets\.appkey\.key"),
    ],
)
async def test_configuration_that_cannot_work_stops_the_start_and_names_the_setting(app, settings, named):
    with pytest.raises(ConfigError, match=named):
        async with app.open(**settings):
            pytest.fail("opened")


async def test_members_are_closed_once_with_the_runtime(app):
    async with app.open():
        assert near.closed == 0
    assert near.closed == 1
