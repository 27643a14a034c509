"""What every webhook scheme must do. The subject is a :class:`WebhookSubject`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve, field, frozen

from ...errors import ServicesError
from ...http import InboundRequest
from ...protocols import Challenge, FlowStep, Rejected, Verdict, Verified, WebhookVerifier
from ...secret import SecretStr
from ..kit import Skipped, check

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_KEYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"


@frozen(kw_only=True)
class WebhookSubject:
    """A scheme with a record, and how its sender makes a delivery."""

    verifier: type[WebhookVerifier]
    record: Any
    send: Callable[[bytes, datetime, SecretStr], InboundRequest]
    """The delivery of a body at a moment, signed with a secret; the same arguments give one with the same id."""
    secret: SecretStr = field(factory=lambda: SecretStr("kit-webhook-secret-" + _KEYS))
    other: SecretStr = field(factory=lambda: SecretStr("kit-another-secret-" + _KEYS))
    """Two secrets that fit the scheme; where a sender's key is a pair, ``accepts`` gives what verifies it."""
    accepts: Callable[[SecretStr], SecretStr] = lambda secret: secret
    """What the receiver is given for a secret that the sender signs with."""
    body: bytes = b'{"id": "kit-1", "type": "kit.made", "n": 1.0}'
    """Of a delivery; JSON that another serialiser writes in another way."""
    answer: Callable[[FlowStep], Any] | None = None
    """What the runtime answers to the steps that the scheme yields; None where it yields none."""
    covers_body: bool = True
    """Whether another body is noticed: False for a shared token, or where TLS protects the body."""
    covers_bytes: bool = True
    """Whether other bytes of the same body are noticed: False where the parsed fields are what is signed."""
    timed: bool = True
    """Whether a delivery holds its time and the record a ``tolerance``."""
    keyed: bool = True
    """Whether it has secrets: False where a certificate or a token of somebody else's proves the sender."""
    needs: tuple[str, ...] = ()
    """Headers without which a delivery proves nothing."""


def _verdict(
    subject: WebhookSubject,
    request: InboundRequest,
    secrets: Sequence[SecretStr] | None = None,
    *,
    now: datetime = _NOW,
    verifier: WebhookVerifier | None = None,
) -> Verdict:
    live = (subject.accepts(subject.secret),) if secrets is None else secrets
    flow = (verifier or subject.verifier(subject.record)).verify(request, secrets=live, now=now)
    answer: Any = None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        assert subject.answer is not None, f"the scheme asks for {step!r}, which the subject does not answer"
        answer = subject.answer(step)


def _sent(subject: WebhookSubject, body: bytes | None = None, *, at: datetime = _NOW) -> InboundRequest:
    return subject.send(subject.body if body is None else body, at, subject.secret)


def _refused(subject: WebhookSubject, request: InboundRequest, what: str, **more: Any) -> None:
    found = _verdict(subject, request, **more)
    assert isinstance(found, Rejected), f"{what} gives {type(found).__name__}, not Rejected"
    assert found.reason, f"{what} is rejected without a reason"


@check("SCHEME-001", "webhook")
async def accepts_what_the_sender_signed(subject: WebhookSubject) -> None:
    """A delivery as the sender signs it is Verified, with an id and an event that a column can hold, and each time with
    the same id."""
    found = _verdict(subject, _sent(subject))
    assert isinstance(found, Verified), f"it gives {found!r}"
    assert 0 < len(found.delivery_id) <= 255, "the id is empty or over 255 characters"
    assert found.delivery_id.isprintable(), "the id holds what is not printable"
    assert 0 < len(found.event) <= 120, "the event is empty or over 120 characters"
    assert found.event.isprintable(), "the event holds what is not printable"
    assert _verdict(subject, _sent(subject)) == found, "the same delivery gives another verdict"


