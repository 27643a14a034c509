"""The secret values that this process has made or used lately, so that texts can be searched for them.

``SecretStr`` tells it whenever it is made or revealed, ``SecretBytes`` when it is made. It keeps two generations: a
value that is used again moves into the current one, and when that is full the other one is forgotten. So a process that
handles any number of credentials keeps at most ``2 * GENERATION`` values, among them every one that it used recently.
"""

from __future__ import annotations

import os
import threading
from typing import Final, TypeVar

T = TypeVar("T")

GENERATION: Final = 1024
"""Values in one generation."""
DISTINCTIVE: Final = 16
"""Characters from which any value is searched for."""
SHORTEST_LIVE: Final = 8
"""Characters from which a value is searched for that cannot be a word, a phrase or a number."""
LONGEST_BYTES: Final = 64
"""Longer binary values are whole plaintexts, whose secrets are values of their own."""
_SEPARATORS: Final = " -_.'"


class LiveSecrets:
    """Two generations of values. Any thread may call any method."""

    def __init__(self, size: int = GENERATION) -> None:
        self._size = size
        self._unlock()
        if hasattr(os, "register_at_fork"):  # another thread may hold the lock while this one forks
            os.register_at_fork(after_in_child=self._unlock)
        self.known: set[str | bytes] = set()
        """The current generation; whoever uses a secret that is not in it calls ``add``."""
        self.generations: tuple[list[str | bytes], list[str | bytes]] = ([], [])
        """The previous generation and the current one; each only grows, and is another list when it begins anew."""

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def add(self, value: str | bytes) -> None:
        """Search for ``value`` from now on, unless ordinary text may hold it by chance."""
        if not (is_distinctive(value) if isinstance(value, str) else DISTINCTIVE <= len(value) <= LONGEST_BYTES):
            return
        with self._lock:
            if value in self.known:
                return
            if len(self.known) >= self._size:
                self.generations = (self.generations[1], [])
                self.known = set()
            self.known.add(value)
            self.generations[1].append(value)


def is_distinctive(value: str) -> bool:
    """Whether a text that holds ``value`` holds it for no other reason than that it is this secret.

    A password such as ``secret``, ``the key`` or ``1234`` is not: masking it everywhere would make logs unreadable, and
    would tell readers that such a word is somebody's password.
    """
    if len(value) >= DISTINCTIVE:
        return True
    return (
        len(value) >= SHORTEST_LIVE
        and any(char.isalpha() for char in value)
        and any(not char.isalpha() and char not in _SEPARATORS for char in value)
    )


LIVE: Final = LiveSecrets()
"""Those of this process."""


def masked(value: T) -> T:
    """The same text or data without the secrets of this process; where there are none yet, nothing is imported."""
    if value is None or not LIVE.known:
        return value
    from .redaction import mask_data

    found: T = mask_data(value, named=False)
    return found
