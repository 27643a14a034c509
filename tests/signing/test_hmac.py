"""HMAC signatures: published vectors, strings to sign written out by hand, and what a record may not say."""

from __future__ import annotations

import hashlib
import hmac
import random
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve

from go_services_core.auth.fields import concealed
from go_services_core.auth.typed import HmacFlow
from go_services_core.auth_specs import Hmac, PersonalToken
from go_services_core.errors import BadInput, ReauthRequired, SigningError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.hmac import HmacSigner

from ..auth.driving import client_context, held, run

NOW = datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)
STAMP = "1769860800"
SECRET = "s3cret/with+all=kinds"
URL = "https://api.example:8443/v1/items%2F7?b=2&a=1&a=%20"
REQUEST = HttpRequest("POST", URL, (("X-Tenant", " acme "), ("x-tenant", "two")), b'{"name": "l\xc3\xa4mp"}', 3.0, 99)
BODY_HASH = hashlib.sha256(REQUEST.body or b"").hexdigest()  # type: ignore[arg-type]


def sign(record: Hmac, request: HttpRequest = REQUEST, secret: str = SECRET, key_id: str | None = None) -> HttpRequest:
    extra = {"key_id": SecretStr(key_id, name=True)} if key_id is not None else {}
    tokens = TokenSet(access_token=SecretStr(secret), extra=extra)
    credential = Credential(connection_id="c", version=1, auth_kind="hmac", tokens=tokens)
    key = SigningKey(secret=tokens.access_token, auth=record, credential=credential)
    return HmacSigner().sign(request, key, SigningContext(NOW, random.Random(1).randbytes))


