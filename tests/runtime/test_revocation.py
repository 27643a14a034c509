"""What a disconnect could not revoke at once: kept sealed for a job, revoked later, or given up with an event."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from attrs import evolve

from go_services_core import ProviderAdapter, Ref, Scope
from go_services_core.clock import uuid7
from go_services_core.errors import ProviderNotFound, ReauthRequired, VersionConflict
from go_services_core.model import REVOKE_JOB, NewJob, Sealed
from go_services_core.resources import Subscription
from go_services_core.runtime import bindings
from go_services_core.runtime import disconnect as disconnecting
from go_services_core.runtime.jobs import MAX_ATTEMPTS
from go_services_core.runtime.revocation import ATTEMPTS, FIRST_DELAY, GIVE_UP_AFTER
from go_services_core.testing.memory import MemoryStore

from .test_disconnect import accepted
from .test_refresh_protocol import Gate


@pytest.fixture
def memory(app, clock):
    """The application on a store whose leases and delays go by the test's clock."""
    app.store = MemoryStore(clock=clock)
    return app


def record(app, **fields):
    app.set(auth=evolve(app.providers.specs["sandbox"].auth[0], **fields))


async def queued(runtime):
    items = (await runtime._core.store.queues.list("jobs")).items
    return [(item.name, item.status, item.error) for item in items]


async def kept(runtime, connection_id):
    return [row.version for row in await runtime._core.store.connections.credentials(connection_id)]


def due(app):
    """Make every job of the database due."""
    app.rows("UPDATE service_sync_jobs SET next_attempt_at = created_at WHERE status = 'queued'")


def without_provider(app):
    """Take the sandbox out of the configuration."""
    del app.providers.specs["sandbox"]
    kept = {name: value for name, value in app.settings.items() if not name.startswith("providers.sandbox")}
    app.settings = {**kept, "egress.allow": {}}


async def payload_of(runtime, name):
    """The payload of the only event of that name."""
    events = runtime._core.store.queues._tables.events.values()
    (found,) = [dict(event.payload) for event in events if event.name == name]
    return found


async def test_revocation_that_failed_is_retried_until_the_provider_answers(memory, clock, counted):
    async with memory.open() as runtime:
        connection = await memory.connect(runtime)
        memory.sandbox.faults.set("revoke", "503", times=3)
        ended = await runtime.disconnect(connection.id, reason="user asked")
        assert (ended.revoked, ended.pending, ended.connection.status) == (False, True, "disconnected")
        assert "it is tried again" in ended.detail
        assert await kept(runtime, connection.id) == [1]
        assert (await payload_of(runtime, "connection.disconnected"))["pending"] is True
        counted()
        assert await runtime.run_due(REVOKE_JOB) == 0  # not before its time
        assert counted() == {}
        for delay in (FIRST_DELAY, 60.0):
            clock.advance(delay)
            drained = await runtime.drain()
            assert (drained.jobs, drained.failed) == (0, 1)
            assert counted() == {"revoke": 1}
            (job,) = await runtime.pending_revocations(connection.id)
            assert "503" in job.last_error
            assert accepted(memory.sandbox)
        again = await runtime.disconnect(connection.id)
        assert (again.detail, again.pending) == ("was disconnected before", True)
        clock.advance(120)
        assert (await runtime.drain()).jobs == 1
        assert not accepted(memory.sandbox)
        assert list(await runtime.pending_revocations(connection.id)) == []
        assert await kept(runtime, connection.id) == []
        assert await queued(runtime) == [(REVOKE_JOB, "succeeded", "")]
        told = {"version": 1, "attempts": 3, "detail": "revoked at the provider"}
        assert await payload_of(runtime, "credential.revoked") == told
        assert (await runtime.disconnect(connection.id)).pending is False
        clock.advance(10_000)
        counted()
        assert await runtime.run_due(REVOKE_JOB) == 0
        assert counted() == {}


async def test_only_the_ciphertext_that_is_still_needed_stays(app, runtime):
    connection = await app.connect(runtime)
    await runtime.refresh(connection.id)
    app.sandbox.faults.set("revoke", "500")
    await runtime.disconnect(connection.id)
    rows = app.rows("SELECT version, status, length(encrypted_payload) > 0 FROM service_credentials ORDER BY version")
    assert rows == [(1, "revoked", 0), (2, "revoked", 1)]
    assert (await runtime.store_status()).problems == ()
    ((ciphertext,),) = app.rows("SELECT encrypted_payload FROM service_credentials WHERE version = 2")
    due(app)
    assert await runtime.run_due(REVOKE_JOB) == 1
    assert ciphertext not in app.content()
    assert await app.events(runtime) == [
        "connection.disconnected",
        "connection.established",
        "credential.refreshed",
        "credential.revoked",
    ]


