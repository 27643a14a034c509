"""What is taken out of recordings: by value, by name, by shape; and what stays."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import pytest

from go_services_core import SecretStr
from go_services_core.errors import RecordingInvalid
from go_services_core.testing.scrubbing import Scrubber

LIVE = SecretStr("l1ve-secret/of+this=process")
VENDOR = "ghp_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def in_use() -> None:
    """Other tests may have made so many secrets that this one was forgotten."""
    LIVE.reveal()


@pytest.mark.parametrize(
    "form",
    [
        LIVE.reveal(),
        quote(LIVE.reveal(), safe=""),
        b64encode(f"alice:{LIVE.reveal()}".encode()).decode(),
        VENDOR,
    ],
)
def test_live_values_in_every_form_and_known_shapes_are_replaced_wherever_they_stand(form: str) -> None:
    """P42, P46, P47"""
    scrubber = Scrubber()
    kept = [
        scrubber.url(f"https://api.example/{form}/x?y={form}"),
        scrubber.headers((("X-Other", form), ("Link", f"<https://api.example/?q={form}>"))),
        scrubber.body(json.dumps({"a": [f"x {form} y"], form: 1}).encode(), "application/json"),
        scrubber.body(f"said {form}".encode(), "text/plain"),
        scrubber.body(f"a={form}&b=1".encode(), "application/x-www-form-urlencoded"),
    ]
    assert LIVE.reveal() not in str(kept)
    assert form not in str(kept)
    assert str(kept).count("REDACTED-") >= 7


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("Authorization", "Bearer abc", "Bearer REDACTED-1"),
        ("Authorization", "opaque", "REDACTED-1"),
        ("Cookie", "sid=1; theme=dark", "REDACTED-1"),
        ("Set-Cookie", "sid=1; Path=/", "REDACTED-1"),
        ("X-Api-Key", "short", "REDACTED-1"),
        ("X-Amz-Security-Token", "short", "REDACTED-1"),
        ("X-Hub-Signature", "sha1=12", "REDACTED-1"),
        ("Location", "https://x.example/?code=0n&page=2", "https://x.example/?code=REDACTED-1&page=2"),
        ("ETag", '"abc"', '"abc"'),
        ("X-RateLimit-Remaining", "41", "41"),
    ],
)
def test_headers_that_hold_credentials_are_replaced_and_others_stay(name: str, value: str, kept: str) -> None:
    assert Scrubber().headers(((name, value),)) == [[name, kept]]


def test_headers_that_change_with_every_run_are_left_out() -> None:
    headers = (("Date", "today"), ("Content-Length", "2"), ("User-Agent", "x/1"), ("ETag", '"1"'))
    assert Scrubber().headers(headers) == [["ETag", '"1"']]


def test_fields_that_are_named_like_secrets_are_replaced_at_any_depth_and_the_others_stay() -> None:
    """P46: what a provider sends and nobody has declared."""
    data = {
        "access_token": "a-1",
        "token_type": "bearer",
        "nested": [{"clientSecret": "b-2"}, {"session": {"id": "c-3", "n": 4}}],
        "pin_tokens": ["d-4"],
        "secret": 12345678,
        "verified_token": True,
        "refresh_token": None,
        "code": "not_found",
        "author": "alice",
        "total": 3,
    }
    kept = Scrubber().data(data)
    assert kept == {
        "access_token": "REDACTED-1",
        "token_type": "bearer",
        "nested": [{"clientSecret": "REDACTED-2"}, {"session": {"id": "REDACTED-3", "n": "REDACTED-4"}}],
        "pin_tokens": ["REDACTED-5"],
        "secret": "REDACTED-6",
        "verified_token": True,
        "refresh_token": None,
        "code": "not_found",
        "author": "alice",
        "total": 3,
    }


def test_parameters_that_are_named_like_secrets_are_replaced_in_urls_and_forms() -> None:
    scrubber = Scrubber()
    assert (
        scrubber.url("https://x.example/a?api_key=1%2F2&page=2#x") == "https://x.example/a?api_key=REDACTED-1&page=2#x"
    )
    kept = scrubber.body(b"client_secret=s3&grant_type=refresh_token", "application/x-www-form-urlencoded")
    assert kept == {"text": "client_secret=REDACTED-2&grant_type=refresh_token"}


def test_one_secret_has_one_placeholder_wherever_it_stands() -> None:
    scrubber = Scrubber()
    scrubber.data({"next_page_token": "page-2-of-the-list"})
    assert scrubber.url("https://x.example/?cursor=page-2-of-the-list") == "https://x.example/?cursor=REDACTED-1"
    assert scrubber.data({"token": "another-one-4"}) == {"token": "REDACTED-2"}
    assert scrubber.data({"token": "page-2-of-the-list"}) == {"token": "REDACTED-1"}


@pytest.mark.parametrize(
    ("content", "kind", "kept"),
    [
        (b"", "application/json", {}),
        (b'{"a": 1}', "application/json", {"json": {"a": 1}}),
        (b'{"a": 1}', "application/vnd.api+json", {"json": {"a": 1}}),
        (b'{"a"', "application/json", {"text": '{"a"'}),
        (b"<a/>", "text/xml", {"text": "<a/>"}),
        (b"\xff\xfe", "application/octet-stream", {"base64": "//4="}),
    ],
)
def test_body_is_kept_as_what_it_is(content: bytes, kind: str, kept: dict[str, Any]) -> None:
    assert Scrubber().body(content, kind) == kept


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (VENDOR, "GitHub token"),
        (LIVE.reveal(), "value of this process"),
        (f'"base64": "{b64encode(b"//" + VENDOR.encode()).decode()}"', "not text"),
        (f'"base64": "{b64encode(b"//" + LIVE.reveal().encode()).decode()}"', "holds a secret"),
    ],
)
def test_what_is_left_over_is_refused_without_being_said(text: str, kind: str) -> None:
    """P47"""
    with pytest.raises(RecordingInvalid, match=kind) as caught:
        Scrubber().check(text)
    assert VENDOR not in str(caught.value)
    assert LIVE.reveal() not in str(caught.value)