def over(text: str, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("secret", "encoding", "algorithm", "body", "expected"),
    [
        # RFC 4231 §4.2 and §4.3, RFC 2202 §3
        ("0b" * 20, "hex", "sha256", b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        ("Jefe", "text", "sha256", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (b64encode(b"Jefe").decode(), "base64", "sha384", b"what do ya want for nothing?", "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"),
        ("Jefe", "text", "sha512", b"what do ya want for nothing?", "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"),
        ("Jefe", "text", "sha1", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    ],
)  # fmt: skip
def test_signatures_of_published_vectors(
    secret: str, encoding: Any, algorithm: Any, body: bytes, expected: str
) -> None:
    record = Hmac(signed="body", timestamp_header=None, algorithm=algorithm, secret_encoding=encoding)
    request = evolve(REQUEST, body=body)
    assert sign(record, request, secret).header("X-Signature") == expected
    based = sign(evolve(record, encoding="base64"), request, secret).header("X-Signature")
    assert based is not None
    assert b64decode(based).hex() == expected


def test_default_covers_method_path_query_time_and_body() -> None:
    signed = sign(Hmac())
    assert signed.header("X-Timestamp") == STAMP
    text = f"POST\n/v1/items%2F7?b=2&a=1&a=%20\n{STAMP}\n{BODY_HASH}"
    assert signed.header("X-Signature") == over(text)
    for other in (
        evolve(REQUEST, method="PUT"),
        evolve(REQUEST, url=URL + "1"),
        evolve(REQUEST, url=URL.replace("7", "8")),
        evolve(REQUEST, body=b"{}"),
    ):
        assert sign(Hmac(), other).header("X-Signature") != signed.header("X-Signature")


def test_the_go_systems_signature_can_be_made() -> None:
    record = Hmac(signed=("method", "path", "timestamp", "body_hash"))
    assert sign(record).header("X-Signature") == over(f"POST\n/v1/items%2F7\n{STAMP}\n{BODY_HASH}")


def test_every_part_stands_in_the_order_of_the_record() -> None:
    record = Hmac(
        signed=("key_id", "nonce", "timestamp", "host", "path", "query", "header:x-TENANT", "body", "body_hash_base64"),
        joiner="|",
        timestamp_format="iso8601",
        nonce_header="X-Nonce",
        key_id_header="X-Key",
    )
    signed = sign(record, key_id="key-1")
    nonce = signed.header("X-Nonce") or ""
    assert bytes.fromhex(nonce) == random.Random(1).randbytes(16)
    assert (signed.header("X-Key"), signed.header("X-Timestamp")) == ("key-1", "2026-01-31T12:00:00Z")
    text = (
        f'key-1|{nonce}|2026-01-31T12:00:00Z|api.example:8443|/v1/items%2F7|b=2&a=1&a=%20|acme, two|{{"name": "lämp"}}|'
    )
    assert signed.header("X-Signature") == over(text + b64encode(bytes.fromhex(BODY_HASH)).decode())


@pytest.mark.parametrize(
    ("header", "format", "algorithm", "expected"),
    [
        ("X-Content-SHA256", "hex", "sha256", BODY_HASH),
        ("X-Content-SHA256", "base64", "sha256", b64encode(bytes.fromhex(BODY_HASH)).decode()),
        ("Digest", "digest", "sha256", f"SHA-256={b64encode(bytes.fromhex(BODY_HASH)).decode()}"),
        ("Content-Digest", "content-digest", "sha256", f"sha-256=:{b64encode(bytes.fromhex(BODY_HASH)).decode()}:"),
        ("Digest", "digest", "sha512",
         f"SHA-512={b64encode(hashlib.sha512(REQUEST.body or b'').digest()).decode()}"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_digest_of_the_body_has_a_header_of_its_own(header: str, format: Any, algorithm: Any, expected: str) -> None:
    """It can be signed in place of the body."""
    record = Hmac(
        signed=("method", f"header:{header}"), digest_header=header, digest_format=format, algorithm=algorithm,
        timestamp_header=None,
    )  # fmt: skip
    signed = sign(record, REQUEST.with_header(header.lower(), "wrong"))
    assert [value for name, value in signed.headers if name.lower() == header.lower()] == [expected]
    text = f"POST\n{expected}".encode()
    assert signed.header("X-Signature") == hmac.new(SECRET.encode(), text, algorithm).hexdigest()
    empty = hashlib.new(algorithm).hexdigest()
    bare = sign(evolve(record, digest_format="hex"), evolve(REQUEST, body=None))
    assert bare.header(header) == empty


def test_digest_that_has_no_name_is_refused() -> None:
    for format in ("digest", "content-digest"):
        with pytest.raises(ValueError, match="no name for sha1"):
            Hmac(digest_header="Digest", digest_format=format, algorithm="sha1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="digest_format"):
        Hmac(digest_header="Digest", digest_format="other")  # type: ignore[arg-type]


def test_only_a_signature_with_a_time_is_dated() -> None:
    assert HmacSigner().is_dated(Hmac())
    assert HmacSigner().is_dated(Hmac(timestamp_header=None, prefix="{timestamp}:"))
    assert not HmacSigner().is_dated(Hmac(signed="body", timestamp_header=None))


def test_prefix_may_hold_what_the_receiver_needs() -> None:
    record = Hmac(
        signed=("timestamp", "path"),
        joiner="",
        timestamp_header=None,
        timestamp_format="milliseconds",
        signature_header="Authorization",
        prefix="ACME {key_id}:{timestamp}:",
    )
    signed = sign(record, key_id="key-1")
    text = f"{STAMP}123/v1/items%2F7"
    assert signed.header("Authorization") == f"ACME key-1:{STAMP}123:{over(text)}"
    assert signed.header("X-Timestamp") is None


def test_empty_path_and_body_are_signed_as_they_are_sent() -> None:
    request = HttpRequest("GET", "https://api.example")
    signed = sign(Hmac(), request)
    assert signed.header("X-Signature") == over(f"GET\n/\n{STAMP}\n{hashlib.sha256().hexdigest()}")


@pytest.mark.parametrize("tail", ["\r\nX-Injected: 1", "\n", "\0", "\ud800"])
def test_key_id_cannot_break_out_of_its_header(tail: str) -> None:
    for record in (Hmac(key_id_header="X-Key"), Hmac(prefix="{key_id}:"), Hmac(signed="key_id")):
        with pytest.raises(BadInput):
            sign(record, key_id="key" + tail)


def test_what_cannot_be_signed_is_refused_without_the_secret() -> None:
    class Streamed:
        length = None

        def open(self) -> Any:
            raise AssertionError

    refusals = [
        (Hmac(), evolve(REQUEST, body=Streamed()), SECRET, "body"),
        (Hmac(signed=("header:X-Missing",)), REQUEST, SECRET, "X-Missing"),
        (Hmac(key_id_header="X-Key"), REQUEST, SECRET, "key_id"),
        (Hmac(secret_encoding="base64"), REQUEST, "not-base64-at-all!", "secret"),
        (Hmac(secret_encoding="hex"), REQUEST, "not-hex-0123", "secret"),
        (Hmac(), REQUEST, "lone-\ud800-surrogate", "secret"),
    ]
    for record, request, secret, field in refusals:
        with pytest.raises(SigningError) as refused:
            sign(record, request, secret)
        assert refused.value.field == field
        assert secret not in str(refused.value)
    with pytest.raises(SigningError, match="PersonalToken"):
        key = SigningKey(secret=SecretStr(SECRET), auth=PersonalToken())
        HmacSigner().sign(REQUEST, key, SigningContext(NOW, bytes))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"signed": ()}, "signed"),
        ({"signed": ("method", "bodyhash")}, "bodyhash"),
        ({"signed": ("header:a b",)}, "header:a b"),
        ({"signed": ("timestamp",), "timestamp_header": None}, "timestamp_header"),
        ({"signed": ("nonce",)}, "nonce_header"),
        ({"signed": ("header:x-signature",)}, "signature itself"),
    ],
)
def test_record_that_no_receiver_could_check_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Hmac(**wrong)


def test_key_id_is_needed_where_the_record_sends_it_and_may_be_kept_elsewhere() -> None:
    flow = HmacFlow()
    assert flow.fields_for(Hmac()) == (("secret",), ("key_id",))
    assert flow.fields_for(Hmac(prefix="{key_id}:")) == (("key_id", "secret"), ())

    def complete(record: Hmac, **fields: str) -> TokenSet:
        tokens, requests = run(flow.complete(client_context(record), concealed(fields)))
        assert not requests
        return tokens

    tokens = complete(Hmac(), secret=SECRET, key_id="key-1")
    assert (tokens.token_type, tokens.access_token.reveal()) == ("hmac", SECRET)
    assert {name: value.reveal() for name, value in tokens.extra.items()} == {"key_id": "key-1"}
    with pytest.raises(BadInput, match="key_id is missing"):
        complete(Hmac(key_id_header="X-Key"), secret=SECRET)
    with pytest.raises(BadInput, match="secret is missing"):
        complete(Hmac(), key_id="key-1")
    with pytest.raises(BadInput, match="other is not a field"):
        complete(Hmac(), secret=SECRET, other="x")


def test_a_secret_is_neither_renewed_nor_given_back() -> None:
    credential = held(Hmac(), TokenSet(access_token=SecretStr(SECRET)))
    with pytest.raises(ReauthRequired):
        run(HmacFlow().refresh(client_context(Hmac()), credential))
    assert run(HmacFlow().revoke(client_context(Hmac()), credential)) == (False, [])
