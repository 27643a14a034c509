"""Text from outside loses the secrets that we know."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.redaction import SHORTEST, scrub
from go_services_core.secret import MASK, SecretStr

SECRET = SecretStr('s3cr/et+ü"v')


@pytest.mark.parametrize(
    "form",
    [
        SECRET.reveal(),
        quote(SECRET.reveal(), safe=""),
        quote_plus(SECRET.reveal()),
        json.dumps(SECRET.reveal())[1:-1],
        json.dumps(SECRET.reveal())[1:-1].replace("/", "\\/"),
    ],
)
def test_a_secret_is_found_in_every_form_that_an_answer_may_echo(form: str) -> None:  # P42
    assert scrub(f"<{form}> and <{form}>", [SECRET]) == f"<{MASK}> and <{MASK}>"


def test_a_space_is_found_encoded_as_plus() -> None:
    assert scrub("a=open+sesame&b=open%20sesame", [SecretStr("open sesame")]) == f"a={MASK}&b={MASK}"


def test_a_secret_inside_another_leaves_no_rest_of_it() -> None:
    inner, outer = SecretStr("abcdef"), SecretStr("abcdefghijkl")
    for secrets in ([inner, outer], [outer, inner]):
        assert scrub("x abcdefghijkl y abcdef", secrets) == f"x {MASK} y {MASK}"


@pytest.mark.parametrize("short", ["", "a", "12345"])
def test_short_and_empty_secrets_do_not_shred_text(short: str) -> None:  # P43
    assert scrub("a plain text 12345", [SecretStr(short), None]) == "a plain text 12345"


def test_the_shortest_secret_that_is_searched_for() -> None:
    assert scrub("x" * SHORTEST, [SecretStr("x" * SHORTEST)]) == MASK


def test_control_characters_become_visible() -> None:
    assert scrub("a\r\nb\x1b[31m\0\u202e", []) == "a��b�[31m��"


def test_the_text_is_cut_to_the_limit() -> None:
    assert scrub("x" * 300, []) == "x" * 300
    assert scrub("x" * 301, []) == "x" * 299 + "…"
    assert scrub("abcdef", [], limit=3) == "ab…"


def test_the_cut_comes_after_the_search() -> None:
    secret = SecretStr("k" * 500)
    assert scrub(f"{'x' * 290}{secret.reveal()}", [secret]) == "x" * 290 + MASK


def test_any_iterable_of_secrets_will_do() -> None:
    assert scrub("token", iter([])) == "token"


CHARACTERS = st.characters(codec=None, exclude_characters="•…�")
"""Any, but those that ``scrub`` itself writes."""


@given(
    parts=st.lists(st.text(CHARACTERS, max_size=5), max_size=6),
    secrets=st.lists(st.text(CHARACTERS, min_size=SHORTEST), min_size=1, max_size=3),
)
def test_no_secret_survives_and_nothing_fails(parts: list[str], secrets: list[str]) -> None:
    text = secrets[0].join(parts)
    cleaned = scrub(text, [SecretStr(secret) for secret in secrets])
    assert len(cleaned) <= 300
    assert cleaned.isprintable()
    for secret in secrets:
        assert secret not in cleaned