async def test_ciphertext_of_a_disconnected_connection_without_its_job_is_a_problem_of_the_store(app, runtime):
    connection = await app.connect(runtime)
    app.sandbox.faults.set("revoke", "500")
    await runtime.disconnect(connection.id)
    core = runtime._core
    assert await core.store.admin.verify() == []
    for status in ("succeeded", "failed"):
        app.rows("UPDATE service_sync_jobs SET status = ?, next_attempt_at = NULL", status)
        assert await core.store.admin.verify() == [
            "1 ciphertexts of disconnected connections that no job has to revoke"
        ]


async def test_new_key_wraps_what_is_kept(app, runtime):
    connection = await app.connect(runtime)
    app.sandbox.faults.set("revoke", "500")
    await runtime.disconnect(connection.id)
    before = app.rows("SELECT encrypted_payload FROM service_credentials")
    report = await runtime.rewrap(all=True, verify=True)
    assert [(kind.done, kind.verified) for kind in report.kinds if kind.kind == "credential"] == [(1, 1)]
    assert app.rows("SELECT encrypted_payload FROM service_credentials") != before
    due(app)
    assert await runtime.run_due(REVOKE_JOB) == 1
    assert not accepted(app.sandbox)


@pytest.mark.parametrize("ending", ["time", "attempts"])
async def test_revocation_is_given_up_with_an_event(memory, clock, ending):
    async with memory.open() as runtime:
        connection = await memory.connect(runtime)
        memory.sandbox.faults.set("revoke", "500", times=None)
        await runtime.disconnect(connection.id)
        if ending == "time":
            clock.advance(GIVE_UP_AFTER.total_seconds() - 1)
            assert await runtime.run_due(REVOKE_JOB) == 0
            assert await kept(runtime, connection.id) == [1]
            clock.advance(61)
        else:
            clock.advance(FIRST_DELAY)
            runtime._core.store.queues._tables.jobs[
                (await runtime.pending_revocations(connection.id))[0].id
            ].attempts = ATTEMPTS - 1
        assert await runtime.run_due(REVOKE_JOB) == 1
        assert await kept(runtime, connection.id) == []
        assert list(await runtime.pending_revocations(connection.id)) == []
        told = await payload_of(runtime, "credential.revocation_failed")
        assert told["detail"].startswith("given up: The revocation endpoint answered with status 500")
    assert ATTEMPTS < MAX_ATTEMPTS  # or the job would be set aside with its ciphertext


async def test_revocation_is_given_up_where_the_credential_never_opens(memory, clock):
    async with memory.open() as runtime:
        connection = await memory.connect(runtime)
        versions = runtime._core.store.connections._tables.credentials[connection.id]
        versions[0] = evolve(versions[0], sealed=Sealed(b"\0", versions[0].sealed.key))
        ended = await runtime.disconnect(connection.id)
        assert (ended.revoked, ended.pending) == (False, True)
        clock.advance(GIVE_UP_AFTER.total_seconds())
        assert await runtime.run_due(REVOKE_JOB) == 1
        assert await kept(runtime, connection.id) == []
        assert "given up" in (await payload_of(runtime, "credential.revocation_failed"))["detail"]


async def test_provider_that_left_the_configuration_leaves_the_job_due(app):
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.faults.set("revoke", "500")
        await runtime.disconnect(connection.id)
    spec, whole = app.providers.specs["sandbox"], app.settings
    without_provider(app)
    due(app)
    async with app.open() as runtime:
        assert await runtime.run_due(REVOKE_JOB) == 0
        (job,) = await runtime.pending_revocations(connection.id)
        assert job.last_error.startswith("There is no provider 'sandbox'")
    app.providers.specs["sandbox"], app.settings = spec, whole
    due(app)
    async with app.open() as runtime:
        assert await runtime.run_due(REVOKE_JOB) == 1
        assert not accepted(app.sandbox)


async def test_connection_of_a_provider_that_is_not_configured_ends_and_its_revocation_waits(app):
    async with app.open() as runtime:
        connection = await app.connect(runtime)
    without_provider(app)
    async with app.open() as runtime:
        with pytest.raises(ProviderNotFound):
            runtime._core.instance("sandbox")
        ended = await runtime.disconnect(connection.id)
        assert (ended.connection.status, ended.pending) == ("disconnected", True)


