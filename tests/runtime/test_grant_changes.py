"""What a provider grants, takes back and does not mention, from the callback to the history."""

from __future__ import annotations

import pytest
from attrs import evolve

from go_services_core import Capability, Scope
from go_services_core.errors import ConnectionNotFound, PermissionDenied, ReconsentRequired

BOTH = ("items.read", "items.write")


async def happened(runtime):
    """The new events of grants: name → payloads."""
    store, found = runtime._core.store, {}
    await store.queues.register_handlers({"test": "grant.*"}, now=runtime._core.clock.now().replace(year=2000))
    for claim in await store.queues.claim("outbox", owner="test", lease=30, limit=100, handlers=["test"]):
        found.setdefault(claim.event.name, []).append(dict(claim.event.payload))
        await store.queues.settle(claim, "done")
    return found


def narrowed(app, *scopes):
    """From now on the provider grants these, with every token that it issues."""
    for token in app.sandbox.ledger._refresh.values():
        token.grant.scopes = scopes


@pytest.fixture
def capable(app):
    spec = app.providers.specs["sandbox"]
    more = Capability("items.sync", grants=("items.read",), optional=("items.write",), denied="degrade")
    app.set(capabilities=(*spec.capabilities, more))
    return app


async def test_callback_that_grants_less_says_what_is_missing_and_for_which_capability(capable):
    """P86: what is required is told apart from what is only of use."""
    app = capable
    app.sandbox.approve_scopes = frozenset({"items.read"})
    async with app.open() as runtime:
        made = await app.connect(runtime, grants=BOTH)
        (drift,) = (await happened(runtime))["grant.drift"]
        assert drift == {
            "requested": list(BOTH),
            "granted": ["items.read"],
            "missing": ["items.write"],
            "required": {"items.write": ["items.write"]},
            "optional": {"items.sync": ["items.write"]},
        }
        report = await runtime.grants(made.id)
        assert (report.requested, report.granted, report.missing) == (BOTH, ("items.read",), ("items.write",))
        assert (report.version, report.connection_id) == (1, made.id)
        assert {one.capability: one.mode for one in report.capabilities} == {
            "items.read": "full",
            "items.write": "blocked",
            "items.sync": "degraded",
        }
        assert made.status == "active"  # one lost grant blocks what needs it, and nothing else


async def test_capability_for_which_nothing_was_asked_is_not_missed(capable):
    """Only grants that were requested for the connection count."""
    app = capable
    async with app.open() as runtime:
        made = await app.connect(runtime, grants=("items.read",))
        assert set(await happened(runtime)) == {"grant.expanded"}
        assert (await runtime.grants(made.id)).missing == ()
        await runtime.refresh(made.id)
        assert (await runtime.connection(made.id)).status == "active"
        assert await app.grant_events(runtime) == ["grant.expanded"]


async def test_blocked_capability_sends_nothing_and_a_degraded_one_goes_on(capable, counted):
    """A decision that is not allowed never executes, whatever its capability says of missing grants."""
    app = capable
    spec = app.providers.specs["sandbox"]
    blocked = Capability("items.write", grants=("items.write",), optional=("items.read",), denied="degrade")
    degraded = Capability("items.read", grants=("items.read",), optional=("items.write",), denied="degrade")
    app.set(capabilities=(degraded, blocked))
    assert {operation.capability for operation in spec.operations} >= {"items.read", "items.write"}
    async with app.open() as runtime:
        made = await app.connect(runtime, grants=("items.read",))
        counted()
        with pytest.raises(PermissionDenied) as refused:
            await runtime.execute(made.id, "items.create", {"name": "lamp"})
        assert refused.value.metadata["missing"] == ["items.write"]
        assert "Runtime.reconsent" in (refused.value.hint or "")
        assert not counted()
        assert (await runtime.can(made.id, "items.read")).mode == "degraded"
        assert (await runtime.execute(made.id, "items.list")).status == 200


async def test_renewal_that_loses_a_grant_is_told_once_and_blocks_what_needs_it(capable):
    app = capable
    async with app.open() as runtime:
        made = await app.connect(runtime, grants=BOTH)
        narrowed(app, "items.read")
        for _ in range(3):
            await runtime.refresh(made.id)
        assert (await runtime.connection(made.id)).status == "active"
        assert not (await runtime.can(made.id, "items.write")).allowed
        assert await app.grant_events(runtime) == ["grant.downgraded", "grant.drift", "grant.expanded"]
        told = await happened(runtime)
        (drift,), (lost,) = told["grant.drift"], told["grant.downgraded"]
        assert drift["required"] == {"items.write": ["items.write"]}
        assert lost == {
            "requested": list(BOTH),
            "granted": ["items.read"],
            "added": [],
            "removed": ["items.write"],
            "snapshot_version": 2,
        }
        narrowed(app, *BOTH)
        await runtime.refresh(made.id)
        assert (await runtime.can(made.id, "items.write")).allowed
        assert (await app.grant_events(runtime)).count("grant.expanded") == 2
        assert [one.version for one in (await runtime.grant_snapshots(made.id)).items] == [1, 2, 3]


