"""Capabilities by scope: resolved, permitted or degraded, executed; what is denied is never sent."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from attrs import evolve

from go_services_core import Capability, Operation, Scope, hookimpl
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import (
    BadInput,
    CapabilityUnsupported,
    ConnectionAmbiguous,
    ConnectionNotFound,
    OperationNotFound,
    PermissionDenied,
    ProviderNotFound,
    ProviderUnavailable,
    RequestTimeout,
)
from go_services_core.model import Decision
from go_services_core.runtime import invoke
from go_services_core.runtime.capabilities import permit
from go_services_core.testing.sandbox import Account

from .test_execute import statements

ONCE = RetryPolicy(attempts=1)
ADA, ACME = Scope("user", "u1"), Scope("org", "acme")


async def test_capability_is_used_with_the_connection_of_the_scope(either):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        made = await runtime.invoke("items.write", "sandbox", ADA, params={"name": "lamp"})
        assert made.result.data["name"] == "lamp"
        assert (made.operation, made.resolution.outcome) == ("items.create", "direct")
        assert (made.decision.mode, made.decision.connection_id) == ("full", connection.id)
        assert await runtime.can_invoke("items.write", "sandbox", ADA) == made.decision


async def test_denied_capability_is_never_sent_and_tells_what_is_missing(app, runtime, counted):
    connection = await app.connect(runtime, grants=("items.read",))
    counted()
    with pytest.raises(PermissionDenied) as refused:
        await runtime.invoke("items.write", "sandbox", ADA, params={"name": "lamp"})
    assert refused.value.metadata == {"missing": ["items.write"], "connection_id": connection.id}
    decided = await runtime.can_invoke("items.write", "sandbox", ADA)
    assert (decided.allowed, decided.mode, decided.missing) == (False, "blocked", ("items.write",))
    assert counted() == {}


async def test_missing_required_and_merely_useful_grants_are_told_apart(app, counted):
    """P86."""
    app.set(
        capabilities=(
            Capability("items.read", grants="items.read", optional=("a", "b"), denied="degrade"),
            Capability("items.write", grants=("items.write", "items.admin"), optional="c", denied="degrade"),
            Capability("items.plain", grants="items.read", optional="d"),
        )
    )
    async with app.open() as runtime:
        await app.connect(runtime, grants=("items.read",))
        listed = await runtime.invoke("items.read", "sandbox", ADA, operation="items.list")
        assert listed.result.status == 200
        assert (listed.decision.mode, listed.decision.missing, listed.decision.optional) == (
            "degraded", ("a", "b"), ("a", "b"),
        )  # fmt: skip
        blocked = await runtime.can_invoke("items.write", "sandbox", ADA)
        assert (blocked.allowed, blocked.missing, blocked.optional) == (False, ("items.admin", "items.write"), ("c",))
        full = await runtime.can_invoke("items.plain", "sandbox", ADA)
        assert (full.mode, full.missing, full.optional) == ("full", (), ("d",))


async def test_scope_without_a_connection_or_with_several_is_told_without_calling(app, runtime, counted):
    nothing = await runtime.can_invoke("items.read", "sandbox", ADA)
    assert (nothing.allowed, nothing.mode, nothing.connection_id) == (False, "blocked", None)
    assert "no active connection" in nothing.reason
    with pytest.raises(ConnectionNotFound):
        await runtime.invoke("items.write", "sandbox", ADA, params={"name": "x"})
    await app.connect(runtime)
    app.sandbox.account = Account(id="2002")
    await app.connect(runtime)
    counted()
    assert "more than one" in (await runtime.can_invoke("items.read", "sandbox", ADA)).reason
    with pytest.raises(ConnectionAmbiguous):
        await runtime.invoke("items.write", "sandbox", ADA, params={"name": "x"})
    assert counted() == {}


async def test_capability_is_inherited_from_an_organisation_that_the_call_names(app):
    async with app.open(settings={"providers.sandbox.inheritance": "org"}) as runtime:
        of_acme = await app.connect(runtime, scope=ACME)
        assert not (await runtime.can_invoke("items.write", "sandbox", ADA)).allowed
        for _ in range(2):  # looked up, then kept
            made = await runtime.invoke("items.write", "sandbox", ADA, params={"name": "x"}, parents=[ACME])
            assert (made.resolution.outcome, made.resolution.parent) == ("inherited", ACME)
            assert made.decision.connection_id == of_acme.id


async def test_operation_is_the_capabilitys_only_one_or_named(app, runtime, counted):
    await app.connect(runtime)
    counted()
    with pytest.raises(BadInput, match=r"Name one of items\.list, items\.get"):
        await runtime.invoke("items.read", "sandbox", ADA)
    with pytest.raises(BadInput, match=r"not one of the capability items\.read"):
        await runtime.invoke("items.read", "sandbox", ADA, operation="items.create")
    with pytest.raises(BadInput, match="not one of"):
        await runtime.invoke("items.read", "sandbox", ADA, operation="me")
    with pytest.raises(OperationNotFound, match=r"items\.list"):
        await runtime.invoke("items.read", "sandbox", ADA, operation="items.lst")
    with pytest.raises(CapabilityUnsupported, match=r"items\.read"):
        await runtime.invoke("items.raed", "sandbox", ADA)
    with pytest.raises(CapabilityUnsupported):
        await runtime.can_invoke("items.raed", "sandbox", ADA)
    with pytest.raises(ProviderNotFound):
        await runtime.invoke("items.read", "sandbx", ADA)
    assert counted() == {}


async def test_capability_without_an_operation_says_so(app):
    app.set(capabilities=(*app.providers.specs["sandbox"].capabilities, Capability("extra")))
    async with app.open() as runtime:
        await app.connect(runtime)
        with pytest.raises(BadInput, match="No operations"):
            await runtime.invoke("extra", "sandbox", ADA)


@pytest.mark.parametrize("mode", ["degraded", "full", ""])
async def test_only_allowed_is_allowed_whatever_the_mode_says(app, runtime, counted, mode):
    """Weakness 37 of the Go system: a decision of "no" with the mode "degrade", or a blank one, was executed."""
    connection = await app.connect(runtime)
    await runtime.can(connection.id, "items.write")
    loaded = runtime._core.cache[connection.id]
    loaded.decisions["items.write"] = Decision(allowed=False, capability="items.write", mode=mode)
    counted()
    with pytest.raises(PermissionDenied):
        await runtime.invoke("items.write", "sandbox", ADA, params={"name": "x"})
    with pytest.raises(PermissionDenied):
        permit(loaded, Operation("items.create", "POST", "/items", capability="items.write"))
    assert counted() == {}


class Foreign:
    """A connection policy that answers with what it was not given."""

    def __init__(self) -> None:
        self.chosen = None

    @hookimpl
    def gs_connection_policy(self, provider_id):
        return (lambda scope, connections: self.chosen) if provider_id == "sandbox" else None


async def test_policy_that_chooses_another_scopes_connection_is_refused(app, counted):
    policy = Foreign()
    async with app.open(plugins={"policy": policy}) as runtime:
        await app.connect(runtime)
        app.sandbox.account = Account(id="2002")
        other = await app.connect(runtime, "u2")
        policy.chosen = other
        counted()
        with pytest.raises(PermissionDenied, match="policy"):
            await runtime.invoke("items.write", "sandbox", ADA, params={"name": "x"})
        policy.chosen = evolve(other, id="made-up")
        with pytest.raises(PermissionDenied, match="policy"):
            await runtime.find("sandbox", ADA)
        assert counted() == {}


async def test_options_of_a_call_hold_for_an_invocation(app, monkeypatch):
    """Whether it is repeated, keyed and in the background is the caller's to say, as with ``execute``."""
    monkeypatch.setattr(invoke, "execute", AsyncMock(wraps=invoke.execute))
    app.set(api=evolve(app.providers.specs["sandbox"].api, idempotency_header="Idempotency-Key"))
    async with app.open() as runtime:
        await app.connect(runtime)

        async def create():
            return await runtime.invoke(
                "items.write", "sandbox", ADA, params={"name": "lamp"}, idempotency_key="k-1", retry=ONCE,
                background=True,
            )  # fmt: skip

        made, again = await create(), await create()
        assert again.result.replayed
        assert again.result.data["id"] == made.result.data["id"]
        app.sandbox.faults.set("items.list", "500")
        with pytest.raises(ProviderUnavailable) as failed:
            await runtime.invoke("items.read", "sandbox", ADA, operation="items.list", retry=ONCE)
        assert failed.value.attempts == 1
    asked = invoke.execute.call_args_list[0].kwargs
    assert asked["background"] is True
    assert asked["idempotency_key"] == "k-1"


