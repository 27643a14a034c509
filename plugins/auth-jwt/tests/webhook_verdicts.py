"""Drives a verifier to its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from go_services_core.http import InboundRequest
from go_services_core.protocols import Rejected, Verdict
from go_services_core.secret import SecretStr

from .keys import NOW


def driven(
    verifier: Any,
    request: InboundRequest,
    answers: Any = None,
    *,
    now: datetime = NOW,
    secrets: Sequence[SecretStr] = (),
) -> Verdict:
    """The verdict; ``answers`` gives the answer to each step."""
    flow = verifier.verify(request, secrets=secrets, now=now)
    answer: Any = None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        assert answers is not None, f"it asks for {step!r}"
        answer = answers(step)


def reason(found: Verdict) -> str:
    assert isinstance(found, Rejected), found
    return found.reason
