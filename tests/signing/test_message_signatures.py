"""HTTP Message Signatures (RFC 9421): the RFC's examples, another implementation, and what is refused."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from attrs import evolve
from http_message_signatures.algorithms import HMAC_SHA256
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth.fields import concealed
from go_services_core.auth.http_signature import HttpSignatureFlow
from go_services_core.auth_specs import HttpSignature, PersonalToken
from go_services_core.errors import BadInput, ConfigError, SigningError
from go_services_core.http import HttpRequest
from go_services_core.protocols import SigningKey
from go_services_core.signing.message_signatures import HttpSignatureSigner
from go_services_core.signing.structured_fields import parse_dictionary

from ..auth.driving import client_context, run
from .message_requests import COMPONENTS, KEY_ID, context, key_of, requests, verified

APRIL = datetime.fromtimestamp(1618884473, UTC)
DIGEST = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
REQUEST = HttpRequest(
    "POST",
    "https://example.com/foo?param=Value&Pet=dog",
    (("Date", "Tue, 20 Apr 2021 02:07:55 GMT"), ("Content-Type", "application/json")),
    b'{"hello": "world"}',
)
"""``test-request`` of RFC 9421 §B.2, without what the signer adds."""
SECRET = "shared-s3cret-of-the-warehouse"
MAC = HttpSignature(algorithm="hmac-sha256")


def sign(
    record: HttpSignature = MAC, request: HttpRequest = REQUEST, secret: str = SECRET, key_id: str | None = KEY_ID
) -> HttpRequest:
    return HttpSignatureSigner().sign(request, key_of(record, secret, key_id), context(APRIL))


def over(*lines: str) -> str:
    return b64encode(hmac.new(SECRET.encode(), "\n".join(lines).encode(), sha256).digest()).decode()


def values(request: HttpRequest, *covered: str, **record: Any) -> list[str]:
    """What is signed for each component: the signature proves that the lines are these."""
    signed = sign(HttpSignature(algorithm="hmac-sha256", covered=covered, covered_with_body=(), **record), request)
    described = (signed.header("Signature-Input") or "").removeprefix("sig1=")
    base = _BASES.pop()
    assert base.endswith(f'"@signature-params": {described}')
    assert signed.header("Signature") == f"sig1=:{over(base)}:"
    return [line.partition(": ")[2] for line in base.split("\n")[:-1]]


_BASES: list[str] = []


@pytest.fixture(autouse=True)
def _bases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what was signed."""
    import go_services_core.signing.message_signatures as module

    def kept(*arguments: Any, **named: Any) -> bytes:
        base = build(*arguments, **named)
        _BASES.append(base.decode())
        return base

    build = module.signature_base
    monkeypatch.setattr(module, "signature_base", kept)


# --- the RFC's own ---------------------------------------------------------------------------------------------------