@check("SCHEME-002", "webhook")
async def refuses_another_secret(subject: WebhookSubject) -> None:
    """What is signed with a secret that is not live is rejected."""
    if not subject.keyed:
        raise Skipped("the scheme has no secrets")
    request = subject.send(subject.body, _NOW, subject.other)
    _refused(subject, request, "another secret")


@check("SCHEME-003", "webhook")
async def refuses_a_changed_body(subject: WebhookSubject) -> None:
    """One other byte, one more or one less, anywhere in the body, is rejected."""
    if not subject.covers_body:
        raise Skipped("the scheme does not cover the body")
    request, made = _sent(subject), random.Random(1)  # noqa: S311
    for at in sorted({0, len(request.body) - 1, *made.sample(range(len(request.body)), min(16, len(request.body)))}):
        changed = bytearray(request.body)
        changed[at] ^= made.randrange(1, 128)
        _refused(subject, evolve(request, body=bytes(changed)), f"another byte at {at}")
    if subject.covers_bytes:
        for body in (request.body + b" ", b" " + request.body, request.body[:-1], b""):
            _refused(subject, evolve(request, body=body), f"a body of {len(body)} bytes")


@check("SCHEME-004", "webhook")
async def refuses_a_missing_header(subject: WebhookSubject) -> None:
    """A delivery without one of the headers that prove it, or with an empty one, is rejected."""
    if not subject.needs:
        raise Skipped("no header proves a delivery")
    request = _sent(subject)
    for name in subject.needs:
        assert request.header(name) is not None, f"the sender sends no {name}"
        kept = tuple(pair for pair in request.headers if pair[0].lower() != name.lower())
        _refused(subject, evolve(request, headers=kept), f"a delivery without {name}")
        _refused(subject, evolve(request, headers=(*kept, (name, ""))), f"an empty {name}")


@check("SCHEME-005", "webhook")
async def refuses_a_stale_or_future_time(subject: WebhookSubject) -> None:
    """A delivery that is older than the tolerance, or as far in the future, is rejected although it is signed."""
    if not subject.timed:
        raise Skipped("deliveries hold no time")
    tolerance = timedelta(seconds=subject.record.tolerance)
    for off in (tolerance + timedelta(seconds=2), timedelta(days=400)):
        for moment in (_NOW - off, _NOW + off):
            _refused(subject, _sent(subject, at=moment), f"a time {(moment - _NOW).total_seconds()} s away")
    within = _verdict(subject, _sent(subject, at=_NOW - tolerance + timedelta(seconds=2)))
    assert isinstance(within, Verified), "a time within the tolerance is rejected"


@check("SCHEME-006", "webhook")
async def refuses_a_tolerance_that_checks_nothing(subject: WebhookSubject) -> None:
    """A record whose tolerance is zero, negative, infinite or not a number makes no verifier."""
    if not subject.timed:
        raise Skipped("deliveries hold no time")
    for tolerance in (0.0, -1.0, float("inf"), float("nan")):
        try:
            subject.verifier(evolve(subject.record, tolerance=tolerance))
        except ValueError:
            continue
        raise AssertionError(f"a tolerance of {tolerance} is taken")


@check("SCHEME-007", "webhook")
async def takes_every_live_secret(subject: WebhookSubject) -> None:
    """With two live secrets, what either signed is Verified, whichever of them is first."""
    if not subject.keyed:
        raise Skipped("the scheme has no secrets")
    both = [subject.accepts(subject.secret), subject.accepts(subject.other)]
    for live in (both, both[::-1]):
        for secret in (subject.secret, subject.other):
            found = _verdict(subject, subject.send(subject.body, _NOW, secret), live)
            assert isinstance(found, Verified), f"one of two live secrets gives {found!r}"


