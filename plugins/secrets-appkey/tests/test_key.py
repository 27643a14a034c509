"""The text form of a key."""

from __future__ import annotations

import base64
import re
import string
import subprocess
import sys
import traceback
import zlib

import pytest

from go_services_core.errors import KeyInvalid
from go_services_core.secret import SecretStr
from go_services_secrets_appkey.key import generate_key, parse_key


def encoded(key: bytes) -> str:
    return "gsk1_" + base64.urlsafe_b64encode(key + zlib.crc32(key).to_bytes(4, "big")).decode()


def refused(text: str) -> str:
    with pytest.raises(KeyInvalid) as caught:
        parse_key(SecretStr(text), field="secrets.appkey.key")
    shown = "".join(traceback.format_exception(caught.value))
    assert len(text) < 12 or text not in shown
    assert "secrets.appkey.key" in str(caught.value)
    return str(caught.value)


def test_generated_keys_differ_and_parse_to_32_bytes() -> None:
    made = [generate_key() for _ in range(50)]
    assert len(set(made)) == 50
    assert all(re.fullmatch(r"gsk1_[A-Za-z0-9_-]{48}", key.reveal()) for key in made)
    assert {len(parse_key(key, field="key").reveal()) for key in made} == {32}


def test_documented_form_is_key_and_crc32_in_base64url() -> None:
    key = bytes(range(1, 33))
    assert parse_key(SecretStr(encoded(key)), field="key").reveal() == key


def test_any_changed_character_is_noticed() -> None:
    text = generate_key().reveal()
    for at, before in enumerate(text):
        for after in string.ascii_letters + string.digits + "-_ =":
            if after != before:
                refused(text[:at] + after + text[at + 1 :])


def test_any_lost_or_added_character_is_noticed() -> None:
    text = generate_key().reveal()
    for at in range(len(text)):
        refused(text[:at] + text[at + 1 :])
        refused(text[:at] + "A" + text[at:])


@pytest.mark.parametrize("mangle", ["{}\n", " {}", "{}\r\n", "\ufeff{}", "{}\u00a0", '"{}"'])
def test_key_is_never_trimmed(mangle: str) -> None:
    refused(mangle.format(generate_key().reveal()))


def test_white_space_is_named_as_the_reason() -> None:
    assert "line break" in refused(generate_key().reveal() + "\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "changeme",
        "correct horse battery staple",
        "a" * 32,
        bytes(range(32)).hex(),
        base64.b64encode(bytes(range(32))).decode(),
        "gsk1_",
        "gsk2_" + "A" * 48,
        "gsk1_" + "é" * 48,
    ],
)
def test_other_text_is_not_a_key(text: str) -> None:
    refused(text)


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"ab" * 16, b"secretsecret" * 2 + b"secretse"])
def test_key_that_is_not_random_is_refused_even_with_a_right_checksum(key: bytes) -> None:
    assert "not random" in refused(encoded(key))


def test_module_prints_a_key() -> None:
    command = [sys.executable, "-m", "go_services_secrets_appkey"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert len(parse_key(SecretStr(output.removesuffix("\n")), field="key").reveal()) == 32
