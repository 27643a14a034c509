"""Times and JSON as the Go system wrote them."""

from __future__ import annotations

import hashlib

import pytest

from go_services_store_sql.adopt_values import go_digest, go_json, go_time


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-01-02 03:04:05", "2026-01-02 03:04:05.000000"),
        ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05.000000"),
        ("2026-01-02 03:04:05.123456789+00:00", "2026-01-02 03:04:05.123456"),
        ("2026-01-02T01:04:05.5-02:00", "2026-01-02 03:04:05.500000"),
        ("2026-01-02 05:04:05.25 +0200 CEST", "2026-01-02 03:04:05.250000"),
        ("2026-01-02 03:04:05 +0000 UTC m=+0.012", "2026-01-02 03:04:05.000000"),
        ("2026-13-02 03:04:05", None),
        ("yesterday", None),
        (1767323045, None),
        (None, None),
    ],
)
def test_time_is_read_in_every_form(written: object, read: str | None) -> None:
    assert go_time(written) == read


@pytest.mark.parametrize(
    ("written", "default", "read"),
    [
        ('{"a": 1}', "{}", '{"a": 1}'),
        (b'["a"]', "[]", '["a"]'),
        ("null", "[]", "[]"),
        ("[]", "{}", None),
        ("{", "{}", None),
        (None, "{}", None),
    ],
)
def test_json_is_kept_to_the_letter_or_refused(written: object, default: str, read: str | None) -> None:
    assert go_json(written, default) == read


def test_digest_of_a_missing_body_is_that_of_an_empty_one() -> None:
    assert go_digest(None) == go_digest(b"") == hashlib.sha256(b"").digest()
    assert go_digest("a") == go_digest(b"a")
