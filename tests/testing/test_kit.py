"""The kit's three front-ends, and what they do with checks that fail, do not apply or are replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from go_services_core.testing.kit import CHECKS, Check, Skipped, checks_of, examine
from go_services_core.testing.memory import MemoryStore
from go_services_core.testing.pytest_kit import SignerKit, StoreKit

KINDS = ("plugin", "provider", "store", "secrets", "transport", "signer")


@asynccontextmanager
async def memory() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    await store.migrate()
    await store.open()
    yield store
    await store.aclose()


def rule(run: Any, level: Any = "must") -> Check:
    return Check(id="X-1", kind="store", level=level, since="0.1", rule="A rule.", run=run)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_checks_with_id_level_release_and_rule(kind: Any) -> None:
    found = checks_of(kind)
    assert found
    for check in found:
        assert check.kind == kind
        assert check.level in ("must", "should")
        assert check.since
        assert check.rule


def test_ids_are_unique_and_of_one_form() -> None:
    checks_of("store")
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    assert all(id.partition("-")[0].isupper() and id.partition("-")[2].isdigit() for id in ids)


async def test_failed_must_makes_the_report_fail_and_a_should_does_not() -> None:
    async def fails(store: Any) -> None:
        raise AssertionError("the rule does not hold")

    result = await examine(rule(fails), memory)
    assert result.outcome == "failed"
    assert "the rule does not hold" in result.detail
    from go_services_core.testing.kit import Report

    assert not Report((result,)).ok
    assert Report((await examine(rule(fails, "should"), memory),)).ok


async def test_check_that_does_not_apply_is_skipped_with_its_reason() -> None:
    async def skips(store: Any) -> None:
        raise Skipped("no such facet")

    result = await examine(rule(skips), memory)
    assert (result.outcome, result.detail) == ("skipped", "no such facet")


def test_pytest_class_has_a_test_per_check() -> None:
    names = [name for name in vars(StoreKit) if name.startswith("test_")]
    assert len(names) == len(checks_of("store"))


def test_check_cannot_be_replaced_silently() -> None:
    name = next(name for name in vars(SignerKit) if name.startswith("test_"))
    with pytest.raises(TypeError, match="replaces a check"):
        type("Cheating", (SignerKit,), {name: lambda self: None})

    @pytest.mark.xfail(reason="known and documented")
    def excused(self: Any) -> None:
        raise AssertionError

    assert type("Honest", (SignerKit,), {name: excused})
