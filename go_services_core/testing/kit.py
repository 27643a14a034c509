"""Conformance checks as one list, with three front-ends.

A check is an async function with an id, the kind of object that it examines, a level, and the release since which it
exists; its docstring is the rule. The front-ends are the pytest classes of :mod:`go_services_core.testing.pytest_kit`,
``go-services plugins check``, and :func:`conformance`.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from attrs import field, frozen

Kind = Literal["plugin", "provider", "store", "secrets", "transport", "call", "signer", "webhook", "face"]
Level = Literal["must", "should"]
Subject = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes a fresh object to examine, and cleans up after it."""


@frozen(kw_only=True)
class Check:
    """One rule."""

    id: str
    kind: Kind
    level: Level
    since: str
    rule: str
    run: Callable[[Any], Awaitable[None]] = field(repr=False)
    needs: tuple[str, ...] = ()
    """What the subject may leave out, such as a store's facets: without it the check is listed as skipped."""

    async def apply(self, subject: Any) -> None:
        """Run the check.

        Raises:
            Skipped: the subject lacks what the check needs.
        """
        missing = [name for name in self.needs if not hasattr(subject, name)]
        if missing:
            raise Skipped(f"{type(subject).__name__} leaves out {', '.join(missing)}")
        await self.run(subject)


class Skipped(Exception):
    """Raised by a check that does not apply to this subject; the message is the visible reason."""


CHECKS: list[Check] = []


def check(
    id: str, kind: Kind, *, level: Level = "must", since: str = "0.1", needs: tuple[str, ...] = ()
) -> Callable[[Callable[[Any], Awaitable[None]]], Callable[[Any], Awaitable[None]]]:
    """Register an async function as a check."""

    def register(function: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        if any(known.id == id for known in CHECKS):
            raise ValueError(f"the check id {id} is taken")
        rule = " ".join((function.__doc__ or "").split())
        if not rule:
            raise ValueError(f"the check {id} has no docstring; the docstring is the rule")
        CHECKS.append(Check(id=id, kind=kind, level=level, since=since, rule=rule, run=function, needs=needs))
        return function

    return register


def checks_of(kind: Kind) -> list[Check]:
    """All checks for one kind of object, by id."""
    from . import checks  # noqa: F401  registers them

    return sorted((known for known in CHECKS if known.kind == kind), key=lambda known: known.id)


@frozen(kw_only=True)
class Result:
    """How one check ended."""

    check: Check
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""


@frozen
class Report:
    """How all checks ended."""

    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """True when no check of level ``must`` failed."""
        return not any(result.outcome == "failed" and result.check.level == "must" for result in self.results)


async def examine(rule: Check, subject: Subject) -> Result:
    """Run one check against a fresh subject."""
    try:
        async with subject() as made:
            await rule.apply(made)
    except Skipped as reason:
        return Result(check=rule, outcome="skipped", detail=str(reason))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        return Result(check=rule, outcome="failed", detail=detail)
    return Result(check=rule, outcome="passed")


async def conformance(kind: Kind, subject: Subject) -> Report:
    """Run every check of ``kind``, each against a fresh subject."""
    return Report(tuple([await examine(rule, subject) for rule in checks_of(kind)]))
