"""What plugins add to a runtime is asked, entered, told and left: every hook with the place that consumes it."""

from __future__ import annotations

import logging
import sys
from contextlib import asynccontextmanager

import pytest

from go_services_core import HealthCheckSpec, ObserverSpec, Ref, Scope, SecretSourceSpec, hookimpl
from go_services_core.call_specs import RetryPolicy
from go_services_core.config.schema import setting, settings
from go_services_core.errors import (
    BadInput,
    ConfigError,
    ConnectionNotFound,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    ReauthRequired,
)
from go_services_core.model import Health
from go_services_core.secret import SecretStr
from go_services_core.testing.sandbox import Account

THIS = "made_hooks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """References resolve to this module under a name of its own."""
    monkeypatch.setitem(sys.modules, THIS, sys.modules[__name__])


# --- observers -----------------------------------------------------------------------------------------------------


async def test_observers_are_told_what_happens(app, runtime):
    told = []
    runtime.observe(told.append, name="test", inline=True)
    connection = await app.connect(runtime)
    await runtime.execute(connection.id, "items.list", {"per_page": 1})
    app.sandbox.faults.set("items.list", "500")
    with pytest.raises(ProviderUnavailable):
        await runtime.execute(connection.id, "items.list", retry=RetryPolicy(attempts=1))
    await runtime.refresh(connection.id)
    await runtime.accept_webhook("sandbox", app.webhook(b"{}"))
    await runtime.disconnect(connection.id)
    ended = [seen for seen in told if seen.phase == "end"]
    assert [(seen.name, seen.ok) for seen in ended] == [
        ("connect", True),
        ("connection.established", True),
        ("complete", True),
        ("operation", True),
        ("operation", False),
        ("refresh", True),
        ("webhook.accepted", True),
        ("webhook.accept", True),
        ("connection.disconnected", True),
        ("disconnect", True),
    ]
    operation, failed = ended[3:5]
    assert (operation.provider_id, operation.connection_id) == ("sandbox", connection.id)
    assert operation.duration_ms >= 0
    assert failed.error_code == ProviderUnavailable.code


async def test_observer_that_raises_harms_neither_the_call_nor_other_observers(app, runtime, caplog):
    told = []

    def broken(observation):
        raise RuntimeError("broken observer")

    runtime.observe(broken, name="broken", inline=True)
    runtime.observe(told.append, name="good", inline=True)
    with caplog.at_level(logging.ERROR, "go_services"):
        connection = await app.connect(runtime)
        await runtime.execute(connection.id, "me")
    ended = [seen.name for seen in told if seen.phase == "end"]
    assert ended == ["connect", "connection.established", "complete", "operation"]
    assert "broken" in caplog.text


async def test_failed_refresh_is_observed_with_its_code(app, runtime):
    told = []
    runtime.observe(told.append, name="test", inline=True)
    connection = await app.connect(runtime)
    for secret in app.sandbox.issued_secrets():
        app.sandbox.ledger.revoke(secret)
    with pytest.raises(ReauthRequired):
        await runtime.refresh(connection.id)
    assert (told[-1].name, told[-1].ok, told[-1].error_code) == ("refresh", False, ReauthRequired.code)


OBSERVED: list[tuple[str, str]] = []


@settings
class ObserverSettings:
    label: str = setting(default="plain", help="Label")


def make_observer(given, env):
    assert env.transport is not None
    return lambda observation: OBSERVED.append((given.label, observation.name))


class Observers:
    @hookimpl
    def gs_observers(self):
        return [ObserverSpec(id="made", factory=Ref(f"{THIS}:make_observer"), settings=ObserverSettings)]


async def test_observers_of_plugins_are_made_with_their_settings(app):
    OBSERVED.clear()
    async with app.open(plugins={"observers": Observers()}, settings={"observers.made.label": "mine"}) as runtime:
        await app.connect(runtime)
    assert ("mine", "connection.established") in OBSERVED


# --- ownership -----------------------------------------------------------------------------------------------------


class Classifier:
    @hookimpl
    def gs_error_classifier(self, provider_id):
        return self.classify if provider_id == "sandbox" else None

    def classify(self, response):
        if response.status == 404:
            return PermissionDenied("The item is hidden.")
        return None


async def test_error_classifier_types_what_it_knows_and_leaves_the_rest(app):
    async with app.open(plugins={"classifier": Classifier()}) as runtime:
        connection = await app.connect(runtime)
        with pytest.raises(PermissionDenied, match="hidden"):
            await runtime.execute(connection.id, "items.get", {"id": 999})
        app.sandbox.faults.set("items.list", "500")
        with pytest.raises(ProviderUnavailable):
            await runtime.execute(connection.id, "items.list", retry=RetryPolicy(attempts=1))


class Budget:
    def __init__(self):
        self.log = []

    @hookimpl
    def gs_rate_limit_policy(self, provider_id):
        return self if provider_id == "sandbox" else None

    def before(self, bucket):
        self.log.append(("before", bucket))
        return 2.5 if len(self.log) == 1 else 0

    def after(self, bucket, response):
        self.log.append(("after", response.header("X-RateLimit-Remaining")))


async def test_rate_limit_policy_waits_before_and_learns_after(app):
    budget = Budget()
    async with app.open(plugins={"budget": budget}) as runtime:
        connection = await app.connect(runtime)
        app.clock.slept.clear()
        await runtime.execute(connection.id, "me")
        await runtime.execute(connection.id, "me")
    assert app.clock.slept == [2.5]
    (first, bucket), (_, left), (second, _), (_, less) = budget.log
    assert (first, second) == ("before", "before")
    assert connection.id in bucket
    assert int(left) == int(less) + 1


class Newest:
    @hookimpl
    def gs_connection_policy(self, provider_id):
        return self.choose if provider_id == "sandbox" else None

    def choose(self, scope, connections):
        return max(connections, key=lambda one: one.external_account_id) if connections else None


async def test_find_gives_the_only_connection_or_says_why_not(app, runtime):
    who = Scope("user", "u1")
    with pytest.raises(ConnectionNotFound, match="no active"):
        await runtime.find("sandbox", who)
    connection = await app.connect(runtime)
    assert (await runtime.find("sandbox", who)).id == connection.id
    app.sandbox.account = Account(id="2002")
    await app.connect(runtime)
    with pytest.raises(ConnectionNotFound, match="more than one"):
        await runtime.find("sandbox", who)
    await runtime.disconnect(connection.id)
    assert (await runtime.find("sandbox", who)).external_account_id == "2002"


async def test_connection_policy_chooses_among_several(app):
    async with app.open(plugins={"policy": Newest()}) as runtime:
        who = Scope("user", "u1")
        with pytest.raises(ConnectionNotFound):
            await runtime.find("sandbox", who)
        for account in ("1001", "3003", "2002"):
            app.sandbox.account = Account(id=account)
            await app.connect(runtime)
        assert (await runtime.find("sandbox", who)).external_account_id == "3003"


# --- life ----------------------------------------------------------------------------------------------------------


class Life:
    def __init__(self, *, fail=False):
        self.log = []
        self.fail = fail

    @hookimpl
    def gs_lifespan(self, runtime):
        @asynccontextmanager
        async def life():
            assert (await runtime.store_status()).problems == ()
            self.log.append("entered")
            if self.fail:
                raise BadInput("This plugin cannot start.")
            try:
                yield
            finally:
                await runtime.connections()  # everything still works
                self.log.append("left")

        return life()


async def test_lifespan_is_entered_when_open_and_left_before_closing(app):
    life = Life()
    async with app.open(plugins={"life": life}):
        assert life.log == ["entered"]
    assert life.log == ["entered", "left"]


async def test_lifespan_is_left_when_the_application_fails(app):
    life = Life()
    with pytest.raises(ZeroDivisionError):
        async with app.open(plugins={"life": life}):
            raise ZeroDivisionError
    assert life.log == ["entered", "left"]


async def test_lifespan_that_fails_refuses_the_start_and_leaves_the_others(app):
    first = Life()
    with pytest.raises(BadInput, match="cannot start"):
        async with app.open(plugins={"a": first, "b": Life(fail=True)}):
            pytest.fail("opened")
    assert first.log == ["entered", "left"]


async def well(runtime):
    return Health(ok=True, detail=f"{len(runtime.providers())} providers")


async def ill(runtime):
    raise RuntimeError("no pulse")


class Checks:
    @hookimpl
    def gs_health_checks(self):
        return [
            HealthCheckSpec(id="ill", summary="Ill", check=Ref(f"{THIS}:ill")),
            HealthCheckSpec(id="well", summary="Well", check=Ref(f"{THIS}:well")),
        ]


async def test_health_checks_answer_and_one_that_raises_is_unhealthy(app):
    async with app.open(plugins={"checks": Checks()}) as runtime:
        answers = dict(await runtime.health())
        assert answers["well"] == Health(ok=True, detail="4 providers")
        assert answers["ill"] == Health(ok=False, detail="RuntimeError: no pulse")


# --- secrets -------------------------------------------------------------------------------------------------------


class Shelf:
    def __init__(self, given, env):
        pass

    def get(self, name):
        if name != "webhook":
            raise ConfigError(f"There is no secret {name!r} on the shelf.")
        return SecretStr("from-the-shelf")


class Sources:
    @hookimpl
    def gs_secret_sources(self):
        return [SecretSourceSpec(scheme="shelf", factory=Ref(f"{THIS}:Shelf"))]


async def test_secret_source_of_a_plugin_is_asked_for_settings(app):
    table = {**app.settings["providers.sandbox"], "webhook_secrets": ["shelf:webhook"]}
    async with app.open(plugins={"shelf": Sources()}, settings={"providers.sandbox": table}) as runtime:
        assert runtime.providers()["sandbox"].webhook_secrets == (SecretStr("from-the-shelf"),)
    table = {**table, "webhook_secrets": ["shelf:nothing"]}
    with pytest.raises(ConfigError, match="nothing"):
        async with app.open(plugins={"shelf": Sources()}, settings={"providers.sandbox": table}):
            pytest.fail("opened")


async def test_classifier_is_not_asked_for_good_answers(app):
    class Loud(Classifier):
        def classify(self, response):
            return ProviderError(f"asked for {response.status}")

    async with app.open(plugins={"classifier": Loud()}) as runtime:
        connection = await app.connect(runtime)
        assert (await runtime.execute(connection.id, "me")).status == 200
