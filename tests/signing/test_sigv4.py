"""AWS Signature Version 4: what is signed, what is sent, what is refused. P83."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth_specs import ApiKey, AwsSigV4
from go_services_core.errors import BadInput, ServicesError, SigningError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.sigv4 import (
    AwsKeys,
    SigningKeys,
    SigningScope,
    SigV4Signer,
    derive_key,
    presign,
    sign_headers,
)

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
RECORD = AwsSigV4(service="execute-api", region="eu-west-1")
S3 = AwsSigV4(service="s3", region="us-east-1")
BUCKET = "https://examplebucket.s3.amazonaws.com"


def key(record: Any = RECORD, secret: str = SECRET, **extra: str) -> SigningKey:
    """A key of that record; ``extra`` replaces the access key id, and what is blank is left out."""
    held = {name: SecretStr(value) for name, value in {"access_key_id": "AKIDEXAMPLE", **extra}.items() if value}
    tokens = TokenSet(access_token=SecretStr(secret), token_type="aws_sigv4", extra=held)
    credential = Credential(connection_id="c", version=1, auth_kind="aws_sigv4", tokens=tokens)
    return SigningKey(secret=tokens.access_token, auth=record, credential=credential)


def sign(request: HttpRequest, signing_key: SigningKey | None = None, now: datetime = NOW) -> HttpRequest:
    return SigV4Signer().sign(request, signing_key or key(), SigningContext(now, Random(0).randbytes))


def get(url: str = "https://api.example/items", *headers: tuple[str, str]) -> HttpRequest:
    return HttpRequest("GET", url, headers)


def authorization(request: HttpRequest) -> dict[str, str]:
    """The parts of the one ``Authorization`` header."""
    (value,) = [value for name, value in request.headers if name.lower() == "authorization"]
    algorithm, _, rest = value.partition(" ")
    assert algorithm == "AWS4-HMAC-SHA256"
    return dict(part.split("=", 1) for part in rest.split(", "))


def signature(url: str, **changes: Any) -> str:
    return authorization(sign(get(url), key(evolve(RECORD, **changes))))["Signature"]


def query_of(request: HttpRequest) -> dict[str, str]:
    pairs = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


# --- path and query --------------------------------------------------------------------------------------------------


def test_path_of_other_services_is_normalised_before_it_is_signed() -> None:
    plain = signature("https://api.example/a/c/")
    for path in ("/a/./c/", "/a/b/../c/", "//a///c/", "/../a/c/", "/a/c//"):
        assert signature(f"https://api.example{path}") == plain, path
    for path in ("/a/c", "/A/c/", "/a/%2e/c/", "/a%2Fc/"):
        assert signature(f"https://api.example{path}") != plain, path


def test_path_of_s3_is_signed_segment_by_segment() -> None:
    """An S3 key may hold ``//`` and ``..``: each is another object."""
    paths = ["/a/c", "/a/c/", "/a//c", "/a/./c", "/a/b/../c", "/a/../c", "/a%2Fc", "/a%252Fc"]
    assert len({signature(BUCKET + path, service="s3") for path in paths}) == len(paths)


@pytest.mark.parametrize("same", [("/a:b", "/a%3Ab", "/a%3ab"), ("/%7Ea", "/~a", "/%7ea"), ("/(1)*", "/%281%29%2A")])
def test_s3_encodes_each_byte_of_a_key_once_however_it_was_written(same: tuple[str, ...]) -> None:
    assert len({signature(BUCKET + path, service="s3") for path in same}) == 1


@pytest.mark.parametrize("service", ["s3", "execute-api"])
def test_query_is_signed_as_it_is_read(service: str) -> None:
    url = "https://api.example/?a=%20%2F&b=&b=1&c%C3%A4=%7E"
    for query in ("b=1&b&a=+%2f&&c%c3%a4=~", "&c%C3%A4=%7e&b=1&a=%20/&b="):
        assert signature(f"https://api.example/?{query}", service=service) == signature(url, service=service), query
    for query in ("a=%20%2F&b=&b=1&b=1&c%C3%A4=~", "a=%2B%2F&b=&b=1&c%C3%A4=~", "a=%20%2F&b=1&c%C3%A4=~"):
        assert signature(f"https://api.example/?{query}", service=service) != signature(url, service=service), query


