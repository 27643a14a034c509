"""Keeps from the terminal what a step brings about on purpose."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(name: str, level: int) -> Iterator[None]:
    """Let the logger ``name`` say nothing below ``level`` meanwhile: what it would say is meant, and only frightens."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
