"""What every signer must do. The subject is a :class:`SignerSubject`."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from traceback import TracebackException
from typing import Any
from urllib.parse import quote

from attrs import evolve, fields, frozen

from ...auth.fields import NAMES
from ...errors import BadInput, ServicesError, SigningError
from ...http import BodySource, HttpRequest
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
    covers: tuple[str, ...] = ()
    """What the signature depends on, of ``method``, ``path``, ``query`` and ``body``."""
    other: SigningKey | None = None
    """Another key that fits, for secrets that are not just any text."""


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
    other = subject.other or evolve(subject.key, secret=SecretStr(subject.key.secret.reveal()[::-1] + "2"))
    assert _sign(subject, _sign(subject), other) == _sign(subject, key=other)


@check("SIGN-009", "signer")
async def lets_no_record_break_out(subject: SignerSubject) -> None:
    """A line break in a name or a prefix that the record has is refused, by the record or when it signs."""
    for key in _misnamed(subject.key):
        try:
            signed = _sign(subject, key=key)
        except (BadInput, SigningError):
            continue
        written = [signed.url, *(part for header in signed.headers for part in header)]
        assert not any(c in part for part in written for c in "\r\n\0"), "a line break in the record reached the wire"


@check("SIGN-010", "signer")
async def names_what_is_missing(subject: SignerSubject) -> None:
    """Without one of the credential's fields it signs all the same, or the SigningError has that field's name."""
    for name, key in _lacking(subject.key):
        named: str | None = name
        try:
            _sign(subject, key=key)
        except SigningError as error:
            named = error.field
        assert named == name, f"the field {name} is missing, and the error names {named}"


@check("SIGN-011", "signer")
async def tells_no_secret_when_it_refuses(subject: SignerSubject) -> None:
    """No secret of the key is in a refusal: its text, its fields, or its traceback with the values of locals."""
    tails = ("\r\nX-Injected: 1", "\n", "\0", "\ud800", "ä")
    keys = [key for tail in tails for key in _tampered(subject.key, tail)]
    keys += [*_misnamed(subject.key), *(key for _, key in _lacking(subject.key))]
    requests = (subject.request, evolve(subject.request, body=_Streamed()), evolve(subject.request, url="//"))
    for request in requests:
        for key in keys:
            try:
                _sign(subject, request, key)
            except ServicesError as error:
                shown = f"{error!r}{error.as_dict()}{_shown(error)}"
                assert not any(secret in shown for secret in _secrets(subject.key)), "a refusal holds a secret"


@check("SIGN-012", "signer")
async def signs_the_final_bytes(subject: SignerSubject) -> None:
    """Whatever the signature covers, one byte more of it gives another signature."""
    base = evolve(subject.request, url=f"{subject.request.url.partition('?')[0]}/kit?kit=1", body=b"kit")
    path, _, query = base.url.partition("?")
    others = {
        "method": evolve(base, method="PUT" if base.method != "PUT" else "POST"),
        "path": base.with_url(f"{path}1?{query}"),
        "query": base.with_url(base.url + "1"),
        "body": evolve(base, body=b"kit1"),
    }
    for part in subject.covers:
        one, two = _sign(subject, base), _sign(subject, others[part])
        assert _added(base, one) != _added(others[part], two), f"another {part} has the same signature"


@check("SIGN-013", "signer")
async def signs_a_streamed_body_or_refuses_it(subject: SignerSubject) -> None:
    """A body that is streamed is refused by name, or sent as it is, or from another source that can be opened as often
    and is as long as it says."""
    source = _Streamed()
    try:
        signed = _sign(subject, evolve(subject.request, body=source))
    except SigningError as error:
        named = error.field
    else:
        named = None
        await _is_sent(source, signed)
    assert named in ("body", None), f"a streamed body is refused in the name of {named}"


async def _is_sent(source: _Streamed, signed: HttpRequest) -> None:
    assert isinstance(signed.body, BodySource), "a streamed body became bytes"
    assert source.opened == 0, "the body was read when the request was signed"
    first, second = [[piece async for piece in signed.body.open()] for _ in range(2)]
    assert b"".join(first) == b"".join(second), "the body is another one when it is opened again"
    assert signed.body.length == len(b"".join(first)), "the body is not as long as it says"
    assert b"a streamed body" in b"".join(first), "the body's bytes are not sent"


class _Streamed:
    """A body from a source."""

    length = 15

    def __init__(self) -> None:
        self.opened = 0

    async def open(self) -> AsyncIterator[bytes]:
        self.opened += 1
        yield b"a streamed"
        yield b" body"


def _misnamed(key: SigningKey) -> Iterator[SigningKey]:
    """The key with a line break in each text of its record that stands in a header or names one."""
    record: Any = key.auth
    for attribute in fields(type(record)):
        value = getattr(record, attribute.name)
        if isinstance(value, str) and any(
            part in attribute.name for part in ("header", "prefix", "scheme", "label", "tag")
        ):
            try:
                yield evolve(key, auth=evolve(record, **{attribute.name: value + "\r\nX-Injected: 1"}))
            except ValueError:
                continue


def _lacking(key: SigningKey) -> Iterator[tuple[str, SigningKey]]:
    """The key without each field of its credential."""
    if key.credential is not None:
        tokens = key.credential.tokens
        for name in tokens.extra:
            extra = {known: value for known, value in tokens.extra.items() if known != name}
            yield name, evolve(key, credential=evolve(key.credential, tokens=evolve(tokens, extra=extra)))


def _secrets(key: SigningKey) -> list[str]:
    extra = key.credential.tokens.extra.items() if key.credential is not None else ()
    return [key.secret.reveal(), *(value.reveal() for name, value in extra if name not in NAMES)]


def _shown(error: ServicesError) -> str:
    """The traceback as a reporter of errors prints it, without the kit's own frames."""
    printed = TracebackException.from_exception(error, capture_locals=True)
    return "".join(str(frame.locals) for frame in printed.stack if frame.filename != __file__)


def _added(request: HttpRequest, signed: HttpRequest) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What signing put on a request."""
    headers = tuple(header for header in signed.headers if header not in request.headers)
    return signed.url.removeprefix(request.url), headers
