"""Whether a secret fits is told by ``hmac.compare_digest`` alone, so that no time tells how much of it does (P64)."""

from __future__ import annotations

import hmac
import operator
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from attrs import evolve

from go_services_core.builtin import plugin
from go_services_core.http import InboundRequest
from go_services_core.protocols import Challenge, Rejected, Verdict, Verified
from go_services_core.secret import SecretStr
from go_services_core.webhook_specs import Handshake
from go_services_core.webhooks import vendors
from go_services_core.webhooks.hmac import HmacVerifier

from .driving import NOW, verdict
from .senders import SUBJECTS, post


class Guarded(str):
    """Text that nobody may compare in another way than in constant time."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a live secret was compared with ==")

    def __ne__(self, other: object) -> bool:
        raise AssertionError("a live secret was compared with !=")

    __hash__ = str.__hash__

    def encode(self, *args: Any, **more: Any) -> GuardedBytes:
        return GuardedBytes(super().encode(*args, **more))

    def removeprefix(self, prefix: str, /) -> Guarded:
        return Guarded(super().removeprefix(prefix))

    def strip(self, chars: str | None = None, /) -> Guarded:
        return Guarded(super().strip(chars))


class GuardedBytes(bytes):
    """The same of bytes."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError("a live secret was compared with ==")

    def __ne__(self, other: object) -> bool:
        raise AssertionError("a live secret was compared with !=")

    __hash__ = bytes.__hash__


class GuardedSecret(SecretStr):
    """A live secret that notices how it is compared."""

    def reveal(self) -> str:
        return Guarded(super().reveal())


def hub_challenge(token: str) -> InboundRequest:
    asked = {"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": "1158201444"}
    return InboundRequest("GET", "/hooks/meta?" + urlencode(asked), (), b"")


TOKEN_IN_BODY = HmacVerifier(
    evolve(vendors.GITHUB, handshake=Handshake(where="body", challenge="challenge", token="token"))
)


def body_challenge(token: str) -> InboundRequest:
    body = b'{"challenge": "c", "token": "%s"}' % token.encode()
    signature = hmac.new(b"the-secret-that-signs", body, "sha256").hexdigest()
    return post(body, ("X-GitHub-Delivery", "d-1"), ("X-Hub-Signature-256", f"sha256={signature}"))


def delivery(name: str) -> Callable[[bool], Verdict]:
    subject = SUBJECTS[name]
    verifier = subject.verifier(subject.record)
    live = GuardedSecret(subject.accepts(subject.secret).reveal())

    def judged(right: bool) -> Verdict:
        sent = subject.send(subject.body, NOW, subject.secret if right else subject.other)
        return verdict(verifier, sent, [live])

    return judged


def handshake(verifier: HmacVerifier, ask: Callable[[str], InboundRequest]) -> Callable[[bool], Verdict]:
    live = [GuardedSecret("the-secret-that-signs"), GuardedSecret("verify_right-token-1")]
    return lambda right: verdict(verifier, ask("verify_right-token-1" if right else "verify_other-token-1"), live)


CASES: dict[str, Callable[[bool], Verdict]] = {
    **{name: delivery(name) for name in SUBJECTS},
    "token of a query": handshake(HmacVerifier(vendors.META), hub_challenge),
    "token of a body": handshake(TOKEN_IN_BODY, body_challenge),
}


@pytest.mark.parametrize("name", CASES)
def test_a_live_secret_is_compared_in_constant_time(name: str) -> None:
    assert isinstance(CASES[name](True), (Verified, Challenge))
    assert isinstance(CASES[name](False), Rejected)


@pytest.mark.parametrize("name", CASES)
def test_nothing_but_the_constant_time_comparison_tells_whether_a_secret_fits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed of the secret is covered as well: where the one comparison always says no, nothing passes, and
    where it always says yes, nothing was refused for its signature."""
    monkeypatch.setattr(hmac, "compare_digest", lambda given, right: False)
    assert isinstance(CASES[name](True), Rejected)
    monkeypatch.setattr(hmac, "compare_digest", lambda given, right: True)
    assert isinstance(CASES[name](False), (Verified, Challenge))


def test_every_scheme_of_the_core_is_among_the_cases() -> None:
    known = {spec.verifier.resolve() for spec in plugin.gs_webhook_schemes()}
    assert known == {subject.verifier for subject in SUBJECTS.values()}


def test_guard_notices_a_comparison_from_either_side() -> None:
    live = GuardedSecret("live-secret").reveal()
    for compare in (
        lambda: operator.eq("live-secret", live),
        lambda: live != "live-secret",
        lambda: operator.contains(["other"], live),
        lambda: operator.eq(b"live-secret", live.encode()),
        lambda: live.removeprefix("live-") == "secret",
    ):
        with pytest.raises(AssertionError, match="was compared"):
            compare()