def test_parameters_are_sorted_after_they_are_encoded() -> None:
    """``%`` sorts before every letter, and a name before the same name with something after it."""
    assert signature("https://api.example/?a-=1&a=2&%C3%A4=3&a=1") == signature(
        "https://api.example/?%C3%A4=3&a=1&a=2&a-=1"
    )


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("baggage", "Connection", "Expect", "keep-alive", "Proxy-Authenticate", "Proxy-Authorization", "TE"),
        *("traceparent", "tracestate", "Trailer", "Transfer-Encoding", "Upgrade", "USER-AGENT", "X-Amzn-Trace-Id"),
    ],
)
def test_header_that_changes_on_the_way_is_sent_and_not_signed(name: str) -> None:
    with_it = sign(get("https://api.example/", (name, "one")))
    assert with_it.header(name) == "one"
    assert authorization(with_it) == authorization(sign(get("https://api.example/")))


def test_every_other_header_is_signed_and_sent_as_it_was() -> None:
    headers = (("X-B", "2"), ("content-length", "2"), ("Accept", " a  b\t c "), ("X-B", "1"), ("Content-Type", "ä"))
    request = HttpRequest("POST", "https://api.example/", headers, b"{}", 3.0, 1000)
    signed = sign(request)
    assert signed.headers[:5] == headers
    assert [name for name, _ in signed.headers[5:]] == ["X-Amz-Date", "Authorization"]
    names = authorization(signed)["SignedHeaders"]
    assert names == "accept;content-length;content-type;host;x-amz-date;x-b"
    assert (signed.method, signed.url, signed.body, signed.timeout, signed.max_body) == (
        "POST",
        "https://api.example/",
        b"{}",
        3.0,
        1000,
    )
    folded = (("accept", "a b c"), ("x-b", "2,1"), ("Content-Length", "2"), ("Content-Type", "ä"))
    assert authorization(sign(evolve(request, headers=folded))) == authorization(signed)
    swapped = (headers[3], *headers[1:3], headers[0], headers[4])
    assert authorization(sign(evolve(request, headers=swapped)))["Signature"] != authorization(signed)["Signature"]


@pytest.mark.parametrize("mode", ["header", "query"])
@pytest.mark.parametrize(
    "header", [("X-A", "1\r\nX-B: 2"), ("X-A", "1\n"), ("X-A\nX-B", "1"), ("X A", "1"), ("X:", "1")]
)
def test_header_that_breaks_out_of_its_line_is_refused(mode: Any, header: tuple[str, str]) -> None:
    """The canonical request has a line for each header: one with a line break would forge another."""
    with pytest.raises(BadInput):
        sign(get("https://api.example/", header), key(evolve(RECORD, mode=mode)))


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://API.example:443/", "https://api.example/"),
        ("http://api.example:80/", "http://api.example/"),
        ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]/"),
    ],
)
def test_host_is_that_of_the_url_without_the_port_of_its_scheme(url: str, same: str) -> None:
    assert signature(url) == signature(same)


def test_other_port_is_part_of_the_host() -> None:
    urls = ["https://a.example/", "https://a.example:80/", "http://a.example:443/", "https://b.example/"]
    assert len({signature(url) for url in urls}) == 4


def test_host_header_may_say_what_the_url_says_and_nothing_else() -> None:
    given = sign(get("https://api.example:8443/", ("host", "API.example:8443")))
    assert authorization(given) == authorization(sign(get("https://api.example:8443/")))
    assert [name.lower() for name, _ in given.headers].count("host") == 1
    for other in ("api.example", "evil.example", "api.example:8443,evil.example"):
        with pytest.raises(SigningError) as caught:
            sign(get("https://api.example:8443/", ("Host", other)))
        assert caught.value.field == "Host"
    with pytest.raises(SigningError):
        sign(get("https://api.example:8443/", ("Host", "api.example:8443"), ("Host", "evil.example")))


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example/a b",
        "https://api.example/ä",
        "https://api.example/\n",
        "https://user:pw@api.example/",
        "https://api.example\\@evil.example/",
        "https://api.example\\.evil.example/",
        "ftp://api.example/",
        "https:///path",
        "/path",
        "https://api.example:port/",
        "https://[::1/",
    ],
)
@pytest.mark.parametrize("mode", ["header", "query"])
def test_url_that_is_not_final_is_refused(url: str, mode: Any) -> None:
    with pytest.raises(SigningError) as caught:
        sign(get(url), key(evolve(RECORD, mode=mode)))
    assert caught.value.field == "url"
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("value", ["Bearer token-1", "", "AWS4-HMAC-SHA256", "AWS AKID:abc", "aws4-hmac-sha256 x"])
@pytest.mark.parametrize("mode", ["header", "query"])
def test_other_credential_in_the_request_is_refused(value: str, mode: Any) -> None:
    with pytest.raises(SigningError) as caught:
        sign(get("https://api.example/", ("authorization", value)), key(evolve(RECORD, mode=mode)))
    assert caught.value.field == "Authorization"
    assert "token-1" not in str(caught.value)


