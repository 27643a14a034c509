"""Functions that plugins and applications follow changes with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias

from .model import Event
from .resources import Activity


class ActivityEnricher(Protocol):
    """Adds to the metadata of an entry of the activity log: what it returns is merged, and wins.

    It is called once for each run of the projector, before the entry is masked and kept. What it raises is logged, and
    the entry is kept without it.
    """

    def __call__(self, event: Event, entry: Activity, /) -> Awaitable[Mapping[str, Any]] | Mapping[str, Any]: ...


LifecycleHook: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""Gets an event before or after its commit; ``async``, in the runtime's loop, or plain, in a thread."""
