"""What every test of the workspace may use."""

from __future__ import annotations

import os
import random

import pytest

from go_services_core.live_secrets import LIVE


class Chaos:
    """How often a kill test kills: a few times, or the full count under ``make chaos`` (``CHAOS=1``).

    The seed is printed, and pytest shows it when the test fails; ``CHAOS_SEED`` repeats a run.
    """

    def __init__(self) -> None:
        self.seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**32))
        self.random = random.Random(self.seed)  # noqa: S311  reproducible on purpose
        self._full = os.environ.get("CHAOS") == "1"
        print(f"CHAOS_SEED={self.seed}")

    def rounds(self, few: int, full: int) -> int:
        """``few``, or ``full`` under ``make chaos``."""
        return full if self._full else few


@pytest.fixture
def chaos() -> Chaos:
    return Chaos()


@pytest.fixture(autouse=True)
def _no_live_secrets() -> None:
    """What one test handled as a secret is not masked in the texts of the next."""
    LIVE.known, LIVE.generations = set(), ([], [])
