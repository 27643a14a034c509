"""Hooks around the commits of events, and the bus that tells this process of them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from ..errors import BadInput, EventsMissed, HookRefused, failure_text
from ..lifecycle import EVENTS, matches

if TYPE_CHECKING:
    from ..hook_protocols import LifecycleHook
    from ..model import Event
    from ..protocols import Store

logger = logging.getLogger("go_services.runtime")

BUFFER: Final = 1000
"""Events that wait for one listener at most, unless it says otherwise."""
CLOSING: Final = 2.0
"""Seconds that hooks after the commit have at the end for what still waits."""
_END: Final = object()


class Buffer:
    """What waits for one listener: filled by the bus, emptied by the listener."""

    def __init__(self, pattern: str, size: int) -> None:
        if size < 1:
            raise BadInput(f"A buffer holds at least 1 event, not {size}.", field="buffer")
        self.pattern = pattern
        self.missed = 0
        self._size = size
        self._waiting: deque[Any] = deque()
        self._filled = asyncio.Event()

    def put(self, event: Event) -> None:
        """Keep ``event`` for the listener, or count it as missed where the buffer is full."""
        if self.missed or len(self._waiting) >= self._size:
            self.missed += 1
        else:
            self._waiting.append(event)
        self._filled.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._waiting.append(_END)
        self._filled.set()

    async def next(self) -> Event | None:
        """The next event; None at the end.

        Raises:
            EventsMissed: what waited was handed out, and the events after it came while there was no room.
        """
        while not self._waiting:
            if self.missed:
                missed, self.missed = self.missed, 0
                raise EventsMissed(
                    f"{missed} events came while {self._size} others waited.", metadata={"missed": missed}
                )
            self._filled.clear()
            await self._filled.wait()
        found = self._waiting.popleft()
        return None if found is _END else found


class Events:
    """The events of one listener, from its making until it is closed or dropped; for ``async for``."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer: Buffer | None = buffer

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            EventsMissed: everything that waited was given, and others came while there was no room. The next call goes
                on with what came since.
        """
        event = None if self._buffer is None else await self._buffer.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Listen no more."""
        self._buffer = None


class Hooks:
    """The hooks and listeners of one runtime.

    Nothing here is durable: what must follow from an event whatever happens is a handler's (``Runtime.on``).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: dict[str, tuple[str, LifecycleHook]] = {}
        self._after: dict[str, tuple[Buffer, asyncio.Task[None]]] = {}
        self._buffers: WeakSet[Buffer] = WeakSet()
        """A buffer goes with its listener."""
        self._closed = False

    def before(self, pattern: str, hook: LifecycleHook, *, name: str) -> None:
        """See ``Runtime.before``."""
        _check(pattern, name)
        refusable = sorted(spec.name for spec in EVENTS.values() if spec.refusable)
        if not any(matches(pattern, one) for one in refusable):
            raise BadInput(
                f"No event that {pattern!r} means can be refused.",
                hint=f"These can: {', '.join(refusable)}. Of others, `after` tells.",
                field="events",
            )
        self._before[name] = (pattern, hook)

    def after(self, pattern: str, hook: LifecycleHook, *, name: str) -> None:
        """See ``Runtime.after``."""
        _check(pattern, name)
        old = self._after.pop(name, None)
        if old is not None:
            self._buffers.discard(old[0])
            old[0].end()
        buffer = self._listen(pattern, BUFFER)
        self._after[name] = (buffer, asyncio.create_task(_serve(buffer, hook, name)))

    async def ask(self, event: Event) -> None:
        """Ask each hook that is there for ``event``, in the order of their registration.

        Raises:
            HookRefused: one of them raised; those after it are not asked.
        """
        for name, (pattern, hook) in list(self._before.items()):
            if not matches(pattern, event.name):
                continue
            try:
                await _call(hook, event)
            except Exception as error:
                raise HookRefused(
                    f"The hook {name!r} refused {event.name}: {failure_text(error)}",
                    metadata={"hook": name, "event": event.name},
                ) from error

    def events(self, pattern: str, buffer: int) -> Events:
        """See ``Runtime.events``."""
        _check(pattern, "events")
        return Events(self._listen(pattern, buffer))

    def _listen(self, pattern: str, size: int) -> Buffer:
        buffer = Buffer(pattern, size)
        if self._closed:
            buffer.end()
            return buffer
        self._store.listen(self._committed)
        self._buffers.add(buffer)
        return buffer

    def _committed(self, events: Sequence[Event]) -> None:
        for buffer in list(self._buffers):
            for event in events:
                if matches(buffer.pattern, event.name):
                    buffer.put(event)

    async def aclose(self) -> None:
        """End every listener; hooks after the commit have :data:`CLOSING` seconds for what waits."""
        self._closed = True
        self._store.listen(None)
        for buffer in list(self._buffers):
            buffer.end()
        tasks = {task for _, task in self._after.values()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSING)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _serve(buffer: Buffer, hook: LifecycleHook, name: str) -> None:
    """Call ``hook`` with one event after another; whatever it raises is logged, and changes nothing."""
    while True:
        try:
            event = await buffer.next()
        except EventsMissed as missed:
            logger.error("the hook %s is too slow: %s", name, missed.message)  # noqa: TRY400  its own words say it all
            continue
        if event is None:
            return
        try:
            await _call(hook, event)
        except Exception:
            logger.exception("the hook %s failed after %s was committed", name, event.name)


async def _call(hook: LifecycleHook, event: Event) -> None:
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004
        result = hook(event)
    else:
        result = await asyncio.to_thread(hook, event)
    if inspect.isawaitable(result):
        await result


def _check(pattern: str, name: str) -> None:
    if not name.strip():
        raise BadInput("A hook needs a name, under which errors and the log speak of it.", field="name")
    if not pattern.strip():
        raise BadInput("A hook needs the name of an event, or a pattern.", field="events")
