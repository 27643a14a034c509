"""A store that leaves facets out is examined in what it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from go_services_core.testing.kit import checks_of, conformance, examine
from go_services_core.testing.memory import MemoryStore

FACETS = ("connections", "queues", "once", "leases", "resources", "budgets", "log", "sealed", "endpoints")


@pytest.mark.parametrize("facet", FACETS)
async def test_checks_of_a_facet_that_is_left_out_are_skipped_with_the_reason(facet: str) -> None:
    class Partial(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            delattr(self, facet)

    @asynccontextmanager
    async def subject() -> AsyncIterator[MemoryStore]:
        yield Partial()

    needing = [check for check in checks_of("store") if facet in check.needs]
    assert needing
    for check in needing:
        result = await examine(check, subject)
        assert (result.outcome, result.detail) == ("skipped", f"Partial leaves out {facet}")


async def test_store_without_half_of_the_facets_passes_the_rest() -> None:
    class Partial(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            del self.leases, self.resources, self.budgets, self.log

    @asynccontextmanager
    async def subject() -> AsyncIterator[MemoryStore]:
        yield Partial()

    report = await conformance("store", subject)
    assert report.ok
    outcomes = {result.check.id: result.outcome for result in report.results}
    assert outcomes.keys() == {check.id for check in checks_of("store")}
    assert outcomes["STORE-002"] == outcomes["STORE-110"] == outcomes["STORE-120"] == "passed"
    assert outcomes["STORE-101"] == outcomes["STORE-140"] == outcomes["STORE-170"] == "skipped"