async def test_invoking_takes_two_statements_cold_and_none_while_it_is_kept(app):
    async with app.open() as runtime:
        await app.connect(runtime)
    async with app.open() as runtime:
        seen = statements(runtime)
        await runtime.invoke("items.read", "sandbox", ADA, operation="items.list")
        assert seen == ["SELECT"] * 2
        await runtime.invoke("items.read", "sandbox", ADA, operation="items.list")
        assert (await runtime.can_invoke("items.read", "sandbox", ADA)).allowed
        assert seen == ["SELECT"] * 2
        app.clock.advance(31)
        await runtime.invoke("items.read", "sandbox", ADA, operation="items.list")
        assert seen == ["SELECT"] * 4


async def test_nothing_is_kept_where_the_cache_is_off(app):
    async with app.open(settings={"runtime.cache_seconds": 0}) as runtime:
        await app.connect(runtime)
        seen = statements(runtime)
        for _ in range(2):
            await runtime.invoke("items.read", "sandbox", ADA, operation="items.list")
        assert seen == ["SELECT"] * 4
        assert runtime._core.served == {}


async def test_connection_that_ends_or_joins_here_is_seen_at_once(app, runtime):
    connection = await app.connect(runtime)
    assert (await runtime.can_invoke("items.read", "sandbox", ADA)).allowed
    app.sandbox.account = Account(id="2002")
    other = await app.connect(runtime)
    assert "more than one" in (await runtime.can_invoke("items.read", "sandbox", ADA)).reason
    await runtime.disconnect(connection.id)
    assert (await runtime.can_invoke("items.read", "sandbox", ADA)).connection_id == other.id
    await runtime.disconnect(other.id)
    assert not (await runtime.can_invoke("items.read", "sandbox", ADA)).allowed


async def test_what_is_kept_of_scopes_ends_with_its_time(app):
    async with app.open(settings={"runtime.cache_seconds": 10}) as runtime:
        for number in range(4):
            await app.connect(runtime, f"u{number}")
            await runtime.can_invoke("items.read", "sandbox", Scope("user", f"u{number}"))
            app.clock.advance(4)
        assert [key[1].id for key in runtime._core.served] == ["u1", "u2", "u3"]


async def test_deadline_includes_finding_the_connection(app, runtime):
    await app.connect(runtime)
    app.sandbox.faults.set("items.list", "slow", times=None, seconds=30)
    with pytest.raises(RequestTimeout):
        await runtime.invoke("items.read", "sandbox", ADA, operation="items.list", deadline=0.1)
