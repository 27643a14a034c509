"""Endpoints of outgoing webhooks in the memory store."""

from __future__ import annotations

from attrs import evolve

from ..endpoints import ENDPOINT_MOVES, Admission, Endpoint, EndpointStatus
from ..errors import InvalidTransition, NotFound, VersionConflict
from ..model import Event, Page, Scope
from ..resources import predecessors
from .memory_tables import Tables, page


class Endpoints:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def save(self, endpoint: Endpoint, *, expected_version: int | None, event: Event | None = None) -> Endpoint:
        tables = self._tables
        found = tables.endpoints.get(endpoint.id)
        saved = _new(endpoint, found) if expected_version is None else _changed(endpoint, found, expected_version)
        tables.check_new(event)
        tables.endpoints[endpoint.id] = saved
        tables.enqueue(event)
        return saved

    async def get(self, endpoint_id: str) -> Endpoint | None:
        return self._tables.endpoints.get(endpoint_id)

    async def list(
        self,
        *,
        scope: Scope | None = None,
        hearing: Scope | None = None,
        status: EndpointStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Endpoint]:
        wanted = [
            (one.id, one)
            for one in self._tables.endpoints.values()
            if scope in (None, one.scope)
            and (hearing is None or (one.scope in (None, hearing) and one.status != "disabled"))
            and status in (None, one.status)
        ]
        return page(wanted, after, limit)

    async def remove(self, endpoint_id: str, *, event: Event | None = None) -> bool:
        if endpoint_id not in self._tables.endpoints:
            return False
        self._tables.check_new(event)
        del self._tables.endpoints[endpoint_id]
        self._tables.enqueue(event)
        return True

    async def admit(self, endpoint_id: str, *, seconds: float) -> Admission:
        found = self._tables.endpoints.get(endpoint_id)
        if found is None or found.open_until is None:
            return Admission(endpoint=found)
        left = (found.open_until - self._tables.clock.now()).total_seconds()
        if left > 0:
            return Admission(endpoint=found, wait=left)
        self._tables.endpoints[endpoint_id] = evolve(found, open_until=self._tables.later(seconds))
        return Admission(endpoint=found)

    async def report(self, endpoint_id: str, *, failed: bool, threshold: int, pause: float) -> float:
        found = self._tables.endpoints.get(endpoint_id)
        if found is None:
            return 0.0
        if not failed:
            self._tables.endpoints[endpoint_id] = evolve(found, failures=0, failing_since=None, open_until=None)
            return 0.0
        now = self._tables.clock.now()
        since, failures = found.failing_since or now, found.failures + 1
        until = self._tables.later(pause) if failures >= threshold else found.open_until
        self._tables.endpoints[endpoint_id] = evolve(found, failures=failures, failing_since=since, open_until=until)
        return (now - since).total_seconds()


def _new(wanted: Endpoint, found: Endpoint | None) -> Endpoint:
    if wanted.status != "active":
        raise InvalidTransition(f"A new endpoint is active, not {wanted.status}.", field="endpoint.status")
    if found is not None:
        raise _conflict(found)
    return evolve(wanted, version=1, failures=0, failing_since=None, open_until=None)


def _changed(wanted: Endpoint, found: Endpoint | None, version: int) -> Endpoint:
    if found is None:
        raise NotFound(f"There is no endpoint {wanted.id!r}.", metadata={"id": wanted.id})
    if found.version != version:
        raise _conflict(found)
    if found.status not in predecessors(ENDPOINT_MOVES, wanted.status):
        raise InvalidTransition(
            f"This endpoint is {found.status} and does not become {wanted.status} now.",
            metadata={"id": found.id, "status": found.status},
        )
    well = wanted.status == "active" and found.status != "active"
    return evolve(
        wanted,
        scope=found.scope,
        version=version + 1,
        failures=0 if well else found.failures,
        failing_since=None if well else found.failing_since,
        open_until=None if well else found.open_until,
        created_at=found.created_at,
    )


def _conflict(found: Endpoint) -> VersionConflict:
    return VersionConflict(
        "Another writer was first: the endpoint has another version.",
        metadata={"endpoint_id": found.id, "version": found.version},
    )