def test_request_is_never_signed_in_its_query_and_in_a_header() -> None:
    presigned = sign(get(), key(evolve(RECORD, mode="query")))
    with pytest.raises(SigningError, match="already"):
        sign(presigned)
    with pytest.raises(SigningError) as caught:
        sign(sign(get()), key(evolve(RECORD, mode="query")))
    assert caught.value.field == "Authorization"


# --- what is added ---------------------------------------------------------------------------------------------------


def test_session_token_is_sent_and_signed() -> None:
    signed = sign(get(), key(session_token="token/1+2=="))
    assert signed.header("X-Amz-Security-Token") == "token/1+2=="
    assert authorization(signed)["SignedHeaders"] == "host;x-amz-date;x-amz-security-token"
    other = sign(get(), key(session_token="token/1+2=3"))
    assert authorization(signed)["Signature"] != authorization(other)["Signature"]


def test_what_an_earlier_signature_added_is_gone() -> None:
    first = sign(get(BUCKET), key(S3, session_token="token-1", access_token="at-1"))
    assert sign(first, key()) == sign(get(BUCKET), key())


def test_session_token_is_signed_in_the_query() -> None:
    signed = sign(get(), key(evolve(RECORD, mode="query"), session_token="token/1+2=="))
    assert query_of(signed)["X-Amz-Security-Token"] == "token/1+2=="
    other = sign(get(), key(evolve(RECORD, mode="query"), session_token="token/1+2=3"))
    assert query_of(signed)["X-Amz-Signature"] != query_of(other)["X-Amz-Signature"]


@pytest.mark.parametrize("mode", ["header", "query"])
def test_access_token_is_sent_and_signed_where_the_record_has_a_header_for_it(mode: Any) -> None:
    record = evolve(RECORD, mode=mode, access_token_header="x-amz-access-token")
    signed = sign(get(), key(record, access_token="Atza|1"))
    assert signed.header("X-Amz-Access-Token") == "Atza|1"
    names = authorization(signed)["SignedHeaders"] if mode == "header" else query_of(signed)["X-Amz-SignedHeaders"]
    assert "x-amz-access-token" in names.split(";")
    assert sign(get(), key(record)).header("x-amz-access-token") is None
    plain = sign(get(), key(evolve(record, access_token_header=None), access_token="Atza|1"))
    assert plain.header("x-amz-access-token") is None
    with pytest.raises(BadInput) as caught:
        sign(get(), key(record, access_token="Atza|1\r\nX-Evil: 1"))
    assert "Atza" not in str(caught.value)


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    ("changes", "body", "expected"),
    [
        ({"service": "s3"}, None, EMPTY),
        ({"service": "s3express"}, b"", EMPTY),
        ({"service": "aoss"}, b"{}", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
        ({"service": "s3", "unsigned_payload": True}, b"{}", "UNSIGNED-PAYLOAD"),
        ({"unsigned_payload": True}, b"{}", "UNSIGNED-PAYLOAD"),
        ({}, b"{}", None),
        ({"service": "s3", "mode": "query"}, b"{}", None),
        ({"mode": "query"}, b"{}", None),
        ({"mode": "query", "unsigned_payload": True}, b"{}", "UNSIGNED-PAYLOAD"),
    ],
)
def test_payload_hash_is_sent_where_the_service_needs_it(
    changes: dict[str, Any], body: bytes | None, expected: str | None
) -> None:
    request = HttpRequest("PUT", BUCKET, (("x-amz-content-sha256", "stale"),), body)
    assert sign(request, key(evolve(RECORD, **changes))).header("x-amz-content-sha256") == expected


