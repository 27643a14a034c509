"""Disconnecting with real processes on both databases: against a renewal, and killed at each step."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
from attrs import evolve

from go_services_core import Runtime
from go_services_core.model import REVOKE_JOB
from go_services_core.runtime import disconnect as disconnecting

from .conftest import App
from .disconnect_workers import worker
from .refresh_workers import line
from .test_disconnect import accepted
from .test_refresh_kills import on_disk

pytestmark = pytest.mark.chaos
__all__ = ["on_disk"]

POINTS = (
    "before open_refresh 0",
    "after open_refresh 0",
    "before send 0",
    "after send 0",  # the provider has revoked, and nobody knows
    "before disconnect 0",
    "during disconnect",
    "after disconnect 0",
)
"""Where a disconnecting process is killed."""
JOB_POINTS = (
    "before send 0",
    "after send 0",
    "before destroy_credential 0",
    "during destroy_credential",
    "after destroy_credential 0",
    "before settle 0",
    "after settle 0",
)
"""Where a process is killed that revokes what a disconnect left."""


def delayed(point: str, chaos: Any) -> str:
    return f"{point} {chaos.random.uniform(0, 0.004):.5f}" if point.startswith("during") else point


def ciphertexts(app: App, connection_id: str) -> int:
    ((count,),) = app.rows(
        f"""SELECT count(*) FROM service_credentials
        WHERE connection_id = '{connection_id}' AND length(encrypted_payload) > 0"""
    )
    return int(count)


def told(app: App, connection_id: str, name: str) -> int:
    ((count,),) = app.rows(
        f"""SELECT count(*) FROM service_lifecycle_outbox
        WHERE connection_id = '{connection_id}' AND event_name = '{name}'"""
    )
    return int(count)


def make_due(app: App) -> None:
    app.rows("UPDATE service_sync_jobs SET next_attempt_at = created_at WHERE status IN ('queued', 'running')")


async def problems(runtime: Runtime) -> list[str]:
    return list(await runtime._core.store.admin.verify())  # type: ignore[attr-defined]


@pytest.fixture
def by_token(on_disk: App) -> App:
    """Where each token has to be revoked by itself."""
    on_disk.set(auth=evolve(on_disk.providers.specs["sandbox"].auth[0], revocation_scope="token"))
    return on_disk


@pytest.mark.parametrize("point", POINTS)
async def test_disconnect_that_was_killed_can_be_repeated(
    by_token: App, chaos: Any, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost: the connection is as it was, or disconnected, and in the end no token of it lives."""
    monkeypatch.setattr(disconnecting, "WAIT", 5.0)
    app = by_token
    async with app.open() as runtime:
        for round in range(chaos.rounds(1, 20)):
            named = f"round {round}"
            connection = await app.connect(runtime, f"u{round}")
            async with worker(app, connection.id, "disconnect", delayed(point, chaos)) as process:
                assert await line(process) == "ready", named
                assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL, named
            app.age(100)
            ended = await runtime.disconnect(connection.id)
            assert (ended.connection.status, ended.pending) == ("disconnected", False), named
            assert not accepted(app.sandbox), named
            assert ciphertexts(app, connection.id) == 0, named
            assert told(app, connection.id, "connection.disconnected") == 1, named
        assert await problems(runtime) == []


@pytest.mark.parametrize("point", JOB_POINTS)
async def test_revocation_that_was_killed_is_done_by_another_process(by_token: App, chaos: Any, point: str) -> None:
    """Revoking twice is harmless (RFC 7009 §2.2); the ciphertext is there for as long as it is needed."""
    app = by_token
    async with app.open() as runtime:
        for round in range(chaos.rounds(1, 20)):
            named = f"round {round}"
            connection = await app.connect(runtime, f"u{round}")
            app.sandbox.faults.set("revoke", "503")
            assert (await runtime.disconnect(connection.id)).pending, named
            make_due(app)
            async with worker(app, connection.id, "revoke", delayed(point, chaos)) as process:
                assert await line(process) == "ready", named
                assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL, named
            assert await problems(runtime) == [], named
            make_due(app)
            await runtime.run_due(REVOKE_JOB)
            assert not accepted(app.sandbox), named
            assert ciphertexts(app, connection.id) == 0, named
            assert list(await runtime.pending_revocations(connection.id)) == [], named
            assert told(app, connection.id, "credential.revoked") == 1, named


async def test_disconnect_waits_for_the_renewal_of_another_process(by_token: App, chaos: Any) -> None:
    """Protocols, Refresh 9; behaviour §27, item 24: what the renewal brings is stored, and revoked with the rest."""
    app = by_token
    async with app.open() as runtime:
        for round in range(chaos.rounds(2, 20)):
            connection = await app.connect(runtime, f"u{round}")
            app.sandbox.faults.set("token", "slow", seconds=chaos.random.uniform(0.05, 0.3))
            before = app.sandbox.requests["token"]
            async with worker(app, connection.id, "refresh") as process:
                assert await line(process) == "ready"
                while app.sandbox.requests["token"] == before:
                    await asyncio.sleep(0.002)
                ended = await runtime.disconnect(connection.id)
                assert await line(process) in ("refreshed", "ReauthRequired"), f"round {round}"
            assert (ended.revoked, ended.overtaken) == (True, False), f"round {round}"
            assert not accepted(app.sandbox), f"round {round}"
            assert told(app, connection.id, "credential.refreshed") == 1
            assert ciphertexts(app, connection.id) == 0


@pytest.mark.parametrize("revocation", ["works", "fails"])
async def test_renewal_that_outlasts_the_wait_gives_its_token_back(
    by_token: App, revocation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P12: the process that renews is stopped; it cannot save, and its token is revoked, by itself or by the job."""
    monkeypatch.setattr(disconnecting, "WAIT", 0.3)
    app = by_token
    async with app.open() as runtime:
        connection = await app.connect(runtime)
        app.sandbox.faults.set("token", "slow", seconds=0.2)
        before = app.sandbox.requests["token"]
        async with worker(app, connection.id, "refresh") as process:
            assert await line(process) == "ready"
            while app.sandbox.requests["token"] == before:
                await asyncio.sleep(0.002)
            os.kill(process.pid, signal.SIGSTOP)
            ended = await runtime.disconnect(connection.id)
            assert (ended.revoked, ended.overtaken) == (True, True)
            if revocation == "fails":
                app.sandbox.faults.set("revoke", "503")
            os.kill(process.pid, signal.SIGCONT)
            assert await line(process) == "ReauthRequired"
        assert len(await runtime.pending_revocations(connection.id)) == (revocation == "fails")
        assert await problems(runtime) == []
        make_due(app)
        assert await runtime.run_due(REVOKE_JOB) == (revocation == "fails")
        assert not accepted(app.sandbox)
        assert ciphertexts(app, connection.id) == 0
