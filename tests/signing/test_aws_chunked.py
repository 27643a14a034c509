"""Bodies that are streamed to S3: the published example, botocore's trailers, a server's reading of both. P83."""

from __future__ import annotations

import asyncio
import hmac
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from random import Random
from typing import Any
from unittest.mock import patch
from urllib.parse import quote
from zlib import crc32

import pytest
from attrs import evolve
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.auth_specs import AwsSigV4
from go_services_core.errors import SigningError
from go_services_core.http import BodySource, HttpRequest
from go_services_core.model import Credential, TokenSet
from go_services_core.protocols import SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.aws_chunked import CHUNK
from go_services_core.signing.sigv4 import AwsKeys, SigningScope, SigV4Signer, derive_key, sign_headers

ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEYS = AwsKeys(access_key_id=ID, secret_access_key=SecretStr(SECRET))
MAY_2013 = SigningScope(service="s3", region="us-east-1", now=datetime(2013, 5, 24, tzinfo=UTC))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "https://bucket.s3.eu-central-1.amazonaws.com/a%20key//.."


class Pieces:
    """A source of ``data`` in pieces of differing sizes, that says ``length`` of it."""

    def __init__(self, data: bytes, length: int | None = -1, seed: int = 0) -> None:
        self.data, self.length, self.seed, self.opened = data, len(data) if length == -1 else length, seed, 0

    async def open(self) -> AsyncIterator[bytes]:
        self.opened += 1
        random, at = Random(self.seed), 0
        while at < len(self.data):
            size = random.randint(0, 2 * CHUNK)
            yield self.data[at : at + size]
            at += size


def signer(**record: Any) -> SigningKey:
    tokens = TokenSet(access_token=SecretStr(SECRET), extra={"access_key_id": SecretStr(ID, name=True)})
    credential = Credential(connection_id="c", version=1, auth_kind="aws_sigv4", tokens=tokens)
    auth = AwsSigV4(**{"service": "s3", "region": "eu-central-1", **record})
    return SigningKey(secret=tokens.access_token, auth=auth, credential=credential)


def sign(request: HttpRequest, now: datetime = NOW, **record: Any) -> HttpRequest:
    return SigV4Signer().sign(request, signer(**record), SigningContext(now, Random(0).randbytes))


async def sent(request: HttpRequest) -> bytes:
    """The bytes of the body, which are as many as it says."""
    assert isinstance(request.body, BodySource)
    data = b"".join([piece async for piece in request.body.open()])
    assert request.body.length == len(data)
    return data


def signature_of(request: HttpRequest) -> str:
    return (request.header("Authorization") or "").rpartition("Signature=")[2]


def read(data: bytes) -> tuple[list[bytes], list[str], bytes]:
    """The chunks of a body as a server reads them: their data, their signatures, and what follows the empty one."""
    chunks, signatures = [], []
    while True:
        head, _, data = data.partition(b"\r\n")
        size, _, signature = head.partition(b";chunk-signature=")
        length = int(size, 16)
        if not length:
            return chunks, [*signatures, signature.decode()], data
        assert data[length : length + 2] == b"\r\n"
        chunks.append(data[:length])
        signatures.append(signature.decode())
        data = data[length + 2 :]


async def test_chunks_are_those_of_the_published_example() -> None:
    """Amazon S3 API Reference, "Transferring Payload in Multiple Chunks", example PUT Object: 65 KiB of ``a``."""
    headers = (("x-amz-storage-class", "REDUCED_REDUNDANCY"), ("Content-Length", "66824"))
    url = "https://s3.amazonaws.com/examplebucket/chunkObject.txt"
    signed = sign_headers(HttpRequest("PUT", url, headers, Pieces(b"a" * 66560)), KEYS, MAY_2013)
    assert signed.header("Authorization") == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders="
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
        "x-amz-storage-class, Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    )
    assert (signed.header("Content-Encoding"), signed.header("X-Amz-Decoded-Content-Length")) == (
        "aws-chunked",
        "66560",
    )
    data = await sent(signed)
    assert len(data) == 66824
    chunks, signatures, rest = read(data)
    assert [len(chunk) for chunk in chunks] == [65536, 1024]
    assert signatures == [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]
    assert rest == b"\r\n"


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7, 17 * CHUNK])
async def test_each_chunk_is_signed_after_the_one_before(size: int) -> None:
    """The chain as a server checks it, written out; the source's own pieces do not matter."""
    data = Random(1).randbytes(size)
    signed = sign(HttpRequest("PUT", URL, (("Content-Encoding", "gzip"),), Pieces(data, seed=2)))
    assert signed.header("x-amz-content-sha256") == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    assert signed.header("Content-Encoding") == "aws-chunked,gzip"
    chunks, signatures, _ = read(await sent(signed))
    assert b"".join(chunks) == data
    scope = "20260101/eu-central-1/s3/aws4_request"
    key, last = derive_key(SecretStr(SECRET), scope), signature_of(signed)
    for chunk, found in zip([*chunks, b""], signatures, strict=True):
        text = "\n".join(
            [
                "AWS4-HMAC-SHA256-PAYLOAD",
                "20260101T000000Z",
                scope,
                last,
                sha256(b"").hexdigest(),
                sha256(chunk).hexdigest(),
            ]
        )
        last = hmac.new(key, text.encode(), sha256).hexdigest()
        assert found == last


async def test_signed_body_can_be_opened_again_for_another_attempt() -> None:
    source = Pieces(b"x" * (CHUNK + 5))
    signed = sign(HttpRequest("PUT", URL, (), source))
    assert source.opened == 0  # nothing is read to sign
    assert await sent(signed) == await sent(signed)
    assert source.opened == 2


