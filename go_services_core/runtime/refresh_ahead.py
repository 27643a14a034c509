"""Renewing before somebody needs it: the work of the kind ``refresh.ahead``.

What is due is asked of the store, so that nothing has to be kept for it. Every renewal goes through the flight, the
lease and the intent of any other one; this module only chooses which, how many at once, and how fast.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from attrs import define, field

from ..errors import (
    BadInput,
    FacetMissing,
    ReauthRequired,
    RefreshBackingOff,
    RefreshLocked,
    RefreshUnknown,
)
from ..model import Observation, Scope
from ..outlook import Outlook
from ..resources import BudgetKey
from . import refresh_rules
from .core import Core, logger
from .refresh import refresh

if TYPE_CHECKING:
    from ..providers import ProviderInstance

AHEAD: Final = "refresh.ahead"
PAGE: Final = 100
"""Connections that are read at once."""
IN_A_ROW: Final = 5
"""Failures after one another with which a run leaves a provider alone."""
LONGEST_RUN: Final = 60.0
"""Seconds after which a run begins nothing any more; the next one goes on."""
SHORTEST_WAIT: Final = 0.01

_Order: TypeAlias = Literal["expires_at", "created_at"]


async def run(core: Core, limit: int | None = None) -> tuple[int, int]:
    """Renew what is due, at most ``limit`` connections; gives how many are renewed and how many failed.

    Providers do not wait for each other. A failure does not count for ``limit``.

    Raises:
        FacetMissing: a provider has a ``refresh_rate``, and the store has no budgets.
        StoreError: the store could not say what is due; what is in flight goes on.
    """
    allowance = Allowance(left=limit, until=core.clock.monotonic() + LONGEST_RUN)
    runs = [_ProviderRun(core, instance, allowance) for instance in core.instances.values() if not instance.unset]
    ended = await asyncio.gather(*(one.go() for one in runs), return_exceptions=True)
    for error in ended:
        if error is not None:
            raise error
    return sum(one.done for one in runs), sum(one.failed for one in runs)


@define
class Allowance:
    """What one run may begin, over all providers."""

    left: int | None
    until: float

    def take(self, now: float) -> bool:
        if self.left == 0 or now >= self.until:
            return False
        if self.left is not None:
            self.left -= 1
        return True

    def give_back(self) -> None:
        if self.left is not None:
            self.left += 1


@define(eq=False)
class _ProviderRun:
    """One provider's part of a run."""

    core: Core
    instance: ProviderInstance
    allowance: Allowance
    done: int = 0
    failed: int = 0
    in_a_row: int = 0
    exhausted: bool = False
    reading: asyncio.Lock = field(factory=asyncio.Lock)

    async def go(self) -> None:
        began = self.core.clock.monotonic()
        async with aclosing(self._due()) as due:
            workers = (self._work(due) for _ in range(self.instance.refresh_concurrency))
            ended = await asyncio.gather(*workers, return_exceptions=True)
        if self.done or self.failed:
            self.core.observe(
                Observation(
                    name=AHEAD,
                    at=self.core.clock.now(),
                    ok=not self.failed,
                    duration_ms=(self.core.clock.monotonic() - began) * 1000,
                    provider_id=self.instance.id,
                    detail={"done": self.done, "failed": self.failed},
                )
            )
        for error in ended:
            if error is not None:
                raise error

    async def _work(self, due: AsyncIterator[Outlook]) -> None:
        while not self.exhausted:
            async with self.reading:
                outlook = await anext(due, None)
            if outlook is None or not await self._allowed():
                self.exhausted = True
                return
            await self._renew(outlook)

    async def _allowed(self) -> bool:
        """Wait for this renewal's turn; False when the run is to begin nothing any more."""
        clock, rate = self.core.clock, self.instance.refresh_rate
        if self.core.closing or self.in_a_row >= IN_A_ROW or not self.allowance.take(clock.monotonic()):
            return False
        if rate is None:
            return True
        budgets = getattr(self.core.store, "budgets", None)
        if budgets is None:
            raise FacetMissing(
                f"The store has no budgets, which refresh_rate of {self.instance.id} needs.",
                hint="Leave refresh_rate out, or use a store with the facet 'budgets'.",
                field=f"providers.{self.instance.id}.refresh_rate",
            )
        key, limit = BudgetKey(self.instance.id, Scope("org", "-"), AHEAD), max(1.0, rate)
        while clock.monotonic() < self.allowance.until:
            grant = await budgets.take(key, 1.0, limit=limit, window=limit / rate)
            if grant.granted:
                return True
            await clock.sleep(max(grant.retry_in, SHORTEST_WAIT))
        return False

    async def _renew(self, outlook: Outlook) -> None:
        assert outlook.credential is not None
        core, id = self.core, outlook.connection.id
        is_used = id in core.cache
        try:
            await refresh(core, id, used=outlook.credential.version)
        except Exception as error:
            self.failed += 1
            self.allowance.give_back()
            if not isinstance(error, (ReauthRequired, RefreshLocked, RefreshBackingOff)):
                self.in_a_row += 1
                if self.in_a_row == IN_A_ROW:
                    logger.warning("refresh.ahead leaves %s alone for now: %d failures", self.instance.id, IN_A_ROW)
        else:
            self.done += 1
            self.in_a_row = 0
        finally:
            if not is_used:  # nobody here asked for it: thousands of them would fill the memory
                core.cache.pop(id, None)

    async def _due(self) -> AsyncGenerator[Outlook]:
        """What is due and may be asked for now, each connection once, a page in memory at a time."""
        now = self.core.clock.now()
        for by, before in self._horizons(now):
            after: tuple[datetime, str] | None = None
            while True:
                page = await self.core.store.connections.due(
                    self.instance.id, by=by, before=before, after=after, limit=PAGE
                )
                for outlook in sorted(page, key=self._turn):
                    if self._is_due(outlook, by, now):
                        yield outlook
                if len(page) < PAGE:
                    break
                last = page[-1]
                assert last.credential is not None
                at = last.credential.expires_at if by == "expires_at" else last.credential.created_at
                assert at is not None
                after = (at, last.connection.id)

    def _turn(self, outlook: Outlook) -> int:
        """An order that differs between processes, so that they do not all begin with the same connection."""
        return zlib.crc32(f"{self.core.owner} {outlook.connection.id}".encode())

    def _horizons(self, now: datetime) -> Iterator[tuple[_Order, datetime]]:
        """Until when ends, and since when made, are the credentials that can be due at all."""
        auths = self.instance.spec.auth
        yield "expires_at", now + max(refresh_rules.longest_margin(auth) for auth in auths)
        idle = [seconds for auth in auths if (seconds := refresh_rules.shortest_rest(auth)) is not None]
        if idle:
            yield "created_at", now - min(idle)

    def _is_due(self, outlook: Outlook, by: _Order, now: datetime) -> bool:
        facts = outlook.credential
        assert facts is not None
        try:
            auth = self.instance.auth(outlook.connection.auth_kind)
        except BadInput:  # a kind that the provider had once
            return False
        at = refresh_rules.ending_at(auth, facts)
        if by == "created_at":
            if at is not None and at <= now:
                return False  # it came in the order of the ends
            at = refresh_rules.resting_until(auth, facts)
        if at is None or at > now:
            return False
        ended = facts.expires_at is not None and facts.expires_at <= now
        try:
            refresh_rules.permit(outlook.history, auth, connection_id=outlook.connection.id, ended=ended)
        except (RefreshUnknown, RefreshBackingOff):
            return False
        return True