@pytest.mark.parametrize(
    ("changes", "is_signed"),
    [
        ({}, True),
        ({"service": "s3"}, True),
        ({"mode": "query"}, True),
        ({"service": "s3", "mode": "query"}, False),
        ({"unsigned_payload": True}, False),
        ({"mode": "query", "unsigned_payload": True}, False),
    ],
)
def test_body_is_part_of_the_signature_unless_the_record_or_s3_leaves_it_out(
    changes: dict[str, Any], is_signed: bool
) -> None:
    one, two = (sign(HttpRequest("PUT", BUCKET, (), body), key(evolve(RECORD, **changes))) for body in (b"one", b"two"))
    assert ((one.url, one.headers) != (two.url, two.headers)) is is_signed


class Streamed:
    length = 3

    async def open(self) -> AsyncIterator[bytes]:
        yield b"abc"


def test_streamed_body_is_signed_only_without_its_hash() -> None:
    request = HttpRequest("PUT", BUCKET, (), Streamed())
    with pytest.raises(SigningError, match="unsigned_payload") as caught:
        sign(request)
    assert caught.value.field == "body"
    for record in (evolve(S3, unsigned_payload=True), evolve(S3, mode="query")):
        assert sign(request, key(record)).body is request.body


def test_presigned_url_works_for_five_minutes_unless_the_record_says_otherwise() -> None:
    assert query_of(sign(get(), key(evolve(RECORD, mode="query"))))["X-Amz-Expires"] == "300"
    assert query_of(sign(get(), key(evolve(RECORD, mode="query", expires=604800))))["X-Amz-Expires"] == "604800"


@pytest.mark.parametrize("expires", [0, -1, 604801, 300.0, True, "300"])
def test_presigned_url_works_for_seven_days_at_most(expires: Any) -> None:
    keys = AwsKeys(access_key_id="AKID", secret_access_key=SecretStr(SECRET))
    with pytest.raises(SigningError) as caught:
        presign(get(), keys, SigningScope(service="s3", region="us-east-1", now=NOW), expires=expires)
    assert caught.value.field == "auth.expires"
    if expires is not True:
        with pytest.raises((ValueError, TypeError)):
            AwsSigV4(service="s3", region="us-east-1", expires=expires)


def test_record_takes_no_third_mode() -> None:
    with pytest.raises(ValueError, match="mode"):
        AwsSigV4(service="s3", region="us-east-1", mode="body")  # type: ignore[arg-type]


def test_parameters_stand_after_the_query_and_before_the_fragment() -> None:
    record = evolve(RECORD, mode="query")
    for url, start in [
        ("https://a.example/x?b=2&a=+#part?y", "https://a.example/x?b=2&a=+&X-Amz-Algorithm="),
        ("https://a.example/x?", "https://a.example/x?X-Amz-Algorithm="),
        ("https://a.example/x?&&a&", "https://a.example/x?&&a&&X-Amz-Algorithm="),
        ("https://a.example", "https://a.example?X-Amz-Algorithm="),
    ]:
        signed = sign(get(url), key(record))
        assert signed.url.startswith(start)
        assert signed.url.endswith(url.partition("#")[2])
        assert signed.header("Authorization") is None
    assert query_of(sign(get("https://a.example/x?b=2#part"), key(record))) == query_of(
        sign(get("https://a.example/x?b=2"), key(record))
    )


def test_presigned_url_is_signed_anew_with_its_own_parameters_replaced() -> None:
    record = evolve(RECORD, mode="query")
    plain = get("https://a.example/x?b=2&b=1")
    old = sign(plain, key(record, session_token="token-1"), NOW - timedelta(days=1))
    assert sign(old, key(record)) == sign(plain, key(record))


def test_moment_is_written_in_utc_whatever_its_zone() -> None:
    moment = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    signed = sign(get(), now=moment)
    assert signed.header("X-Amz-Date") == "20251231T233000Z"
    assert authorization(signed)["Credential"] == "AKIDEXAMPLE/20251231/eu-west-1/execute-api/aws4_request"


# --- keys ------------------------------------------------------------------------------------------------------------


