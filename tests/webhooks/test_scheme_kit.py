"""The core's webhook schemes keep the kit's rules, and each rule finds a scheme that breaks it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
from attrs import evolve

from go_services_core.http import InboundRequest
from go_services_core.protocols import FlowStep, Rejected, Verdict, Verified
from go_services_core.secret import SecretStr
from go_services_core.testing.checks.webhook import WebhookSubject
from go_services_core.testing.kit import checks_of, conformance
from go_services_core.testing.pytest_kit import WebhookKit
from go_services_core.webhooks.hmac import HmacVerifier

from .senders import SUBJECTS


def kit(name: str) -> type[WebhookKit]:
    @asynccontextmanager
    async def subject(self: Any) -> AsyncIterator[WebhookSubject]:
        yield SUBJECTS[name]

    return type(f"Test{name.title()}", (WebhookKit,), {"subject": subject, "__module__": __name__})


for _name in SUBJECTS:
    globals()[f"Test{_name.title().replace('_', '')}"] = kit(_name)


class Broken(HmacVerifier):
    """A good scheme with one mistake."""

    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        return (yield from super().verify(self.spoilt(request), secrets=secrets, now=now))

    def spoilt(self, request: InboundRequest) -> InboundRequest:
        return request


class AcceptsAll(HmacVerifier):
    def verify(self, request: InboundRequest, **known: Any) -> Generator[FlowStep, Any, Verdict]:
        yield from ()
        return Verified(delivery_id="kit-1", event="kit.made")


class RejectsAll(HmacVerifier):
    def verify(self, request: InboundRequest, **known: Any) -> Generator[FlowStep, Any, Verdict]:
        yield from ()
        return Rejected(reason="no")


class GoesByParsedJson(Broken):
    def spoilt(self, request: InboundRequest) -> InboundRequest:
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError):
            return request
        if body == json.loads(SUBJECTS["stripe"].body):
            return evolve(request, body=SUBJECTS["stripe"].body)
        return request


class SkipsWithoutHeader(HmacVerifier):
    def verify(self, request: InboundRequest, **known: Any) -> Generator[FlowStep, Any, Verdict]:
        if not request.header("Stripe-Signature"):
            return Verified(delivery_id="kit-1", event="kit.made")
        return (yield from super().verify(request, **known))


class NeverLate(HmacVerifier):
    def verify(self, request: InboundRequest, *, now: datetime, **known: Any) -> Generator[FlowStep, Any, Verdict]:
        stamp = (request.header("Stripe-Signature") or "").partition(",")[0].removeprefix("t=")
        moment = datetime.fromtimestamp(int(stamp), now.tzinfo) if stamp.isascii() and stamp.isdigit() else now
        return (yield from super().verify(request, now=moment, **known))


class AnyTolerance(HmacVerifier):
    def __init__(self, record: Any) -> None:
        super().__init__(evolve(record, tolerance=300.0))


class FirstSecretOnly(HmacVerifier):
    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        return (yield from super().verify(request, secrets=secrets[:1], now=now))


class DefaultSecret(HmacVerifier):
    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        return (yield from super().verify(request, secrets=secrets or [SUBJECTS["stripe"].secret], now=now))


class Raises(Broken):
    def spoilt(self, request: InboundRequest) -> InboundRequest:
        request.target.encode()
        return request


class TellsAll(HmacVerifier):
    def verify(
        self, request: InboundRequest, *, secrets: Sequence[SecretStr], now: datetime
    ) -> Generator[FlowStep, Any, Verdict]:
        found = yield from super().verify(request, secrets=secrets, now=now)
        return Rejected(reason=f"not {secrets[0].reveal()}") if isinstance(found, Rejected) else found


@pytest.mark.parametrize(
    ("check", "verifier"),
    [
        ("SCHEME-001", RejectsAll),
        ("SCHEME-002", AcceptsAll),
        ("SCHEME-003", AcceptsAll),
        ("SCHEME-004", SkipsWithoutHeader),
        ("SCHEME-005", NeverLate),
        ("SCHEME-006", AnyTolerance),
        ("SCHEME-007", FirstSecretOnly),
        ("SCHEME-008", GoesByParsedJson),
        ("SCHEME-009", DefaultSecret),
        ("SCHEME-010", Raises),
        ("SCHEME-011", TellsAll),
    ],
)
async def test_each_rule_finds_the_scheme_that_breaks_it(check: str, verifier: type[HmacVerifier]) -> None:
    @asynccontextmanager
    async def subject() -> AsyncIterator[WebhookSubject]:
        yield evolve(SUBJECTS["stripe"], verifier=verifier)

    report = await conformance("webhook", subject)
    outcomes = {result.check.id: result.outcome for result in report.results}
    assert outcomes[check] == "failed"


def test_every_rule_has_a_scheme_that_breaks_it() -> None:
    marks = test_each_rule_finds_the_scheme_that_breaks_it.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == {rule.id for rule in checks_of("webhook")}
