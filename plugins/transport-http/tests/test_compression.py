"""Compressed answers: undone whole, or not at all."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from collections.abc import Callable
from textwrap import dedent

import pytest

from go_services_core.errors import BodyTooLarge, ConfigError, ResponseInvalid, TransportError
from go_services_core.http import HttpRequest, HttpResponse
from go_services_core.testing.rawserver import http_answer, raw_server
from go_services_transport_http.transport import HttpTransport

Make = Callable[..., HttpTransport]
TEXT = b"".join(b"line %d\n" % number for number in range(50_000))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


async def answer_to(make: Make, coding: str, body: bytes, *, method: str = "GET", **settings: int) -> HttpResponse:
    transport = make(**settings)
    async with raw_server(http_answer(200, body, (("Content-Encoding", coding),))) as server:
        try:
            return await transport.send(HttpRequest(method, server.url()), provider_id="kit")
        finally:
            await transport.aclose()


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("GZip", gzip.compress(TEXT)),
        ("x-gzip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("identity", TEXT),
        ("", TEXT),
        (" , gzip", gzip.compress(TEXT)),
    ],
)
async def test_every_coding_that_is_asked_for_is_undone(make: Make, coding: str, packed: bytes) -> None:
    answer = await answer_to(make, coding, packed)
    assert answer.body == TEXT
    assert answer.header("content-encoding") == coding.strip()


@pytest.mark.parametrize("size", [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**18])
async def test_no_byte_is_lost_where_a_piece_ends(make: Make, size: int) -> None:
    data = bytes(size)
    for coding, packed in (
        ("gzip", gzip.compress(data)),
        ("deflate", zlib.compress(data)),
        ("deflate", raw_deflate(data)),
    ):
        assert (await answer_to(make, coding, packed)).body == bytes(size)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_answer_without_a_body_needs_no_coding(make: Make, coding: str) -> None:
    assert (await answer_to(make, coding, b"")).body == b""


@pytest.mark.parametrize("cut", [1, 9, 100, -9, -8, -1])
async def test_truncated_compression_is_an_error_although_the_length_is_right(make: Make, cut: int) -> None:
    for coding, packed in (("gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT))):
        if coding == "deflate" and cut < -4:
            continue
        with pytest.raises(TransportError, match="in the middle of its compressed data") as caught:
            await answer_to(make, coding, packed[:cut])
        assert caught.value.sent


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"hunter2 is not gzip"),
        ("gzip", gzip.compress(TEXT)[:-8] + b"hunter2!"),
        ("gzip", gzip.compress(TEXT) + b"hunter2"),
        ("gzip", gzip.compress(TEXT)[:2000] + b"hunter2" + gzip.compress(TEXT)[2007:]),
        ("deflate", b"\x78hunter2"),
        ("deflate", zlib.compress(TEXT) + b"hunter2"),
        ("deflate", zlib.compress(TEXT) + zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)[:-1] + b"!"),
    ],
)
async def test_corrupt_compression_is_an_error_without_its_content(make: Make, coding: str, body: bytes) -> None:
    with pytest.raises(TransportError) as caught:
        await answer_to(make, coding, body)
    assert caught.value.sent
    assert coding in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "coding", ["gzip, gzip", "deflate, gzip", "br", "zstd", "compress", "gzip,identity,deflate", "x"]
)
async def test_stacked_and_unknown_codings_are_refused(make: Make, coding: str) -> None:
    with pytest.raises(ResponseInvalid, match="not asked for") as caught:
        await answer_to(make, coding, gzip.compress(gzip.compress(TEXT)))
    assert not caught.value.retryable


async def test_codings_in_several_headers_are_stacked_too(make: Make) -> None:
    transport = make()
    headers = (("Content-Encoding", "gzip"), ("Content-Encoding", "gzip"))
    async with raw_server(http_answer(200, gzip.compress(gzip.compress(TEXT)), headers)) as server:
        with pytest.raises(ResponseInvalid):
            await transport.send(HttpRequest("GET", server.url()), provider_id="kit")
    await transport.aclose()


def bomb(size: int) -> bytes:
    """``size`` zero bytes, compressed about a thousand times."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    block = bytes(2**20)
    return b"".join(packer.compress(block) for _ in range(size // 2**20)) + packer.flush()


async def test_answer_that_grows_too_much_is_taken_for_a_bomb(make: Make) -> None:
    transport = make()
    async with (
        raw_server(http_answer(200, bomb(2**26), (("Content-Encoding", "gzip"),))) as server,
        transport.stream(HttpRequest("GET", server.url()), provider_id="kit") as answer,
    ):
        taken = 0
        with pytest.raises(BodyTooLarge, match="200 times as large") as caught:
            async for piece in answer:
                assert len(piece) <= 2**16
                taken += len(piece)
        assert taken <= 2**24
        assert "max_expansion" in caught.value.hint
    await transport.aclose()


async def test_what_compresses_well_and_is_small_is_no_bomb(make: Make) -> None:
    assert len((await answer_to(make, "gzip", bomb(2**20))).body) == 2**20
    assert len((await answer_to(make, "gzip", bomb(2**23), max_expansion=2000)).body) == 2**23


@pytest.mark.parametrize("value", [0, 0.5, -1, float("nan")])
def test_expansion_below_one_is_a_configuration_error(make: Make, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        make(max_expansion=value)
    assert caught.value.field == "max_expansion"


def test_memory_stays_small_under_a_bomb_of_one_gigabyte() -> None:
    """In a process of its own: one MiB that stands for 1024, with and without the limits."""
    script = """
        import asyncio, resource, sys, zlib
        from go_services_core.errors import BodyTooLarge
        from go_services_core.http import HttpRequest
        from go_services_core.testing.rawserver import http_answer, raw_server
        sys.path.insert(0, "plugins/transport-http")
        from tests.conftest import make_transport
        from tests.test_compression import bomb

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

        async def main():
            answer = http_answer(200, bomb(2**30), (("Content-Encoding", "gzip"),))
            print(len(answer))
            async with raw_server(answer) as server:
                url = server.url()
                transport = make_transport()
                before = peak()
                for _ in range(3):
                    try:
                        await transport.send(HttpRequest("GET", url), provider_id="kit")
                    except BodyTooLarge:
                        print("refused")
                await transport.aclose()
                transport = make_transport(max_expansion=10_000.0)
                taken = 0
                async with transport.stream(HttpRequest("GET", url), provider_id="kit") as streamed:
                    async for piece in streamed:
                        taken += len(piece)
                print(taken)
                await transport.aclose()
                print(peak() - before)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    size, *refused, taken, grown = done.stdout.split()
    assert int(size) < 1.1 * 2**20
    assert refused == ["refused"] * 3
    assert int(taken) == 2**30
    assert int(grown) < 64