@check("SCHEME-008", "webhook")
async def goes_by_the_raw_bytes(subject: WebhookSubject) -> None:
    """The same JSON in other bytes, as a framework writes it that has parsed the body, is rejected."""
    request = _sent(subject)
    try:
        again = json.dumps(json.loads(request.body), indent=3, sort_keys=True).encode()
    except ValueError:
        raise Skipped("the body is not JSON") from None
    if not (subject.covers_body and subject.covers_bytes):
        raise Skipped("the scheme does not cover the body's bytes")
    _refused(subject, evolve(request, body=again), "a body that was written again")


@check("SCHEME-009", "webhook")
async def refuses_without_a_secret(subject: WebhookSubject) -> None:
    """Without a secret, or with an empty one only, everything is rejected."""
    if not subject.keyed:
        raise Skipped("the scheme has no secrets")
    for live in ((), (SecretStr(""),)):
        _refused(subject, _sent(subject), "a delivery without a live secret", secrets=live)
        _refused(subject, evolve(_sent(subject), headers=()), "a request without a live secret", secrets=live)


@check("SCHEME-010", "webhook")
async def raises_for_no_request(subject: WebhookSubject) -> None:
    """Malformed headers, bodies and targets are rejected and raise nothing, and nothing that is not signed passes."""
    verifier = subject.verifier(subject.record)
    for request in _malformed(_sent(subject), subject):
        try:
            found = _verdict(subject, request, verifier=verifier)
        except ServicesError as error:
            raise AssertionError(f"{request!r} raises {type(error).__name__}") from error
        assert isinstance(found, (Verified, Rejected, Challenge)), f"{request!r} gives {found!r}"
    for request in (
        evolve(_sent(subject), headers=(), body=b"", peer_certificate=None),
        InboundRequest("", "", (), b""),
    ):
        _refused(subject, request, "an empty request", verifier=verifier)


@check("SCHEME-011", "webhook")
async def tells_no_secret(subject: WebhookSubject) -> None:
    """Neither a verdict nor its reason holds a live secret, or the signature that would be right."""
    request = _sent(subject)
    values = [value for name, value in request.headers if name.lower() in {one.lower() for one in subject.needs}]
    long = [value for value in values if len(value) > 24]
    shown = [repr(_verdict(subject, request))]
    shown += [repr(_verdict(subject, made)) for made in _malformed(request, subject)]
    shown += [repr(_verdict(subject, evolve(request, body=request.body + b"x")))]
    for text in shown:
        for secret in (subject.secret, subject.accepts(subject.secret)):
            assert not subject.keyed or secret.reveal() not in text, "a verdict shows a secret"
        assert not any(value in text for value in long), "a verdict shows a signature"


_ODD = ("", " ", "\x00", "ä€", "\ud800", "=", ",", ",,=,=", "t=,v1=", "t=1,t=2,v1=a", "Bearer", "Basic !", "NaN", "1e9")


def _malformed(request: InboundRequest, subject: WebhookSubject) -> Iterator[InboundRequest]:
    """The delivery with each part spoilt in many ways."""
    for index, (name, value) in enumerate(request.headers):
        for odd in (*_ODD, value[:-1], value + "=", value * 40, value[::-1], value.upper() + "\ud800"):
            headers = (*request.headers[:index], (name, odd), *request.headers[index + 1 :])
            yield evolve(request, headers=headers)
        yield evolve(request, headers=(*request.headers, (name, "x")))
    deep = b"[" * 100_000
    numbers = b'{"id": ' + b"9" * 5_000 + b', "type": 1e999}'
    for body in (b"", b"\xff", b"null", b"[]", b"{}", b'"text"', deep, numbers, b'{"id": {"a": []}}', b"a=1&a=2&%ff"):
        yield evolve(request, body=body)
        yield evolve(subject.send(body, _NOW, subject.secret), method="GET")
    for target in ("", "*", "?", "/?%ff=%00", "/?" + "a&" * 2_000, "//[", "/\ud800", "http://[::1/"):
        yield evolve(request, target=target)
        yield evolve(request, target=target, method="GET")
