"""The pytest fixture ``recording``: answers of a provider, recorded once and played in every run since.

::

    from go_services_core.testing.pytest_recording import recording  # noqa: F401  in conftest.py

    async def test_repositories_are_listed(recording):
        async with Runtime.open(config, wrap_transport=recording.wrap) as runtime:
            ...
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ..protocols import Transport
from .recording import Recorder
from .replay import ReplayTransport

VARIABLE: Final = "GO_SERVICES_RECORD"
"""Environment variable that, set to ``1``, has tests send for real and record."""


class Recording:
    """What one test records or plays: ``recordings/<name of the test>.json`` beside its file."""

    def __init__(self, path: Path, *, records: bool) -> None:
        self.path = path
        self.records = records
        self._used: list[Recorder | ReplayTransport] = []

    def wrap(self, transport: Transport) -> Transport:
        """In place of ``transport``: what records it, or, playing, what answers from the file and sends nothing.

        Raises:
            RecordingInvalid: there is nothing to play, or it holds a secret.
        """
        used = Recorder(transport) if self.records else ReplayTransport(self.path)
        self._used.append(used)
        return used

    def finish(self) -> None:
        """Write what was recorded; of what was played nothing may be left over.

        Raises:
            RecordingInvalid: a secret would be left in the file.
            AssertionError: the test did not send everything that was recorded.
        """
        for used in self._used:
            if isinstance(used, Recorder):
                used.save(self.path)
            elif used.unused:
                first = used.unused[0].request
                raise AssertionError(
                    f"{self.path.name}: {len(used.unused)} recorded requests were not sent, the first of them "
                    f"{first['method']} {first['url']}"
                )


@pytest.fixture
def recording(request: pytest.FixtureRequest) -> Iterator[Recording]:
    """Plays the test's recording, or makes it with ``GO_SERVICES_RECORD=1``; a secret in it fails the test. P47."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.node.name).strip("-")
    made = Recording(request.path.parent / "recordings" / f"{name}.json", records=os.environ.get(VARIABLE) == "1")
    yield made
    made.finish()
