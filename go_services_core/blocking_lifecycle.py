"""The blocking face's hooks, its listeners and the activity log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .model import Event, Page, Scope
from .resources import Activity, ActivityStatus
from .runtime.hooks import Events
from .runtime.runtime import Runtime

if TYPE_CHECKING:
    from .blocking import _Loop
    from .hook_protocols import LifecycleHook

T = TypeVar("T")
SLICE = 0.25
"""Seconds of one wait for an event: a fork, or the end of the runtime, waits for the end of a call."""
_NOTHING: Any = object()
_END: Any = object()


class BlockingLifecycle:
    """Part of ``BlockingRuntime``."""

    if TYPE_CHECKING:
        _hooks: dict[tuple[str, str], tuple[str, LifecycleHook]]

        def _in_use(self) -> AbstractContextManager[_Loop]: ...

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

        def _reaches(self, loop: _Loop) -> bool: ...

    def before(self, events: str, hook: LifecycleHook, *, name: str) -> None:
        self._hook("before", events, hook, name)

    def after(self, events: str, hook: LifecycleHook, *, name: str) -> None:
        self._hook("after", events, hook, name)

    def _hook(self, when: str, events: str, hook: LifecycleHook, name: str) -> None:
        with self._in_use() as loop:
            loop.run(register(loop.runtime, when, events, hook, name))
        self._hooks[when, name] = (events, hook)

    def events(self, events: str = "*", *, buffer: int = 1000) -> Iterator[Event]:
        with self._in_use() as first:
            listening = first.runtime.events(events, buffer=buffer)

        async def advance() -> Any:
            try:
                return await asyncio.wait_for(anext(listening, _END), SLICE)
            except TimeoutError:
                return _NOTHING

        async def close() -> None:
            if isinstance(listening, Events):
                await listening.aclose()

        def each() -> Iterator[Event]:
            try:
                while self._reaches(first):
                    with self._in_use() as loop:
                        item = loop.run(advance())
                    if item is _END:
                        return
                    if item is not _NOTHING:
                        yield item
            finally:
                if self._reaches(first):
                    with self._in_use() as loop:
                        loop.run(close())

        return each()

    def activity(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        connection_id: str | None = None,
        action: str | None = None,
        status: ActivityStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Activity]:
        return self._run(
            Runtime.activity,
            provider_id=provider_id,
            scope=scope,
            connection_id=connection_id,
            action=action,
            status=status,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )

    def record_activity(self, entries: Iterable[Activity]) -> None:
        self._run(Runtime.record_activity, entries)

    def prune_activity(self, *, dry_run: bool = False) -> int:
        return self._run(Runtime.prune_activity, dry_run=dry_run)


async def register(runtime: Runtime, when: str, events: str, hook: LifecycleHook, name: str) -> None:
    """Register a hook from within the runtime's loop."""
    (runtime.before if when == "before" else runtime.after)(events, hook, name=name)