async def test_provider_that_offers_no_revocation_any_more_ends_the_job(memory, clock, counted):
    async with memory.open() as runtime:
        connection = await memory.connect(runtime)
        memory.sandbox.faults.set("revoke", "500")
        await runtime.disconnect(connection.id)
    record(memory, revocation_url=None)
    clock.advance(FIRST_DELAY)
    counted()
    async with memory.open() as runtime:
        assert await runtime.run_due(REVOKE_JOB) == 1
        assert counted() == {}
        assert await kept(runtime, connection.id) == []
        told = await payload_of(runtime, "credential.revocation_failed")
        assert told["detail"] == "the provider offers no revocation"


class BrokenOnce(ProviderAdapter):
    broken = True

    def revoke(self, ctx, credential):
        if BrokenOnce.broken:
            raise ValueError("a mistake of the plugin")


async def test_mistake_of_a_plugin_is_retried_as_well(memory, clock, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "made_adapters", sys.modules[__name__])
    memory.set(adapter=Ref("made_adapters:BrokenOnce"))
    async with memory.open() as runtime:
        connection = await memory.connect(runtime)
        assert (await runtime.disconnect(connection.id)).pending
        monkeypatch.setattr(BrokenOnce, "broken", False)
        clock.advance(FIRST_DELAY)
        assert await runtime.run_due(REVOKE_JOB) == 1
        assert not accepted(memory.sandbox)


async def test_connection_that_came_back_is_not_ended_by_an_old_revocation_of_its_grant(memory, clock, counted):
    """Protocols, Refresh 9: where revoking a token ends the grant, the new connection would end with it."""
    record(memory, revocation_scope="grant")
    async with memory.open() as runtime:
        connection = await memory.connect(runtime)
        memory.sandbox.faults.set("revoke", "500")
        await runtime.disconnect(connection.id)
        again = await memory.connect(runtime)
        assert again.id == connection.id
        counted()
        clock.advance(FIRST_DELAY)
        assert await runtime.run_due(REVOKE_JOB) == 1
        assert counted() == {}
        told = await payload_of(runtime, "credential.revocation_failed")
        assert f"connection {connection.id} of the same account" in told["detail"]
        assert await kept(runtime, connection.id) == [2]
        assert (await runtime.execute(connection.id, "me")).status == 200


async def test_old_tokens_are_revoked_although_the_connection_came_back(memory, clock):
    record(memory, revocation_scope="token")
    async with memory.open() as runtime:
        connection = await memory.connect(runtime)
        first = memory.secrets("sbx_")
        memory.sandbox.faults.set("revoke", "500")
        await runtime.disconnect(connection.id)
        await memory.connect(runtime)
        clock.advance(FIRST_DELAY)
        assert await runtime.run_due(REVOKE_JOB) == 1
        assert not first & set(accepted(memory.sandbox))
        assert (await runtime.execute(connection.id, "me")).status == 200
        assert await kept(runtime, connection.id) == [2]
        assert (await payload_of(runtime, "credential.revoked"))["version"] == 1


async def test_sibling_that_needs_consent_again_keeps_its_grant(either, counted):
    """Protocols, Refresh 9: it lives on the grant as well; one whose grant is over does not."""
    record(either, revocation_scope="grant")
    async with either.open() as runtime:
        first, second = await either.connect(runtime, "u1"), await either.connect(runtime, "u2")
        for status, revoked in (("needs_reconsent", False), ("pending_reauth", True)):
            if either.store is None:
                either.rows("UPDATE service_connections SET status = ? WHERE id = ?", status, second.id)
            else:
                tables = either.store._tables
                tables.connections[second.id] = evolve(tables.connections[second.id], status=status)
            counted()
            assert (await runtime.disconnect(first.id)).revoked is revoked
            first = await either.connect(runtime, "u1")


