"""How long an answer asks to wait."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.http import Headers, HttpResponse
from go_services_core.retry_after import retry_after

ANY = st.characters(codec=None) | st.sampled_from("\ud800\udfff\r\n\0")
"""Any character, and often one that cannot be encoded or would break a header."""

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


def wait(*headers: tuple[str, str]) -> float | None:
    return retry_after(HttpResponse(429, headers), NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 01:01:00 +0100", 60.0),
        ("Thu, 01 Jan 2026 00:01:00", 60.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("Thursday, 01-Jan-26 00:01:00 GMT", 60.0),
        ("Thu Jan  1 00:01:00 2026", 60.0),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("1e308", None),
        ("31536000", 31_536_000.0),
        ("31536001", None),
        ("Thu, 01 Jan 2099 00:01:00 GMT", None),
        ("soon", None),
        ("Thu, 99 Jan 2026 00:01:00 GMT", None),
        ("Thu, 01 Jan 2026 00:01:00 +9999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:  # RFC 9110 §10.2.3
    assert wait(("Retry-After", value)) == seconds
    assert wait(("retry-AFTER", value)) == seconds


@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [
        ("0", str(EPOCH + 60), 60.0),
        (" 0 ", f" {EPOCH + 60} ", 60.0),
        ("0", str(EPOCH - 60), 0.0),
        ("0", "30", 30.0),
        ("0", "0", 0.0),
        ("0", None, None),
        ("0", "", None),
        ("0", "-5", None),
        ("0", "soon", None),
        ("0", "²", None),
        ("0", "٣", None),
        ("0", "9" * 400, None),
        ("0", "9" * 5000, None),
        ("1", str(EPOCH + 60), None),
        ("", str(EPOCH + 60), None),
        (None, str(EPOCH + 60), None),
    ],
)
def test_a_reset_counts_when_nothing_remains(remaining: str | None, reset: str | None, seconds: float | None) -> None:
    pairs: list[tuple[str, str | None]] = [("X-RateLimit-Remaining", remaining), ("X-RateLimit-Reset", reset)]
    assert wait(*((name, value) for name, value in pairs if value is not None)) == seconds


def test_retry_after_stands_before_the_reset() -> None:
    assert wait(("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "30"), ("Retry-After", "7")) == 7.0


def test_an_answer_that_says_nothing_has_no_wait() -> None:
    assert wait() is None


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(["Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
            st.text(ANY) | st.from_regex(r"[0-9]{1,20}") | st.just("0"),
        )
    ).map(tuple)
)
def test_no_header_makes_it_fail_and_every_wait_is_a_duration(headers: Headers) -> None:
    seconds = wait(*headers)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