async def test_renewal_that_does_not_mention_scope_changes_no_grant(either):
    """RFC 6749 §5.1: absent means unchanged; the Go system took it for revoked."""
    async with either.open() as runtime:
        made = await either.connect(runtime, grants=BOTH)
        either.sandbox.token_answer = "no-scope"
        await runtime.refresh(made.id)
        assert await either.grant_events(runtime) == ["grant.expanded"]
        assert (await runtime.grants(made.id)).granted == BOTH
        assert (await runtime.connection(made.id)).status == "active"


async def test_renewal_that_takes_everything_back_is_saved_and_asks_for_a_consent(either, monkeypatch):
    """The strategy says explicitly that nothing is left: an absent or blank scope never means that."""
    from go_services_core.auth.oauth2_code import OAuth2CodeFlow

    real = OAuth2CodeFlow.refresh

    def nothing_left(self, ctx, credential):
        return evolve((yield from real(self, ctx, credential)), granted=())

    async with either.open() as runtime:
        made = await either.connect(runtime, grants=BOTH)
        monkeypatch.setattr(OAuth2CodeFlow, "refresh", nothing_left)
        with pytest.raises(ReconsentRequired):
            await runtime.refresh(made.id)
        connection, row = await either.stored(runtime, made.id)
        assert (connection.status, row.version, row.granted) == ("needs_reconsent", 2, ())
        assert await either.events(runtime) == [
            "connection.established",
            "connection.needs_reconsent",
            "credential.refreshed",
        ]
        assert "grant.revoked" in await either.grant_events(runtime)
        with pytest.raises(ReconsentRequired):
            await runtime.token(made.id)


async def test_unknown_grants_of_a_record_that_tells_them_block(app):
    """A server that neither was asked for scopes nor says which ones it chose breaks RFC 6749 §3.3."""
    for tells, allowed in ((True, False), (False, True)):
        oauth = app.providers.specs["sandbox"].auth[0]
        app.set(auth=evolve(oauth, tells_grants=tells))
        async with app.open() as runtime:
            made = await app.connect(runtime, f"u{tells}", grants=("items.read",))
            app.rows("UPDATE service_credentials SET granted_scopes = 'null'")
            runtime._core.forget(made.id)
            decision = await runtime.can(made.id, "items.read")
            report = await runtime.grants(made.id)
            assert (decision.allowed, report.granted, report.missing) == (allowed, None, ())
            assert decision in report.capabilities


async def test_key_whose_provider_does_not_tell_grants_is_left_to_the_provider(app, runtime):
    made = await runtime.establish("keyed", scope=Scope("user", "u1"), fields={"key": app.sandbox.api_key})
    report = await runtime.grants(made.id)
    assert (report.requested, report.granted, report.missing) == ((), None, ())
    assert all(one.allowed for one in report.capabilities)
    assert report.capabilities


async def test_grants_of_an_unknown_connection_are_not_found_and_its_history_is_empty(app, runtime):
    with pytest.raises(ConnectionNotFound):
        await runtime.grants("none")
    assert (await runtime.grant_events("none")).items == ()


async def test_rows_from_before_the_types_were_named_stay_readable(app, runtime):
    made = await app.connect(runtime)
    app.rows("UPDATE service_grant_events SET event_type = 'granted', metadata = '{}'")
    (line,) = (await runtime.grant_events(made.id)).items
    assert (line.type, line.snapshot_version) == ("granted", None)


async def test_grants_of_a_provider_that_is_not_configured_any_more_are_shown_without_decisions(app, runtime):
    made = await app.connect(runtime)
    app.rows("UPDATE service_connections SET provider_id = 'gone'")
    report = await runtime.grants(made.id)
    assert report.granted
    assert report.capabilities == ()


async def test_disconnected_connection_still_shows_what_it_had(either):
    async with either.open() as runtime:
        made = await either.connect(runtime, grants=("items.read",))
        await runtime.disconnect(made.id)
        assert (await runtime.grants(made.id)).granted == ("items.read",)
