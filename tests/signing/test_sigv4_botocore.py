"""AWS Signature Version 4 against botocore, which signs the same requests. P83."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from go_services_core.http import HttpRequest
from go_services_core.secret import SecretStr
from go_services_core.signing.sigv4 import AwsKeys, SigningKeys, SigningScope, presign, sign_headers

ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
DERIVE = SigningKeys()

TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from(" /.:+%&=;,'()*!~"), max_size=6)
SEGMENTS = st.lists(TEXT | st.sampled_from(["", ".", "..", "...", "a/b", "%2F", "a:b", "ä b", "~", "%"]), max_size=6)
PAIRS = st.lists(
    st.tuples(TEXT, TEXT) | st.sampled_from([("a", ""), ("a", "1"), ("A", "1"), ("ä", " "), ("", "")]), max_size=6
)
NAMES = st.sampled_from(
    ["X-One", "x-one", "X-Two", "x-amz-meta-a", "Content-Type", "User-Agent", "Expect", "TE", "Accept"]
)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from(" \t"), max_size=10)
"""Every white space but blank and tabulator is left out: botocore folds those of Unicode too, which servers do not."""
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
BODIES = st.none() | st.binary(max_size=20)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC))
TOKENS = st.none() | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
HOSTS = st.sampled_from(["a.example", "A.Example:8443", "127.0.0.1:80", "[::1]", "[::1]:8080", "a.example:443"])
REGIONS = st.sampled_from(["us-east-1", "eu-west-1"])
METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "patch"])


def path_of(segments: list[str]) -> str:
    return "".join("/" + quote(segment, safe="~") for segment in segments) or "/"


def botocore_signed(
    auth: type[SigV4Auth],
    request: HttpRequest,
    scope: SigningScope,
    token: str | None,
    *,
    params: list[tuple[str, str]] | None = None,
    **options: Any,
) -> AWSRequest:
    """The request as botocore signs it at that moment."""
    made = AWSRequest(method=request.method, url=request.url, data=request.body, params=params)
    for name, value in request.headers:
        made.headers.add_header(name, value)
    frozen = scope.now.replace(tzinfo=None)
    with patch("botocore.auth.get_current_datetime", lambda: frozen):
        auth(Credentials(ID, SECRET, token), scope.service, scope.region, **options).add_auth(made)
    return made


def keys(token: str | None) -> AwsKeys:
    return AwsKeys(
        access_key_id=ID,
        secret_access_key=SecretStr(SECRET),
        session_token=None if token is None else SecretStr(token),
    )


def joined(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


@pytest.mark.parametrize(("service", "auth"), [("execute-api", SigV4Auth), ("sts", SigV4Auth), ("s3", S3SigV4Auth)])
@given(
    method=METHODS, host=HOSTS, segments=SEGMENTS, pairs=PAIRS, headers=HEADERS, body=BODIES, now=MOMENTS,
    token=TOKENS, region=REGIONS, scheme=st.sampled_from(["https", "http"]),
)  # fmt: skip
@example("GET", "a.example", ["a:b", "c d", "%2F", "..", "", "e"], [("a", "+"), ("a", ""), ("a", "")], [], None,
         datetime(2026, 1, 1, tzinfo=UTC), "token", "us-east-1", "https")  # fmt: skip
def test_header_is_that_of_botocore(
    service: str,
    auth: type[SigV4Auth],
    method: str,
    host: str,
    segments: list[str],
    pairs: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    body: bytes | None,
    now: datetime,
    token: str | None,
    region: str,
    scheme: str,
) -> None:
    """botocore is told the parameters, so that its signature does not depend on how the URL writes them."""
    address = f"{scheme}://{host}{path_of(segments)}"
    scope = SigningScope(service=service, region=region, now=now)
    signed = sign_headers(
        HttpRequest(method, f"{address}?{joined(pairs)}", tuple(headers), body), keys(token), scope, derive=DERIVE
    )
    theirs = botocore_signed(
        auth, HttpRequest(method, address, tuple(headers), body), scope, token, params=pairs or None
    )
    for name in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-SHA256"):
        assert signed.header(name) == theirs.headers[name]


@pytest.mark.parametrize(
    ("service", "auth"), [("execute-api", SigV4QueryAuth), ("sts", SigV4QueryAuth), ("s3", S3SigV4QueryAuth)]
)
@given(
    method=METHODS, host=HOSTS, segments=SEGMENTS, pairs=PAIRS, headers=HEADERS, now=MOMENTS, token=TOKENS,
    region=REGIONS, expires=st.integers(1, 604800),
)  # fmt: skip
def test_presigned_url_is_that_of_botocore(
    service: str,
    auth: type[SigV4Auth],
    method: str,
    host: str,
    segments: list[str],
    pairs: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    now: datetime,
    token: str | None,
    region: str,
    expires: int,
) -> None:
    """botocore signs no repeated parameter here, moves the body into the URL, and sends the query anew."""
    single = list(dict(pairs).items())
    request = HttpRequest(method, f"https://{host}{path_of(segments)}?{joined(single)}", tuple(headers))
    scope = SigningScope(service=service, region=region, now=now)
    signed = presign(request, keys(token), scope, expires=expires, derive=DERIVE)
    theirs = botocore_signed(auth, request, scope, token, expires=expires)
    mine, other = (
        dict(parse_qsl(urlsplit(str(url)).query, keep_blank_values=True)) for url in (signed.url, theirs.url)
    )
    assert mine == other
    assert signed.url.partition("?")[0] == str(theirs.url).partition("?")[0]
    assert signed.headers == request.headers


@given(body=BODIES, segments=SEGMENTS, now=MOMENTS)
def test_unsigned_payload_is_that_of_botocore(body: bytes | None, segments: list[str], now: datetime) -> None:
    request = HttpRequest("PUT", f"https://a.example{path_of(segments)}", (), body)
    for service, auth in (("s3", S3SigV4Auth), ("execute-api", SigV4Auth)):
        scope = SigningScope(service=service, region="us-east-1", now=now)
        signed = sign_headers(request, keys(None), scope, unsigned_payload=True, derive=DERIVE)
        made = AWSRequest(method="PUT", url=request.url, data=body)
        made.context["payload_signing_enabled"] = False
        made.context["client_config"] = Config(s3={"payload_signing_enabled": False})
        with patch("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None)):
            auth(Credentials(ID, SECRET), service, "us-east-1").add_auth(made)
        assert signed.header("x-amz-content-sha256") == "UNSIGNED-PAYLOAD" == made.headers["x-amz-content-sha256"]
        assert signed.header("Authorization") == made.headers["Authorization"]
