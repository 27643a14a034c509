"""What every signer must do. The subject is a :class:`SignerSubject`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote

from attrs import evolve, frozen

from ...errors import BadInput, SigningError
from ...http import HttpRequest
from ...protocols import Signer, SigningContext, SigningKey
from ...secret import SecretStr
from ..kit import check

_QUERY = "kit_b=2&kit_a=1&kit_a=1&&kit_c=%2f%2F%20%C3%A4&kit_d=a+b&kit_e=&kit_f"
"""Repeated, unsorted, empty and differently encoded parameters."""


@frozen
class SignerSubject:
    """A signer, a key that fits it, and a request for it to sign. The key's secret has eight characters or more."""

    signer: Signer
    key: SigningKey
    request: HttpRequest


def _sign(subject: SignerSubject, request: HttpRequest | None = None, key: SigningKey | None = None) -> HttpRequest:
    """Sign at one fixed moment, with the same randomness every time."""
    context = SigningContext(datetime(2026, 1, 1, tzinfo=UTC), random.Random(1).randbytes)  # noqa: S311
    return subject.signer.sign(request or subject.request, key or subject.key, context)


def _tampered(key: SigningKey, tail: str) -> Iterator[SigningKey]:
    """The key with ``tail`` after its secret, and after each further secret of its credential."""
    yield evolve(key, secret=SecretStr(key.secret.reveal() + tail))
    if key.credential is not None:
        tokens = key.credential.tokens
        for name, value in tokens.extra.items():
            extra = {**tokens.extra, name: SecretStr(value.reveal() + tail)}
            yield evolve(key, credential=evolve(key.credential, tokens=evolve(tokens, extra=extra)))


@check("SIGN-001", "signer")
async def signs_the_same_alike(subject: SignerSubject) -> None:
    """Signing is a function: the same request, key, moment and randomness give the same signed request."""
    first = _sign(subject)
    assert first != subject.request, "the signed request is the request as it was"
    assert _sign(subject) == first, "signing twice gave two different requests"


@check("SIGN-002", "signer")
async def leaves_its_input_alone(subject: SignerSubject) -> None:
    """Neither the request nor the key is changed; the signed request is another object."""
    request, key = evolve(subject.request), evolve(subject.key)
    signed = _sign(subject)
    assert signed is not subject.request, "the request itself was returned"
    assert subject.request == request, "the request was changed"
    assert subject.key == key, "the key was changed"


@check("SIGN-003", "signer")
async def lets_no_secret_break_out(subject: SignerSubject) -> None:
    """A line break or NUL in a secret is refused with BadInput or SigningError, or is encoded: it never stands in a
    header or in the URL."""
    for tail in ("\r\nX-Injected: 1", "\n", "\r", "\0"):
        for key in _tampered(subject.key, tail):
            try:
                signed = _sign(subject, key=key)
            except (BadInput, SigningError) as error:
                if key.secret.reveal() in str(error):
                    raise AssertionError("the refusal repeats the secret") from None
                continue
            written = [signed.url, *(part for header in signed.headers for part in header)]
            assert not any(c in part for part in written for c in "\r\n\0"), f"{tail!r} in a secret reached the wire"
            assert signed.header("X-Injected") is None, "a secret made a header of its own"


@check("SIGN-004", "signer")
async def keeps_every_byte_of_the_url(subject: SignerSubject) -> None:
    """Repeated parameters, their order and their encoding stay; a parameter may only be added, at the end."""
    url = subject.request.url.partition("#")[0].partition("?")[0] + "/%7Ekit%2f?" + _QUERY
    signed = _sign(subject, evolve(subject.request, url=url))
    assert signed.url == url or signed.url.startswith(url + "&"), f"the URL became {signed.url.partition('?')[0]}?…"


@check("SIGN-005", "signer")
async def keeps_method_body_and_limits(subject: SignerSubject) -> None:
    """Method, body (any bytes), timeout and limit of the answer are those of the request."""
    body = '{"kit": "ä€"}\r\n'.encode() + bytes(range(256))
    request = evolve(subject.request, method="PATCH", body=body, timeout=1.5, max_body=77)
    signed = _sign(subject, request)
    assert (signed.method, signed.body, signed.timeout, signed.max_body) == ("PATCH", body, 1.5, 77)


@check("SIGN-006", "signer")
async def keeps_the_other_headers(subject: SignerSubject) -> None:
    """Headers that are not the signer's stay, in their order and spelling, repeated ones too."""
    others = (("X-Kit-B", "2"), ("x-kit-A", "1"), ("X-Kit-B", "3"))
    signed = _sign(subject, evolve(subject.request, headers=others))
    assert tuple(header for header in signed.headers if header in others) == others, f"headers: {signed.headers}"
    names = [name.lower() for name, _ in signed.headers if name.lower() not in ("x-kit-a", "x-kit-b")]
    assert len(set(names)) == len(names), "the signer wrote a header twice"


@check("SIGN-007", "signer")
async def prints_no_secret(subject: SignerSubject) -> None:
    """The secret is in the representation of neither the signed request nor the key."""
    secret = subject.key.secret.reveal()
    assert len(secret) >= 8, "the subject's secret is too short to search for"
    for shown in (repr(_sign(subject)), repr(subject.key)):
        assert secret not in shown, "repr shows the secret"
        assert quote(secret, safe="") not in shown, "repr shows the encoded secret"


@check("SIGN-008", "signer", level="should")
async def signs_a_signed_request_anew(subject: SignerSubject) -> None:
    """Signing a signed request with another key gives what that key alone gives: nothing of the old one stays."""
    other = evolve(subject.key, secret=SecretStr(subject.key.secret.reveal()[::-1] + "2"))
    assert _sign(subject, _sign(subject), other) == _sign(subject, key=other)
