"""AWS Signature Version 4 by AWS's own examples. P83."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from go_services_core.http import HttpRequest
from go_services_core.secret import SecretStr
from go_services_core.signing.sigv4 import AwsKeys, SigningScope, derive_key, presign, sign_headers

NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SECRET = SecretStr("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
KEYS = AwsKeys(access_key_id="AKIDEXAMPLE", secret_access_key=SECRET)
UNRESERVED = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def get(url: str, *headers: tuple[str, str]) -> HttpRequest:
    return HttpRequest("GET", url, headers)


def authorization(credential: str, names: str, signature: str) -> str:
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "expected"),
    [
        ("GET", "/", (), None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "", (), None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/example/..", (), None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/a1/a2/../..", (), None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/./", (), None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "//", (), None, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/./example", (), None, "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        ("GET", "//example//", (), None, "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("GET", f"/{UNRESERVED}", (), None, "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("GET", "/?Param1=value1", (), None, "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            (),
            None,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/?Param1=value2&Param1=Value1",
            (),
            None,
            "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
        ),
        (
            "GET",
            "/?Param1=value2&Param1=value1",
            (),
            None,
            "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
        ),
        (
            "GET",
            f"/?{UNRESERVED}={UNRESERVED}",
            (),
            None,
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        ("GET", "/?%E1%88%B4=bar", (), None, "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        (
            "GET",
            "/",
            (("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")),
            None,
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "GET",
            "/",
            (("My-Header1", "value4"), ("My-Header1", "value1"), ("My-Header1", "value3"), ("My-Header1", "value2")),
            None,
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "GET",
            "/",
            (("My-Header1", " value1"), ("My-Header2", ' "a   b   c"')),
            None,
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        ("POST", "/", (), None, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("POST", "/", (FORM,), b"Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ],
)
def test_signature_is_that_of_the_test_suite(
    method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes | None, expected: str
) -> None:
    """AWS General Reference, "Signature Version 4 Test Suite" (aws-sig-v4-test-suite.zip)."""
    request = HttpRequest(method, f"https://example.amazonaws.com{target}", headers, body)
    signed = sign_headers(request, KEYS, SigningScope(service="service", region="us-east-1", now=NOW))
    names = ";".join(sorted({name.lower() for name, _ in headers} | {"host", "x-amz-date"}))
    assert signed.header("X-Amz-Date") == "20150830T123600Z"
    assert signed.header("Authorization") == authorization(
        "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request", names, expected
    )


def test_signature_is_that_of_the_iam_example() -> None:
    """AWS General Reference, "Examples of the Complete Version 4 Signing Process"."""
    request = get(
        "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", (FORM[0], f"{FORM[1]}; charset=utf-8")
    )
    signed = sign_headers(request, KEYS, SigningScope(service="iam", region="us-east-1", now=NOW))
    assert signed.header("Authorization") == authorization(
        "AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request",
        "content-type;host;x-amz-date",
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    )


def test_signing_key_is_that_of_the_derivation_example() -> None:
    """AWS General Reference, "Examples of How to Derive a Signing Key for Signature Version 4"."""
    expected = "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    assert derive_key(SECRET, "20150830/us-east-1/iam/aws4_request").hex() == expected


S3_KEYS = AwsKeys(
    access_key_id="AKIAIOSFODNN7EXAMPLE", secret_access_key=SecretStr("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
)
S3_SCOPE = SigningScope(service="s3", region="us-east-1", now=datetime(2013, 5, 24, tzinfo=UTC))
BUCKET = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("request_", "signed_headers", "expected"),
    [
        (
            get(f"{BUCKET}/test.txt", ("Range", "bytes=0-9")),
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            HttpRequest(
                "PUT",
                f"{BUCKET}/test$file.text",
                (("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")),
                b"Welcome to Amazon S3.",
            ),
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            get(f"{BUCKET}/?lifecycle"),
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            get(f"{BUCKET}/?max-keys=2&prefix=J"),
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_signature_is_that_of_the_s3_examples(request_: HttpRequest, signed_headers: str, expected: str) -> None:
    """Amazon S3 API Reference, "Signature Calculations for the Authorization Header: … Single Chunk", examples."""
    assert sign_headers(request_, S3_KEYS, S3_SCOPE).header("Authorization") == authorization(
        "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request", signed_headers, expected
    )


def test_presigned_url_is_that_of_the_s3_example() -> None:
    """Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters", example."""
    assert presign(get(f"{BUCKET}/test.txt"), S3_KEYS, S3_SCOPE, expires=86400) == get(
        f"{BUCKET}/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