def test_signing_key_is_derived_once_for_secret_day_region_and_service(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[str] = []

    def counting(secret: SecretStr, scope: str) -> bytes:
        derived.append(scope)
        return derive_key(secret, scope)

    monkeypatch.setattr("go_services_core.signing.sigv4.derive_key", counting)
    signer = SigV4Signer()
    variants = [
        (key(), NOW),
        (key(secret="another"), NOW),
        (key(evolve(RECORD, region="eu-west-2")), NOW),
        (key(evolve(RECORD, service="ses")), NOW),
        (key(), NOW + timedelta(days=1)),
    ]
    seen = set()
    for _ in range(3):
        for signing_key, now in variants:
            for hours in (0, 11):
                context = SigningContext(now + timedelta(hours=hours), Random(0).randbytes)
                seen.add(authorization(signer.sign(get(), signing_key, context))["Signature"])
    assert len(derived) == 5
    assert len(seen) == 10


def test_remembered_keys_are_few_and_no_secret_is_among_them() -> None:
    remembered = SigningKeys()
    for number in range(1000):
        secret = SecretStr(f"secret-access-key-{number}")
        assert remembered(secret, "20260101/r/s/aws4_request") == derive_key(secret, "20260101/r/s/aws4_request")
    assert len(remembered._keys) == 256
    assert "secret-access-key" not in repr(vars(remembered))
    assert not any(b"secret-access-key" in name for name, _ in remembered._keys)


def test_signed_request_says_nothing_of_the_secret() -> None:
    for mode in ("header", "query"):
        signed = sign(get(), key(evolve(RECORD, mode=mode)))
        assert SECRET not in f"{signed.url} {signed.headers}"


@pytest.mark.parametrize("id", ["AKID/20150830", "AKID, Signature=0", "AKID\r\nX: 1", "AKID ", "ÄKID", "AKID\ud800"])
@pytest.mark.parametrize("mode", ["header", "query"])
def test_access_key_id_cannot_forge_the_scope(id: str, mode: Any) -> None:
    with pytest.raises(SigningError) as caught:
        sign(get(), key(evolve(RECORD, mode=mode), access_key_id=id))
    assert caught.value.field == "access_key_id"
    assert id not in str(caught.value)


def test_access_key_id_is_needed() -> None:
    with pytest.raises(SigningError) as caught:
        sign(get(), key(access_key_id=""))
    assert caught.value.field == "access_key_id"
    with pytest.raises(SigningError):
        sign(get(), SigningKey(secret=SecretStr(SECRET), auth=RECORD))


@pytest.mark.parametrize("token", ["a b", "a\r\nX: 1", "ä", "\ud800"])
@pytest.mark.parametrize("mode", ["header", "query"])
def test_session_token_that_is_none_is_refused(token: str, mode: Any) -> None:
    with pytest.raises(SigningError) as caught:
        sign(get(), key(evolve(RECORD, mode=mode), session_token=token))
    assert caught.value.field == "session_token"


@pytest.mark.parametrize(
    ("field", "value"), [("region", "{region}"), ("region", ""), ("service", "s3/x"), ("service", "ä")]
)
def test_scope_that_aws_could_not_have_is_refused(field: str, value: str) -> None:
    with pytest.raises(SigningError) as caught:
        sign(get(), key(evolve(RECORD, **{field: value})))
    assert caught.value.field == f"auth.{field}"


def test_signer_needs_its_own_record() -> None:
    with pytest.raises(SigningError, match="ApiKey"):
        sign(get(), key(ApiKey()))


@given(
    secret=st.text(ANY, max_size=20),
    token=st.text(ANY, max_size=20),
    id=st.text(ANY, max_size=20),
    url=st.text(ANY, max_size=20),
    header=st.tuples(st.text(ANY, max_size=5), st.text(ANY, max_size=20)),
    mode=st.sampled_from(["header", "query"]),
)
def test_nothing_makes_the_signer_fail_untyped(
    secret: str, token: str, id: str, url: str, header: tuple[str, str], mode: Any
) -> None:
    request = HttpRequest("GET", f"https://api.example/{url}", (header,))
    try:
        signed = sign(request, key(evolve(RECORD, mode=mode), secret, session_token=token, access_key_id=id))
    except ServicesError:
        return
    assert request == HttpRequest("GET", f"https://api.example/{url}", (header,))
    for text in (signed.url, *(part for pair in signed.headers for part in pair)):
        assert not set(text) & set("\r\n\0")


def test_pure_function_and_signer_agree() -> None:
    keys = AwsKeys(access_key_id="AKIDEXAMPLE", secret_access_key=SecretStr(SECRET))
    scope = SigningScope(service="execute-api", region="eu-west-1", now=NOW)
    assert sign_headers(get(), keys, scope) == sign(get())
    assert presign(get(), keys, scope) == sign(get(), key(evolve(RECORD, mode="query")))
    assert SECRET not in repr(keys)
