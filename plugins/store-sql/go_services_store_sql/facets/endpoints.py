"""The ``endpoints`` facet."""

from __future__ import annotations

from go_services_core.endpoints import Admission, Endpoint, EndpointStatus
from go_services_core.model import Event, Page, Scope

from .. import endpoints
from ..driver import Driver
from .limits import at_least_one


class SqlEndpoints:
    """The ``endpoints`` facet."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def save(self, endpoint: Endpoint, *, expected_version: int | None, event: Event | None = None) -> Endpoint:
        return await self._driver.run(
            lambda: endpoints.save(endpoint, expected_version=expected_version, event=event), alone=event is None
        )

    async def get(self, endpoint_id: str) -> Endpoint | None:
        return await self._driver.read(lambda: endpoints.get(endpoint_id))

    async def list(
        self,
        *,
        scope: Scope | None = None,
        hearing: Scope | None = None,
        status: EndpointStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Endpoint]:
        at_least_one(limit)
        return await self._driver.read(
            lambda: endpoints.page(scope=scope, hearing=hearing, status=status, after=after, limit=limit)
        )

    async def remove(self, endpoint_id: str, *, event: Event | None = None) -> bool:
        return await self._driver.run(lambda: endpoints.remove(endpoint_id, event=event), alone=event is None)

    async def admit(self, endpoint_id: str, *, seconds: float) -> Admission:
        return await self._driver.run(lambda: endpoints.admit(endpoint_id, seconds=seconds), alone=True)

    async def report(self, endpoint_id: str, *, failed: bool, threshold: int, pause: float) -> float:
        return await self._driver.run(
            lambda: endpoints.report(endpoint_id, failed=failed, threshold=threshold, pause=pause), alone=True
        )