def test_signature_is_that_of_rfc_9421_b_2_5() -> None:
    secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
    record = HttpSignature(
        algorithm="hmac-sha256", covered=("date", "@authority", "content-type"), covered_with_body=(),
        label="sig-b25", secret_encoding="base64",
    )  # fmt: skip
    signed = sign(record, REQUEST, secret, "test-shared-secret")
    assert signed.header("Signature-Input") == (
        'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    )
    assert signed.header("Signature") == "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"
    hexadecimal = evolve(record, secret_encoding="hex")
    assert sign(hexadecimal, REQUEST, b64decode(secret).hex(), "test-shared-secret") == signed


def test_structured_fields_are_those_of_rfc_9421_2_1() -> None:
    spaced = HttpRequest("GET", "https://a.example/", (("Example-Dict", " a=1,    b=2;x=1;y=2,   c=(a   b   c)"),))
    kinds = {"structured": {"example-dict": "dictionary"}}
    assert values(spaced, "example-dict", "example-dict;sf", **kinds) == [
        "a=1,    b=2;x=1;y=2,   c=(a   b   c)", "a=1, b=2;x=1;y=2, c=(a b c)",
    ]  # fmt: skip
    request = HttpRequest("GET", "https://a.example/", (("Example-Dict", "  a=1, b=2;x=1;y=2, c=(a   b    c), d"),))
    assert values(request, *(f'example-dict;key="{name}"' for name in "adbc")) == ["1", "?1", "2;x=1;y=2", "(a b c)"]
    lines = (("Example-Header", "value, with, lots"), ("Example-Header", "of, commas"))
    assert values(evolve(request, headers=lines), "example-header", "example-header;bs") == [
        "value, with, lots, of, commas", ":dmFsdWUsIHdpdGgsIGxvdHM=:, :b2YsIGNvbW1hcw==:",
    ]  # fmt: skip


def test_derived_components_are_those_of_rfc_9421_2_2() -> None:
    request = HttpRequest("POST", "https://www.Example.com:443/path?param=value")
    assert values(request, "@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query") == [
        "POST", "https://www.example.com/path?param=value", "www.example.com", "https", "/path?param=value", "/path",
        "?param=value",
    ]  # fmt: skip
    bare = evolve(request, url="http://example.com:8080#part")
    assert values(bare, "@target-uri", "@authority", "@request-target", "@path", "@query") == [
        "http://example.com:8080/", "example.com:8080", "/", "/", "?",
    ]  # fmt: skip
    assert values(evolve(request, url="https://example.com/?"), "@request-target", "@query") == ["/?", "?"]


def test_query_parameters_are_those_of_rfc_9421_2_2_8() -> None:
    url = (
        "https://www.example.com/parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace"
        "&fa%C3%A7ade%22%3A%20=something&Pet=dog"
    )
    names = ("var", "bar", "fa%C3%A7ade%22%3A%20", "Pet")
    assert values(HttpRequest("GET", url), *(f'@query-param;name="{name}"' for name in names)) == [
        "this%20is%20a%20big%0Amultiline%20value", "with%20plus%20whitespace", "something", "dog",
    ]  # fmt: skip


# --- another implementation ------------------------------------------------------------------------------------------


@given(
    request=requests(), covered=st.lists(st.sampled_from(COMPONENTS), min_size=1, unique=True),
    parameters=st.permutations(["created", "keyid", "alg", "nonce", "tag", "expires"]),
)  # fmt: skip
def test_another_implementation_accepts_the_signature(
    request: HttpRequest, covered: list[str], parameters: list[str]
) -> None:
    record = HttpSignature(
        algorithm="hmac-sha256",
        covered=covered,
        covered_with_body=(),
        parameters=parameters,
        tag='the "app"',
        lifetime=36000,
    )
    signed = HttpSignatureSigner().sign(request, key_of(record, SECRET), context())
    body = request.body or b""
    assert isinstance(body, bytes)
    checked = body if "content-digest" in covered else None
    read = verified(signed, HMAC_SHA256, SECRET.encode(), checked)
    assert [name.replace('"', "").partition(";")[0] for name in read][:-1] == [
        name.partition(";")[0] for name in covered
    ]
    assert read['"@signature-params"'] == (signed.header("Signature-Input") or "").removeprefix("sig1=")


# --- what is covered -------------------------------------------------------------------------------------------------


def test_default_covers_method_target_and_body() -> None:
    signed = sign()
    assert signed.header("Signature-Input") == (
        'sig1=("@method" "@target-uri" "content-digest");created=1618884473;keyid="key \\"one\\"\\\\"'
    )
    assert signed.header("Content-Digest") == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    found = {sign(request=other).header("Signature") for other in (
        REQUEST, evolve(REQUEST, method="PUT"), evolve(REQUEST, url=REQUEST.url + "x"), evolve(REQUEST, body=b"{}"),
        evolve(REQUEST, body=None),
    )}  # fmt: skip
    assert len(found) == 5


@pytest.mark.parametrize("body", [None, b""])
def test_request_without_a_body_has_no_digest_unless_that_is_covered(body: bytes | None) -> None:
    request = evolve(REQUEST, method="GET", body=body)
    assert sign(request=request).header("Content-Digest") is None
    always = sign(HttpSignature(algorithm="hmac-sha256", covered="content-digest", covered_with_body=()), request)
    assert always.header("Content-Digest") == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


def test_digest_is_of_the_final_body_whatever_the_request_said() -> None:
    record = HttpSignature(
        algorithm="hmac-sha256", digest="sha-512", covered_with_body=("content-digest", "content-length")
    )
    lying = REQUEST.with_header("content-digest", "sha-512=:AAAA:")
    signed = sign(record, lying)
    assert signed == sign(record)
    assert signed.header("Content-Digest") == DIGEST
    assert signed.header("Content-Length") == "18"


class Streamed:
    length = 3

    async def open(self) -> AsyncIterator[bytes]:
        yield b"abc"


def test_streamed_body_is_signed_by_the_digest_that_it_came_with_or_refused() -> None:
    streamed = evolve(REQUEST, body=Streamed())
    given_ = streamed.with_header("Content-Digest", DIGEST)
    assert sign(request=given_).header("Content-Digest") == DIGEST
    assert sign(request=given_).body is streamed.body
    for record in (MAC, evolve(MAC, covered_with_body="content-length")):
        with pytest.raises(SigningError, match="streamed") as refused:
            sign(record, streamed)
        assert refused.value.field == "body"


def test_nonce_tag_and_expiry_stand_where_the_record_puts_them() -> None:
    record = evolve(MAC, parameters=("tag", "nonce", "expires", "alg", "created"), tag="app", lifetime=90.5, label="*x")
    nonce = context().random(16).hex()
    assert (sign(record, key_id=None).header("Signature-Input") or "").partition(")")[2] == (
        f';tag="app";nonce="{nonce}";expires=1618884563;alg="hmac-sha256";created=1618884473'
    )


def test_other_signatures_stay_and_ones_own_is_replaced() -> None:
    other = 'proxy=("@method");created=1'
    request = REQUEST.with_header("Signature-Input", other + ", sig1=()").with_header(
        "signature", "proxy=:AAAA:, sig1=:BBBB:"
    )
    record = evolve(MAC, covered=("@method", 'signature;key="proxy"'))
    signed = sign(record, request)
    inputs, signatures = (parse_dictionary(signed.header(name) or "") for name in ("Signature-Input", "Signature"))
    assert list(inputs) == list(signatures) == ["proxy", "sig1"]
    assert signatures["proxy"].value == b"\x00\x00\x00"
    assert sign(record, signed) == signed


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "covered", "field", "message"),
    [
        (REQUEST, "x-none", "x-none", "request has none"),
        (REQUEST.with_header("X-A", "ä"), "x-a", "x-a", "not ASCII"),
        (REQUEST.with_header("X-A", "b=1"), 'x-a;key="a"', "x-a", "no member 'a'"),
        (REQUEST.with_header("X-A", "(("), 'x-a;key="a"', "x-a", "structured field"),
        (REQUEST.with_header("Priority", "u=,"), "priority;sf", "priority", "structured field"),
        (REQUEST, '@query-param;name="none"', "url", "none of that name"),
        (evolve(REQUEST, url="https://a.example/?a=1&%61=2"), '@query-param;name="a"', "url", "more than once"),
        (evolve(REQUEST, url="https://a.example/ä"), "@path", "url", "percent-encoded"),
        (evolve(REQUEST, url="https://u@a.example/"), "@authority", "url", "user information"),
        (evolve(REQUEST, url="https://a.example:x/"), "@authority", "url", "usable host"),
        (REQUEST.with_header("Signature", "not a signature"), "@path", "signature", "none of RFC 9421"),
    ],
)
def test_component_that_a_request_lacks_is_refused_by_name(
    request_: HttpRequest, covered: str, field: str, message: str
) -> None:
    with pytest.raises(SigningError, match=message) as refused:
        sign(evolve(MAC, covered=covered), request_)
    assert refused.value.field == field


