"""Disconnects of the memory store: what ends with a connection, and what is kept until its provider was told."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from ..errors import BadInput, VersionConflict
from ..lifecycle import subscription_cancelled
from ..model import REVOKE_JOB, Connection, Event, Job, NewJob, SealedCredential
from .memory_queues import Queues
from .memory_refresh import break_refresh, not_empty
from .memory_tables import Tables


def kept(tables: Tables, credential_id: str) -> bool:
    """Whether a job has still to revoke the credential; the job has its id."""
    slot = tables.jobs.get(credential_id)
    return (
        slot is not None
        and slot.job is not None
        and slot.job.kind == REVOKE_JOB
        and slot.status in ("queued", "running")
    )


def _check(job: NewJob, credential: SealedCredential | None) -> None:
    known = None if credential is None else (credential.id, REVOKE_JOB, credential.connection_id)
    if (job.id, job.kind, job.connection_id) != known:
        raise BadInput("The job does not revoke that credential.", field="job")


class Disconnects:
    """The part of the ``connections`` facet that is about the end of a connection."""

    _tables: Tables

    async def disconnect(
        self,
        connection_id: str,
        *,
        reason: str,
        event: Event,
        version: int | None = None,
        job: NewJob | None = None,
    ) -> Connection:
        tables = self._tables
        connection, active = tables.connection(connection_id), tables.credential(connection_id)
        if connection.status == "disconnected":
            return connection
        if version is not None and (active is None or active.version != version or self._came_late(active)):
            known = {"connection_id": connection_id, "active_version": None if active is None else active.version}
            raise VersionConflict("The credential was renewed meanwhile.", metadata=known)
        tables.check_new(event)
        if job is not None:
            _check(job, active)
            await Queues(tables).enqueue(job)
        if active is not None:
            tables.superseded[active.id] = tables.clock.now()
        tables.active.pop(connection_id, None)
        tables.credentials[connection_id] = [
            old if old is not None and kept(tables, old.id) else None for old in tables.credentials[connection_id]
        ]
        break_refresh(tables, connection_id)
        tables.enqueue(event)
        self._cancel_subscriptions(connection_id, reason, event)
        return tables.change(connection, status="disconnected", refresh_state="ok", last_error="")

    def _came_late(self, active: SealedCredential) -> bool:
        used = (active.connection_id, active.version)
        return any(
            (intent.connection_id, intent.version) == used and intent.late is not None
            for intent in self._tables.intents.values()
        )

    def _cancel_subscriptions(self, connection_id: str, reason: str, cause: Event) -> None:
        rows, ended = self._tables.subscriptions, 0
        for id, old in sorted(rows.items()):
            if old.connection_id == connection_id and (old.status != "cancelled" or old.verification is not None):
                if old.status != "cancelled":
                    ended += 1
                    of = {name: getattr(old, name) for name in ("id", "resource_type", "resource_id", "channel_id")}
                    self._tables.enqueue(subscription_cancelled(cause, ended, reason=reason, **of))
                rows[id] = evolve(
                    old,
                    status="cancelled",
                    status_reason=old.status_reason if old.status == "cancelled" else reason,
                    verification=None,
                    version=old.version + 1,
                    updated_at=self._tables.clock.now(),
                )

    async def keep_for_revocation(self, new: SealedCredential, job: NewJob) -> bool:
        tables = self._tables
        _check(job, new)
        not_empty(new)
        connection, versions = tables.connection(new.connection_id), tables.credentials[new.connection_id]
        if connection.status != "disconnected" or new.version != len(versions) + 1:
            return False
        await Queues(tables).enqueue(job)
        versions.append(new)
        tables.superseded[new.id] = tables.clock.now()
        return True

    async def credentials(self, connection_id: str) -> Sequence[SealedCredential]:
        return [found for found in reversed(self._tables.credentials.get(connection_id, [])) if found is not None]

    async def pending_revocations(self, connection_id: str) -> Sequence[Job]:
        queues = Queues(self._tables)
        jobs = [job for id in sorted(self._tables.jobs) if (job := await queues.job(id)) is not None]
        return [job for job in jobs if job.connection_id == connection_id and kept(self._tables, job.id)]

    async def destroy_credential(self, credential_id: str, *, event: Event) -> bool:
        tables = self._tables
        for connection_id, versions in tables.credentials.items():
            for place, old in enumerate(versions):
                if old is None or old.id != credential_id or tables.active.get(connection_id) == old.version:
                    continue
                tables.check_new(event)
                versions[place] = None
                tables.enqueue(event)
                return True
        return False