async def test_signing_anew_frames_the_body_once() -> None:
    request = HttpRequest("PUT", URL, (("Content-Encoding", "gzip"), ("X-Empty", "")), Pieces(b"abc"))
    for record in ({}, {"unsigned_payload": True, "checksum": "crc32"}):
        once, twice = sign(request, **record), sign(sign(request, datetime(2025, 1, 1, tzinfo=UTC), **record), **record)
        assert twice.headers == once.headers
        assert await sent(twice) == await sent(once)


@given(
    data=st.binary(max_size=40), segments=st.lists(st.text("ab./ ä%", max_size=4), max_size=3), encoding=st.booleans()
)
def test_unsigned_payload_with_a_checksum_is_that_of_botocore(data: bytes, segments: list[str], encoding: bool) -> None:
    """Headers and signature; botocore's own framing of the body has the same trailer."""
    headers = (("Content-Type", "text/plain"), *((("Content-Encoding", "gzip"),) if encoding else ()))
    url = "https://b.s3.eu-central-1.amazonaws.com/" + "/".join(quote(segment, safe="~") for segment in segments)
    signed = sign(HttpRequest("PUT", url, headers, Pieces(data)), unsigned_payload=True, checksum="crc32")
    theirs = AWSRequest(method="PUT", url=url, data=BytesIO(data))
    for name, value in signed.headers:
        if name.lower() not in ("authorization", "x-amz-date", "x-amz-content-sha256"):
            theirs.headers.add_header(name, value)
    theirs.context["checksum"] = {
        "request_algorithm": {"algorithm": "crc32", "in": "trailer", "name": "x-amz-checksum-crc32"}
    }
    theirs.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    with patch("botocore.auth.get_current_datetime", lambda: NOW.replace(tzinfo=None)):
        S3SigV4Auth(Credentials(ID, SECRET), "s3", "eu-central-1").add_auth(theirs)
    for name in ("Authorization", "X-Amz-Content-SHA256", "X-Amz-Date"):
        assert signed.header(name) == theirs.headers[name]
    assert signed.header("X-Amz-Content-SHA256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert signed.header("X-Amz-Trailer") == "x-amz-checksum-crc32"
    framed = AwsChunkedWrapper(
        BytesIO(data), checksum_cls=Crc32Checksum, checksum_name="x-amz-checksum-crc32", chunk_size=CHUNK
    ).read()
    assert asyncio.run(sent(signed)) == framed


@pytest.mark.parametrize("size", [0, 9, CHUNK, 2 * CHUNK + 1])
@pytest.mark.parametrize("checksum", ["crc32", "sha256"])
async def test_checksum_is_that_of_the_whole_body(size: int, checksum: str) -> None:
    data = Random(3).randbytes(size)
    signed = sign(HttpRequest("PUT", URL, (), Pieces(data)), unsigned_payload=True, checksum=checksum)
    chunks, _, trailer = read(await sent(signed))
    assert b"".join(chunks) == data
    expected = crc32(data).to_bytes(4, "big") if checksum == "crc32" else sha256(data).digest()
    assert trailer == f"x-amz-checksum-{checksum}:{b64encode(expected).decode()}\r\n\r\n".encode()


async def test_unsigned_payload_without_a_checksum_is_sent_as_it_is() -> None:
    source = Pieces(b"abc", length=None)
    signed = sign(HttpRequest("PUT", URL, (), source), unsigned_payload=True)
    assert signed.body is source
    assert signed.header("x-amz-content-sha256") == "UNSIGNED-PAYLOAD"
    assert signed.header("Content-Encoding") is None


@pytest.mark.parametrize(
    ("source", "record", "message"),
    [
        (Pieces(b"abc", length=None), {}, "length of a streamed body"),
        (Pieces(b"abc", length=None), {"unsigned_payload": True, "checksum": "sha256"}, "length of a streamed body"),
        (Pieces(b"abc"), {"service": "execute-api"}, "hash of a streamed body"),
    ],
)
def test_streamed_body_that_cannot_be_signed_is_refused_by_name(source: Any, record: Any, message: str) -> None:
    with pytest.raises(SigningError, match=message) as refused:
        sign(HttpRequest("PUT", URL, (), source), **record)
    assert refused.value.field == "body"


def test_checksum_without_an_unsigned_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="checksum is for unsigned_payload"):
        AwsSigV4(service="s3", region="x", checksum="crc32")
    with pytest.raises(ValueError, match="checksum"):
        AwsSigV4(service="s3", region="x", unsigned_payload=True, checksum="md5")  # type: ignore[arg-type]


async def test_body_that_is_not_as_long_as_its_source_says_is_not_as_long_in_its_framing() -> None:
    """The transport, which counts, ends the exchange: what was announced is signed."""
    for wrong in (2, 4):
        signed = sign(HttpRequest("PUT", URL, (), Pieces(b"abc", length=wrong)))
        assert isinstance(signed.body, BodySource)
        data = b"".join([piece async for piece in signed.body.open()])
        assert len(data) != signed.body.length


def test_signed_body_shows_no_key() -> None:
    signed = sign(HttpRequest("PUT", URL, (), Pieces(b"abc")))
    key = derive_key(SecretStr(SECRET), "20260101/eu-central-1/s3/aws4_request")
    assert repr(key)[2:-1] not in repr(signed) + repr(signed.body)
    assert re.fullmatch(r"<.*ChunkedBody.*>", repr(signed.body))
    assert evolve(signed, body=None).body is None