async def test_late_token_of_a_renewal_is_saved_and_then_revoked(either):
    """P12: it is what the provider knows; revoking its predecessor alone would leave it alive."""
    record(either, revocation_scope="token")
    async with either.open() as slow, either.open() as other:
        connection = await either.connect(slow)
        either.sandbox.faults.set("token", "slow", seconds=0)
        gate = Gate(slow._core)
        late = asyncio.create_task(slow.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        either.age(65)
        facet = other._core.store.connections
        between = await facet.open_refresh(connection.id, owner="between", lease=60, intent_id="between")
        gate.open.set()
        while (await facet.refresh_history(connection.id, 1)).late is None:
            await asyncio.sleep(0.002)
        await facet.drop_refresh(between.lease)
        late.cancel()
        ended = await other.disconnect(connection.id)
        assert (ended.revoked, ended.overtaken) == (True, False)
        assert not accepted(either.sandbox)
        assert "credential.refreshed" in await either.events(other)


@pytest.mark.parametrize("revocation", ["works", "fails"])
@pytest.mark.parametrize("required", ["before it came", "after it came"])
async def test_late_token_of_a_connection_that_waits_for_consent_is_revoked(memory, clock, required, revocation):
    """P12: nobody may renew and save it any more; it is alive all the same, and its predecessor is spent."""
    await late_token_is_revoked(memory, required, revocation)


@pytest.mark.parametrize("required", ["before it came", "after it came"])
async def test_late_token_is_revoked_in_a_database(app, required):
    await late_token_is_revoked(app, required, "works")


async def late_token_is_revoked(app, required, revocation):
    record(app, revocation_scope="token")
    async with app.open() as slow, app.open() as other:
        connection = await app.connect(slow)
        gate = Gate(slow._core)
        renewing = asyncio.create_task(slow.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        new = app.secrets("sbx_rt_")
        app.age(65)
        facet = other._core.store.connections
        between = await facet.open_refresh(connection.id, owner="between", lease=60, intent_id="between")
        if required == "before it came":
            await other.require_reconsent(connection.id, reason="policy")
        gate.open.set()
        async with asyncio.timeout(30):
            while (await facet.refresh_history(connection.id, 1)).late is None:
                await asyncio.sleep(0.002)
        if required == "after it came":
            await other.require_reconsent(connection.id, reason="policy")
        await facet.drop_refresh(between.lease)
        renewing.cancel()
        late = await other._core.sealer.open(
            (await facet.refresh_history(connection.id, 1)).late.credential.sealed,
            bindings.credential(connection.id, 2, "sandbox", connection.scope),
        )
        (token,) = [secret for secret in new if secret.encode() in late.reveal()]
        told = []
        send_on = other._core.transport.send

        class Noting:
            async def send(self, request, *, provider_id):
                told.append(request.body.decode())
                return await send_on(request, provider_id=provider_id)

        other._core.transport = Noting()
        if revocation == "fails":
            app.sandbox.faults.set("revoke", "500")
        ended = await other.disconnect(connection.id)
        assert (ended.connection.status, ended.pending) == ("disconnected", revocation == "fails")
        assert f"token={token}&" in told[0]
        if revocation == "fails":
            app.clock.advance(FIRST_DELAY)
            told.clear()
            assert await other.run_due(REVOKE_JOB) == 1
            assert f"token={token}&" in told[0]
        assert not accepted(app.sandbox)
        assert await kept(other, connection.id) == []


async def test_credential_that_is_replaced_while_it_is_revoked_is_revoked_too(app, monkeypatch):
    record(app, revocation_scope="token")
    async with app.open() as one, app.open() as two:
        connection = await app.connect(one)
        send_on, consented = one._core.transport.send, asyncio.Event()

        class Between:
            async def send(self, request, *, provider_id):
                if request.url.endswith("/revoke") and not consented.is_set():
                    consented.set()
                    await app.connect(two)
                return await send_on(request, provider_id=provider_id)

        one._core.transport = Between()
        ended = await one.disconnect(connection.id)
        assert (ended.revoked, ended.connection.status) == (True, "disconnected")
        assert not accepted(app.sandbox)


async def test_connection_that_is_replaced_again_and_again_stays(app, runtime, monkeypatch):
    connection = await app.connect(runtime)

    async def replaced(*args, **kwargs):
        raise VersionConflict

    monkeypatch.setattr(runtime._core.store.connections, "disconnect", replaced)
    with pytest.raises(VersionConflict, match="try again"):
        await runtime.disconnect(connection.id)
    assert (await runtime.connection(connection.id)).status == "active"
    assert app.rows("SELECT count(*) FROM service_leases WHERE owner IS NOT NULL") == [(0,)]


async def test_disconnect_does_not_wait_for_ever_and_says_that_a_renewal_went_on(either, monkeypatch, counted):
    async with either.open() as slow, either.open() as other:
        connection = await either.connect(slow)
        gate = Gate(slow._core)
        late = asyncio.create_task(slow.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        monkeypatch.setattr(disconnecting, "WAIT", 0.2)
        ended = await other.disconnect(connection.id)
        assert (ended.overtaken, ended.connection.status) == (True, "disconnected")
        gate.open.set()
        with pytest.raises(ReauthRequired, match="disconnected"):
            await late
        assert not accepted(either.sandbox)


async def test_token_that_comes_after_the_disconnect_and_cannot_be_given_back_is_left_to_a_job(
    memory, clock, monkeypatch, caplog
):
    record(memory, revocation_scope="token")
    async with memory.open() as slow, memory.open() as other:
        connection = await memory.connect(slow)
        gate = Gate(slow._core)
        late = asyncio.create_task(slow.refresh(connection.id))
        await asyncio.wait_for(gate.answered.wait(), 30)
        monkeypatch.setattr(disconnecting, "WAIT", 0.2)
        assert (await other.disconnect(connection.id)).revoked
        memory.sandbox.faults.set("revoke", "500")
        gate.open.set()
        with pytest.raises(ReauthRequired, match="disconnected"):
            await late
        assert "could not be revoked" in caplog.text
        assert not [secret for secret in memory.sandbox.issued_secrets() if secret in caplog.text]
        (job,) = await other.pending_revocations(connection.id)
        assert job.payload["version"] == 2
        clock.advance(FIRST_DELAY)
        assert await other.run_due(REVOKE_JOB) == 1
        assert (await payload_of(other, "credential.revoked"))["version"] == 2
        assert await kept(other, connection.id) == []


async def subscribed(app, runtime, connection, *channels):
    now = app.clock.now()
    made = []
    for channel in channels:
        wanted = Subscription(
            id=uuid7(app.clock),
            connection_id=connection.id,
            provider_id="sandbox",
            resource_type="items",
            resource_id="all",
            channel_id=channel,
            callback_url="https://app.example/hooks",
            created_at=now,
            updated_at=now,
        )
        made.append(await runtime._core.store.resources.save_subscription(wanted, expected_version=None))
    return made


async def test_subscriptions_are_cancelled_at_the_provider_while_the_credential_works(either):
    async with either.open() as runtime:
        connection = await either.connect(runtime)
        one, two, over = await subscribed(either, runtime, connection, "a", "b", "c")
        facet = runtime._core.store.resources
        await facet.set_subscription_status(over.id, expected=["active"], status="expired")
        seen = []

        async def cancel(of, subscription):
            seen.append((of.id, subscription.id, (await runtime.execute(of.id, "me")).status))

        runtime._core.cancel_subscription = cancel
        ended = await runtime.disconnect(connection.id, reason="user asked")
        assert sorted(seen) == sorted((connection.id, made.id, 200) for made in (one, two))
        assert sorted(ended.cancelled) == sorted([one.id, two.id, over.id])
        assert ended.revoked
        for made in (one, two, over):
            found = await facet.subscription(made.id)
            assert (found.status, found.status_reason) == ("cancelled", "user asked")


async def test_subscription_that_cannot_be_cancelled_does_not_keep_the_connection_alive(app, runtime, caplog):
    connection = await app.connect(runtime)
    (one,) = await subscribed(app, runtime, connection, "a")

    async def cancel(of, subscription):
        raise RuntimeError("no such subscription")

    runtime._core.cancel_subscription = cancel
    ended = await runtime.disconnect(connection.id)
    assert (ended.revoked, ended.cancelled) == (True, (one.id,))
    assert "could not be cancelled: RuntimeError" in caplog.text


async def test_job_of_a_ciphertext_that_is_gone_ends_without_a_request(app, runtime, counted):
    """A process died between destroying the ciphertext and saying so."""
    connection = await app.connect(runtime)
    await runtime.disconnect(connection.id)
    job = NewJob(
        id=uuid7(app.clock),
        kind=REVOKE_JOB,
        provider_id="sandbox",
        scope=Scope("user", "u1"),
        connection_id=connection.id,
        payload={"version": 1, "auth_kind": "oauth2_auth_code"},
        created_at=app.clock.now() - timedelta(minutes=1),
    )
    await runtime._core.store.queues.enqueue(job)
    counted()
    assert await runtime.run_due(REVOKE_JOB) == 1
    assert counted() == {}
    assert "credential.revoked" not in await app.events(runtime)
