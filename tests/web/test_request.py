"""The pieces of a request: path, cookies, URL, body, and what the client prefers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from go_services_core.errors import RequestRefused
from go_services_core.web.answers import wants_json
from go_services_core.web.body import read_body
from go_services_core.web.request import WebRequest, below


def request(target: str = "/callback", **options: Any) -> WebRequest:
    return WebRequest(**{"method": "POST", "target": target, "path": target, "headers": (), **options})


def test_segments_are_decoded_one_by_one_so_that_a_slash_in_one_divides_nothing() -> None:
    assert request(path="/webhooks/a%2Fb/c%20d").segments == ("webhooks", "a/b", "c d")


@pytest.mark.parametrize(
    ("path", "decoded", "found"),
    [
        ("/in/webhooks/acme", "/webhooks/acme", "/webhooks/acme"),
        ("/in/webhooks/ac%6De", "/webhooks/acme", "/webhooks/ac%6De"),
        ("/in/webhooks/a%2Fb", "/webhooks/a/b", "/webhooks/a/b"),
        ("/in", "", ""),
    ],
)
def test_path_below_a_mount_keeps_its_encoding_where_that_is_certain(path: str, decoded: str, found: str) -> None:
    assert below(path, decoded) == found


def test_cookie_is_found_among_others_and_in_several_headers() -> None:
    headers = (("Cookie", "a=1; b=x=y"), ("cookie", "c=3; a=9"))
    made = request(headers=headers)
    assert [made.cookie(name) for name in "abcd"] == ["1", "x=y", "3", None]


def test_url_is_the_public_one_and_no_forwarded_header_is_believed() -> None:
    headers = (
        ("Host", "internal:8000"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "host=evil.example"),
    )
    made = request("/in/callback?code=c", path="/callback", headers=headers)
    assert made.url(None) == "http://internal:8000/in/callback"
    assert made.url("https://app.example/public/") == "https://app.example/public/callback"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((("Content-Length", "11"),), 413),
        ((("Content-Length", "9" * 5000),), 413),
        ((("Content-Length", "-1"),), 400),
        ((("Content-Length", "1_0"),), 400),
        ((("Content-Length", "\u0661"),), 400),
        ((("Content-Encoding", "GZIP"),), 415),
        ((("Content-Encoding", "identity, gzip"),), 415),
    ],
)
async def test_body_that_will_not_be_taken_is_refused_before_it_is_opened(
    headers: tuple[tuple[str, str], ...], status: int
) -> None:
    def body() -> AsyncGenerator[bytes]:
        raise AssertionError("it was opened")

    with pytest.raises(RequestRefused) as raised:
        await read_body(request(headers=headers, body=body), limit=10, seconds=1)
    assert raised.value.status == status


async def test_body_is_closed_at_the_piece_that_is_too_much() -> None:
    given, closed = [], []

    async def body() -> AsyncGenerator[bytes]:
        try:
            for _ in range(100):
                given.append(1)
                yield b"abcd"
        finally:
            closed.append(True)

    with pytest.raises(RequestRefused):
        await read_body(request(body=body), limit=10, seconds=1)
    assert (len(given), closed) == (3, [True])


@pytest.mark.parametrize(
    ("accept", "otherwise", "wanted"),
    [
        ("", True, True),
        ("", False, False),
        ("*/*", True, True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", True, False),
        ("application/json", False, True),
        ("text/html;q=0.5, application/json;q=0.9", False, True),
        ("application/json;q=nonsense", False, False),
    ],
)
def test_form_of_an_answer_is_what_the_client_prefers(accept: str, otherwise: bool, wanted: bool) -> None:
    assert wants_json(request(headers=(("Accept", accept),)), otherwise=otherwise) is wanted
