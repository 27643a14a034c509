"""One budget in this process: units are leased from the store in blocks and handed to calls in turn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from attrs import Factory, define, field

from ..errors import BudgetExhausted, FacetMissing, ServicesError
from ..resources import BudgetKey, BudgetLease
from .budget_queue import Queue, Waiter
from .budget_window import Held, is_ample

if TYPE_CHECKING:
    from ..call_specs import RateBudget
    from ..clock import Clock
    from ..facets import BudgetFacet
    from ..http import HttpResponse
    from ..model import Scope
    from ..ownership import RateLimitPolicy
    from ..rate_limits import Learner, RateFact

logger = logging.getLogger("go_services.runtime")

LOOK_AGAIN: Final = 1.0
"""Seconds after which units that were kept for others may have become free."""
LONGEST_PAUSE: Final = 86400.0
LONGEST_GUESS: Final = 60.0
"""Seconds that a provider which refuses without saying for how long is left alone at most."""
UNTOLD: Final = 60.0
"""Seconds until the end of a window whose end the provider did not tell."""
NEAR: Final = 0.02
"""Two lengths of a window are one when they differ by no more than this part."""


@define(eq=False)
class Bucket:
    """The windows of one budget, the calls that wait for them, and what answers have taught."""

    provider_id: str
    name: str
    """Of the budget among those of ``scope``."""
    scope: Scope
    is_shared: bool
    """Whether several scopes share it."""
    budget: RateBudget
    clock: Clock
    facet: BudgetFacet | None
    learners: tuple[Learner, ...]
    policy: RateLimitPolicy | None = None
    """A plugin's own say."""
    headers: frozenset[str] = field(init=False)
    """Which make it worth to ask the learners."""
    lengths: frozenset[int] = field(init=False)
    """Of the names of those headers."""
    skip: int = 0
    """Answers of which nothing need be learned, since the last one told of plenty."""
    asks_always: bool = field(init=False)
    """Whether the learners are asked of every answer."""
    windows: list[Held] = field(init=False)
    paused_until: float = 0.0
    """By the monotonic clock; 0 is no pause."""
    _strikes: int = 0
    _queue: Queue = Factory(Queue)
    _leader: asyncio.Task[None] | None = None
    _asleep_until: float | None = None
    _wake: asyncio.Event = Factory(asyncio.Event)
    _news: dict[BudgetKey, tuple[Held, float]] = Factory(dict)
    """Windows whose rest the store does not know yet, and when they end."""
    _writing: asyncio.Lock = Factory(asyncio.Lock)
    _writers: set[asyncio.Task[None]] = Factory(set)
    _closed: bool = False

    @headers.default
    def _any_header(self) -> frozenset[str]:
        return frozenset[str]().union(*(one.headers for one in self.learners))

    @lengths.default
    def _all_lengths(self) -> frozenset[int]:
        return frozenset(map(len, self.headers))

    @asks_always.default
    def _any_always(self) -> bool:
        return hasattr(self.policy, "learn") or any(one.always for one in self.learners)

    @windows.default
    def _declared(self) -> list[Held]:
        # The longest first: where it has nothing left, nothing is taken of the others.
        wanted = sorted(self.budget.windows, key=lambda window: -window.seconds)
        return [Held(self._key(f"{window.seconds:g}"), window.units, window.seconds) for window in wanted]

    def _key(self, window: str) -> BudgetKey:
        return BudgetKey(self.provider_id, self.scope, f"{self.name}/{window}")

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost where it is forgotten."""
        now = self.clock.monotonic()
        return (
            not self._queue
            and not self._news
            and not self._writers
            and self.paused_until <= now
            and all(held.until == math.inf and held.unused(now) is None for held in self.windows)
        )

    # --- taking ----------------------------------------------------------------------------------------------------

    def take(self, cost: float) -> bool:
        """Take the units of a call, if they are in hand and nobody waits."""
        if cost <= 0:
            return True
        if self.paused_until or self._queue:
            return False
        return not self.windows or self._take(cost)

    def _take(self, cost: float) -> bool:
        now = self.clock.monotonic()
        for held in self.windows:
            if held.until <= now:
                self.windows = [one for one in self.windows if one.until > now]
                return self._take(cost)
            if not held.has(cost, now):
                return False
        for held in self.windows:
            held.units -= held.price(cost)
        return True

    async def wait(self, cost: float, *, scope: Scope, background: bool, latest: float) -> None:
        """Wait for the units of a call until ``latest``, by the monotonic clock.

        Raises:
            BudgetExhausted: there will be none in time.
            FacetMissing, StoreError: the store cannot tell.
        """
        if self._closed:
            raise self._exhausted(None)
        if self._asleep_until is not None and latest < self._asleep_until:
            raise self._exhausted(self._asleep_until - self.clock.monotonic())
        waiter = Waiter(scope, cost, background, latest, asyncio.get_running_loop().create_future())
        if self._queue.add(waiter) and (self.is_shared or not background):
            self._wake.set()
        if self._leader is None:
            self._leader = asyncio.create_task(self._serve())
        try:
            await waiter.ready
        except asyncio.CancelledError:
            if waiter.ready.done() and not waiter.ready.cancelled() and waiter.ready.exception() is None:
                self.put_back(cost)
            else:
                self._queue.remove(waiter)
            raise

    def charge(self, more: float) -> None:
        """Take more than a call was thought to cost, or put back what it did not. Those who follow pay a debt."""
        for held in self.windows:
            held.units -= more

    def put_back(self, cost: float) -> None:
        """Undo that the units of a call were taken: it is not made."""
        for held in self.windows:
            held.units += held.price(cost)

    async def _serve(self) -> None:
        """Hand out units as long as somebody waits."""
        try:
            while self._queue:
                if self.paused_until:
                    await self._sit_out()
                    continue
                first = self._queue.next()[0]
                if self._take(first.cost):
                    self._hand(first)
                    continue
                refusal = await self._refill()
                if refusal is None:
                    continue
                again = min(refusal.retry_in, LOOK_AGAIN) if refusal.kept else refusal.retry_in
                await self._sleep(refusal.retry_in, again)
        except Exception as error:
            for waiter in self._queue:
                self._fail(waiter, error.for_another() if isinstance(error, ServicesError) else error)
        finally:
            self._leader = None

    async def _refill(self) -> BudgetLease | None:
        """Lease for whoever is next; None where something was granted, else the refusal that ends first."""
        await self.flush()
        if self.facet is None:
            raise FacetMissing(
                f"The store has no budgets, which the rate limit of {self.provider_id} needs.",
                hint="Use a store with the facet 'budgets', or a record without windows.",
                plugin=self.provider_id,
            )
        soonest: BudgetLease | None = None
        for waiter in self._queue.next():
            now = self.clock.monotonic()
            short = {held.key: held for held in self.windows if not held.has(waiter.cost, now)}
            asks = [held.ask(waiter.cost, background=waiter.background, now=now) for held in short.values()]
            if not asks:
                if self._take(waiter.cost):
                    self._hand(waiter)
                return None
            sharer = waiter.scope if self.is_shared else None
            lease = await self.facet.lease(asks, sharer=sharer)
            for block in lease.blocks:
                short[block.key].take_in(block, now)
            if lease.blocks:
                if waiter in self._queue and self._take(waiter.cost):
                    self._hand(waiter)
                return None
            if soonest is None or lease.retry_in < soonest.retry_in:
                soonest = lease
        return soonest

    def _hand(self, waiter: Waiter) -> None:
        self._queue.served(waiter)
        if waiter.ready.done():  # cancelled, and not told yet
            self.put_back(waiter.cost)
        else:
            waiter.ready.set_result(None)

    def _fail(self, waiter: Waiter, error: Exception) -> None:
        self._queue.remove(waiter)
        if not waiter.ready.done():
            waiter.ready.set_exception(error)

    async def _sit_out(self) -> None:
        """Wait for the end of a pause. It ends with the sleep, also where a test's clock stands still."""
        until = self.paused_until
        wait = until - self.clock.monotonic()
        if await self._sleep(wait, wait, pause=True) and self.paused_until == until:
            self.paused_until = 0.0

    async def _sleep(self, wait: float, seconds: float, *, pause: bool = False) -> bool:
        """Sleep, unless somebody comes whose turn is earlier. Who cannot wait for so long is told at once.

        True where all of ``seconds`` are over.
        """
        now = self.clock.monotonic()
        for waiter in self._queue:
            if waiter.latest < now + wait:
                self._fail(waiter, self._exhausted(wait))
        if seconds <= 0:
            return True
        if not self._queue:
            return False
        self._wake.clear()
        # What is kept for others may be this one's after all: who comes meanwhile is not refused at once.
        self._asleep_until = now + wait if seconds == wait else None
        sleeping = asyncio.ensure_future(self.clock.sleep(seconds))
        waking = asyncio.ensure_future(self._wake.wait())
        try:
            tasks = (sleeping,) if pause else (sleeping, waking)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return sleeping.done()
        finally:
            self._asleep_until = None
            for task in (sleeping, waking):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _exhausted(self, wait: float | None) -> BudgetExhausted:
        when = f" It has units again in {wait:.1f} s." if wait is not None else ""
        return BudgetExhausted(
            f"The rate budget {self.name} of {self.provider_id} has nothing left for this call.{when}",
            hint="Wait that long, or give the call a longer deadline.",
            retry_after=wait,
            plugin=self.provider_id,
            metadata={"bucket": self.name},
        )

    # --- learning --------------------------------------------------------------------------------------------------

    def tells(self, response: HttpResponse) -> bool:
        """Whether an answer has one of the headers."""
        lengths, names = self.lengths, self.headers
        # The length first, and no generator: this runs for every answer.
        for name, _ in response.headers:  # noqa: SIM110
            if len(name) in lengths and name.lower() in names:
                return True
        return False

    def learn(self, facts: Sequence[RateFact], *, cost: float, status: int) -> bool:
        """Take note of what an answer tells; True where others should know at once."""
        now = self.clock.monotonic()
        pause, throttled = 0.0, status == 429
        for fact in facts:
            pause = max(pause, fact.retry_after or 0.0)
            throttled = throttled or fact.throttled
            if fact.weight is not None:
                self.charge(fact.weight - cost)
            if fact.remaining is not None or fact.share is not None:
                self._note(fact, now)
            elif fact.limit and fact.window and self.facet is not None:
                self._state(fact.limit, fact.window)
        if throttled and pause == 0.0:
            pause = min(LONGEST_GUESS, 2.0**self._strikes)
            self._strikes = min(self._strikes + 1, 10)
        elif status < 400:
            self._strikes = 0
        left = [fact.remaining for fact in facts if fact.remaining is not None and fact.limit is not None]
        if left and pause == 0.0 and not self.asks_always and all(map(_has_plenty, facts)):
            self.skip = int(min(left) / 100)
        if pause > 0:
            self.paused_until = max(self.paused_until, now + min(pause, LONGEST_PAUSE))
        return pause > 0

    def _note(self, fact: RateFact, now: float) -> None:
        """So many units are left."""
        held = self._meant(fact)
        if fact.remaining is None:
            if held is None or fact.share is None:
                return
            remaining = fact.share * held.limit
        else:
            remaining = fact.remaining
        reset_in = fact.reset_in
        if reset_in is None:
            reset_in = held.ends - now if held is not None and held.ends > now else fact.window or UNTOLD
        if reset_in <= 0:
            return
        if held is not None and held.until < math.inf and now + reset_in > held.until + held.seconds / 2:
            self.windows.remove(held)  # that one is over
            held = None
        if held is None:
            limit = max(fact.limit or 0.0, remaining)
            if self.facet is None or limit <= 0 or is_ample(remaining, limit):
                return
            length = fact.window or reset_in
            held = Held(self._key(f"{fact.window:g} told" if fact.window else "told"), limit, length, now + reset_in)
            self.windows.append(held)
        elif fact.limit:
            held.limit = min(held.limit, fact.limit) if held.until == math.inf else fact.limit
        if held.learn(remaining):
            self._news[held.key] = (held, now + reset_in)

    def _meant(self, fact: RateFact) -> Held | None:
        """The window that a fact is about."""
        if fact.window is not None:
            return next((one for one in self.windows if _is_near(one.seconds, fact.window)), None)
        by_limit = [one for one in self.windows if fact.limit is not None and _is_near(one.limit, fact.limit)]
        longer = [one for one in reversed(self.windows) if one.seconds >= (fact.reset_in or 0.0) * (1 - NEAR)]
        found = by_limit or longer or self.windows
        return found[0] if found else None

    def _state(self, limit: float, seconds: float) -> None:
        """The provider says how much there is from now on, in the place of what its record says of the same window."""
        declared = [held for held in self.windows if held.until == math.inf]
        for held in declared:
            if _is_near(held.seconds, seconds):
                held.limit = limit
                return
        if len(declared) == 1 and self.budget.windows:  # a bucket keeps its size and is filled at another rate
            (held,) = declared
            held.seconds = held.limit * seconds / limit
        else:
            self.windows.append(Held(self._key(f"{seconds:g}"), limit, seconds))
            self.windows.sort(key=lambda held: -held.seconds)

    async def flush(self) -> None:
        """Tell the store what it does not know."""
        if self.facet is None or not (self._news or self._writers):
            return
        async with self._writing:
            news, self._news = self._news, {}
            for key, (held, end) in news.items():
                reset_in = end - self.clock.monotonic()
                if reset_in > 0:
                    await self.facet.correct(key, remaining=held.left, limit=held.limit, reset_in=reset_in)

    def flush_soon(self) -> None:
        """As :meth:`flush`, without holding up anybody."""
        if self._news:
            self._soon(self.flush)

    def _soon(self, write: Callable[[], Awaitable[None]]) -> None:
        writer = asyncio.create_task(self._alone(write))
        self._writers.add(writer)
        writer.add_done_callback(self._writers.discard)

    async def _alone(self, write: Callable[[], Awaitable[None]]) -> None:
        try:
            await write()
        except Exception:
            logger.warning("what %s says of its rate limit was not stored", self.provider_id, exc_info=True)

    async def share_pause(self) -> None:
        """Tell the store that nothing may be asked for now."""
        seconds = self.paused_until - self.clock.monotonic()
        if self.facet is not None and self.windows and seconds > 0:
            await self.facet.pause([held.key for held in self.windows], seconds=seconds)

    def share_pause_soon(self) -> None:
        """As :meth:`share_pause`, without holding up anybody."""
        self._soon(self.share_pause)

    # --- the end ---------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Refuse who waits, and give back what was not used."""
        self._closed = True
        if self._leader is not None:
            self._leader.cancel()
            await asyncio.wait([self._leader])
        for waiter in self._queue:
            self._fail(waiter, self._exhausted(None))
        while self._writers:
            await asyncio.wait(self._writers)
        await self.flush()
        now = self.clock.monotonic()
        unused = [block for held in self.windows if (block := held.unused(now)) is not None]
        if self.facet is not None and unused:
            await self.facet.give_back(unused)
        for held in self.windows:
            held.units = 0.0


def _has_plenty(fact: RateFact) -> bool:
    return fact.remaining is None or is_ample(fact.remaining, fact.limit or math.inf)


def _is_near(one: float, other: float) -> bool:
    return abs(one - other) <= NEAR * max(one, other)
