"""The blocking face's wrapping keys."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from .model import KeyRef
from .runtime.rotation import BATCH, Progress
from .runtime.runtime import Runtime
from .wrapping_keys import KeyInfo, KeyStatus, RotationReport

T = TypeVar("T")


class BlockingKeys:
    """Part of ``BlockingRuntime``."""

    if TYPE_CHECKING:

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

    def key_status(self, *, count: bool = True) -> KeyStatus:
        return self._run(Runtime.key_status, count=count)

    def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        return self._run(Runtime.add_key, dry_run=dry_run)

    def rotate_key(self, to: str | None = None, *, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        return self._run(Runtime.rotate_key, to, dry_run=dry_run)

    def retire_key(self, key_id: str, version: int | None = None, *, dry_run: bool = False) -> str:
        return self._run(Runtime.retire_key, key_id, version, dry_run=dry_run)

    def rewrap(
        self,
        *,
        all: bool = False,
        dry_run: bool = False,
        verify: bool = False,
        batch: int = BATCH,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> RotationReport:
        return self._run(
            Runtime.rewrap, all=all, dry_run=dry_run, verify=verify, batch=batch, rate=rate, progress=progress
        )

    def reencrypt(
        self,
        *,
        all: bool = False,
        dry_run: bool = False,
        verify: bool = True,
        batch: int = BATCH,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> RotationReport:
        return self._run(
            Runtime.reencrypt, all=all, dry_run=dry_run, verify=verify, batch=batch, rate=rate, progress=progress
        )

    def retry_unreadable(self) -> tuple[str, ...]:
        return self._run(Runtime.retry_unreadable)
