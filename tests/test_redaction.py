"""Text from outside loses the secrets that we know."""

from __future__ import annotations

import json
import sys
import threading
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.redaction import SHORTEST, Patterns, mask, mask_data, scrub
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


PEM = "-----BEGIN PRIVATE KEY-----\n" + "\n".join("MIIEvQIBADANBgkqhkiG9w0B" + str(n) * 40 for n in range(3)) + "\n"


@pytest.mark.parametrize("value", ["tok-0123456789abcdef", 'p/w+ü"0 & more=1', "a\\b'c\n0123456789", PEM])
def test_a_live_secret_is_masked_in_every_form_in_which_it_travels(value: str) -> None:  # P40
    SecretStr(value)
    raw = value.encode()
    forms = [
        value,
        quote(value, safe=""),
        quote(value, safe="/"),
        quote(value, safe="").lower() if value.islower() else quote(value, safe=""),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
    ]
    for form in forms:
        assert mask(f"<{form}>") == f"<{MASK}>", form
    for pair in (b"", b"u", b"us", b"user:"):  # where it begins within three bytes depends on what stands before it
        for encode in (b64encode, urlsafe_b64encode):
            text = encode(pair + raw).decode()
            inner = text.rstrip("=")[6:-2]
            assert inner not in mask(f"sent {text} there")


def test_each_line_of_a_key_is_masked_where_it_is_written_line_by_line() -> None:
    SecretStr(PEM)
    assert mask("\n".join("    | " + line for line in PEM.splitlines())).count(MASK) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc", f"Authorization: Bearer {MASK}"),
        ("{'authorization': 'Basic dTpw', 'accept': '*/*'}", f"{{'authorization': 'Basic {MASK}', 'accept': '*/*'}}"),
        ("(b'Authorization', b'token abc')", f"(b'Authorization', b'token {MASK}')"),
        ("('DPoP', 'a.b.c'), 'Cookie', 'c'", f"('DPoP', '{MASK}'), 'Cookie', '{MASK}'"),
        ("Proxy-Authorization: abc", f"Proxy-Authorization: {MASK}"),
        ("sent bearer 0123456789abcdef0 along", f"sent bearer {MASK} along"),
        ("X-API-Key: 1, Accept: */*", f"X-API-Key: {MASK}, Accept: */*"),
        ("POST /token?access_token=a&x=1 200", f"POST /token?access_token={MASK}&x=1 200"),
        ("grant_type=x&client_secret=12&password=p%26", f"grant_type=x&client_secret={MASK}&password={MASK}"),
        ('{"refresh_token": "r\\"1", "n": 1}', f'{{"refresh_token": "{MASK}", "n": 1}}'),
        ("{'password': 'p', 'user': 'u'}", f"{{'password': '{MASK}', 'user': 'u'}}"),
        ('{\\"id_token\\": \\"a.b.c\\", \\"n\\": 1}', f'{{\\"id_token\\": \\"{MASK}\\", \\"n\\": 1}}'),
        ("GET /callback?code=1&state=2&iss=x", f"GET /callback?code={MASK}&state={MASK}&iss=x"),
        ("postgresql://app:p:w@db/x via http://proxy:3128", f"postgresql://app:{MASK}@db/x via http://proxy:3128"),
    ],
)
def test_what_stands_behind_the_name_of_a_secret_is_masked_even_when_it_is_short_or_unknown(
    text: str, shown: str
) -> None:
    assert mask(text) == shown
    assert scrub(text, []) == shown
    assert mask(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "The token endpoint refused with invalid_token: expired.",
        "secrets: 3, tokens: 4, code 404, state active, exit code=1",
        "password reset for u1; api key of acme is missing; key_id=app-1",
        'token_type="bearer" expires_in=3600 {"token_type": "bearer"}',
        "see https://user@host/path and mailto:a@b.example",
        "The provider takes PAR, DPoP, mTLS and device codes.",
        "It came without authorization, connect it again; a cookie, binding or session is missing.",
    ],
)
def test_words_about_secrets_are_left_alone(text: str) -> None:  # P43
    assert mask(text) == text


def test_data_is_masked_by_value_and_by_name_and_keeps_its_shape() -> None:
    SecretStr("tok-0123456789abcdef")
    data = {
        "note": "sent tok-0123456789abcdef",
        "password": "1",
        "headers": [("Authorization", "x"), ("Accept", "*/*")],
        "n": 1,
        "raw": b"tok-0123456789abcdef",
        "none": None,
    }
    shown = mask_data(data)
    assert shown["note"] == f"sent {MASK}"
    assert shown["password"] == MASK
    assert shown["raw"] == MASK.encode()
    assert (shown["n"], shown["none"], shown["headers"][1]) == (1, None, ("Accept", "*/*"))
    assert data["note"] == "sent tok-0123456789abcdef"
    assert mask_data({"password": "1", "note": "tok-0123456789abcdef"}, named=False) == {"password": "1", "note": MASK}


def test_texts_are_searched_while_another_thread_adds_secrets() -> None:
    """``BlockingRuntime``: its loop makes secrets while other threads log; tokens of one kind begin alike."""
    patterns, text = Patterns(), "eyJhbGciOiJSUzI1NiJ9.zzzz " * 50
    for length in range(50):
        patterns.add("eyJhbGciOiJS" + "a" * length)
    added = threading.Event()
    failed: list[RuntimeError] = []

    def search() -> None:
        while not added.is_set():
            try:
                patterns.matches(text)
            except RuntimeError as error:
                failed.append(error)
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=search) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for length in range(50, 1500):
            patterns.add("eyJhbGciOiJS" + "a" * length)
    finally:
        added.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not failed


def test_overlapping_secrets_leave_no_rest() -> None:
    for value in ("0123456789abcdefgh", "efghijklmnopqrstuv"):
        SecretStr(value)
    assert mask("<0123456789abcdefghijklmnopqrstuv>") == f"<{MASK}>"


@given(st.text(max_size=80))
def test_masking_never_fails_and_is_done_once(text: str) -> None:
    once = mask(text)
    assert mask(once) == once
