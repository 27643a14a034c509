"""Runs a verifier that needs no steps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from go_services_core.http import InboundRequest
from go_services_core.protocols import Rejected, Verdict, Verified, WebhookVerifier
from go_services_core.secret import SecretStr

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def verdict(
    verifier: WebhookVerifier, request: InboundRequest, secrets: Sequence[SecretStr | str], now: datetime = NOW
) -> Verdict:
    live = [one if isinstance(one, SecretStr) else SecretStr(one) for one in secrets]
    flow = verifier.verify(request, secrets=live, now=now)
    try:
        step = next(flow)
    except StopIteration as end:
        result: Verdict = end.value
        return result
    raise AssertionError(f"verification asked for {step}")


def verified(
    verifier: WebhookVerifier, request: InboundRequest, secrets: Sequence[SecretStr | str], now: datetime = NOW
) -> Verified:
    found = verdict(verifier, request, secrets, now)
    assert isinstance(found, Verified), found
    return found


def rejection(
    verifier: WebhookVerifier, request: InboundRequest, secrets: Sequence[SecretStr | str], now: datetime = NOW
) -> str:
    found = verdict(verifier, request, secrets, now)
    assert isinstance(found, Rejected), found
    return found.reason