def test_header_that_is_not_ascii_can_be_signed_as_bytes() -> None:
    assert values(REQUEST.with_header("X-A", "ä"), "x-a;bs") == [":w6Q=:"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"covered": "@status"}, "a request has only"),
        ({"covered": "@method;req"}, "only @query-param"),
        ({"covered": "@query-param"}, "only @query-param"),
        ({"covered": "x-a;req"}, "for answers and trailers"),
        ({"covered": "x-a;tr"}, "for answers and trailers"),
        ({"covered": "x-a;other"}, "takes sf, bs and key"),
        ({"covered": "x-a;key"}, "takes sf, bs and key"),
        ({"covered": 'x-a;sf="1"'}, "takes sf, bs and key"),
        ({"covered": 'x-a;bs;key="a"'}, "neither sf nor key"),
        ({"covered": "x-a;sf;sf"}, "a parameter twice"),
        ({"covered": "x-a;sf"}, "what kind of field"),
        ({"covered": "X-A"}, "takes components"),
        ({"covered": "x-a; sf"}, "takes components"),
        ({"covered": "x\na"}, "takes components"),
        ({"covered": "signature"}, "changes with the signature"),
        ({"covered": ("x-a", "x-a")}, "twice"),
        ({"covered": ("content-digest",)}, "covered has already"),
        ({"covered": (), "covered_with_body": ()}, "nothing that is signed"),
        ({"parameters": ("created", "created")}, "each once"),
        ({"parameters": ("keyid", "other")}, "each once"),
        ({"parameters": ("expires",)}, "lifetime"),
        ({"lifetime": 60}, "lifetime"),
        ({"tag": "x"}, "tag"),
        ({"tag": "x\n", "parameters": ("tag",)}, "tag"),
        ({"label": "Sig"}, "label"),
        ({"algorithm": "none"}, "algorithm"),
        ({"digest": "md5"}, "digest"),
        ({"structured": {"x-a": "text"}}, "structured|text"),
    ],
)
def test_record_that_cannot_be_meant_is_refused(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HttpSignature(**record)


def test_signer_needs_its_own_record_and_algorithm() -> None:
    with pytest.raises(SigningError, match="HttpSignature record"):
        HttpSignatureSigner().sign(
            REQUEST, SigningKey(secret=key_of(MAC, SECRET).secret, auth=PersonalToken()), context()
        )
    with pytest.raises(SigningError, match="cannot make ed25519"):
        sign(HttpSignature())
    assert (MAC.signer, HttpSignature().signer) == ("http_signature", "http_signature_key")


@pytest.mark.parametrize("key_id", [None, "a\nb", "ä"])
def test_key_id_that_cannot_be_sent_is_refused(key_id: str | None) -> None:
    with pytest.raises(SigningError) as refused:
        sign(key_id=key_id)
    assert refused.value.field == "key_id"


def test_only_a_signature_with_a_time_is_dated() -> None:
    signer = HttpSignatureSigner()
    assert signer.is_dated(MAC)
    assert not signer.is_dated(evolve(MAC, parameters=("keyid", "nonce")))


# --- connecting ------------------------------------------------------------------------------------------------------


def test_secret_and_key_id_are_what_is_typed() -> None:
    flow, ctx = HttpSignatureFlow(), client_context(MAC)
    assert flow.fields_for(MAC) == (("key_id", "secret"), ())
    assert flow.fields_for(evolve(MAC, parameters=("created",))) == (("secret",), ("key_id",))
    assert flow.fields_for(HttpSignature()) == (("key_id", "private_key"), ())
    tokens, _ = run(flow.complete(ctx, concealed({"key_id": "one", "secret": SECRET})))
    assert (tokens.access_token.reveal(), tokens.extra["key_id"].reveal(), tokens.token_type) == (
        SECRET,
        "one",
        "http_signature",
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"secret": SECRET}, "key_id"),
        ({"key_id": "one"}, "secret"),
        ({"key_id": "one", "secret": SECRET, "private_key": "x"}, "private_key"),
        ({"key_id": "onä", "secret": SECRET}, "key_id"),
        ({"key_id": "one", "secret": "not base64!"}, "secret"),
    ],
)
def test_what_cannot_sign_is_refused_when_it_is_typed(fields: dict[str, str], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        run(HttpSignatureFlow().complete(client_context(evolve(MAC, secret_encoding="base64")), concealed(fields)))
    assert refused.value.field == field
    assert SECRET not in str(refused.value)


def test_asymmetric_key_needs_the_plugin() -> None:
    fields = concealed({"key_id": "one", "private_key": "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"})
    with pytest.raises(ConfigError, match="auth-jwt"):
        run(HttpSignatureFlow().complete(client_context(HttpSignature()), fields))
