"""The text of a keyring."""

from __future__ import annotations

import base64
import re
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from go_services_core.errors import KeyInvalid
from go_services_core.redaction import mask
from go_services_core.secret import MASK, SecretStr
from go_services_secrets_appkey.keyring import Entry, Kdf, Keyring, parse, render
from go_services_secrets_appkey.passphrase import ScryptParameters

RAW = bytes(range(1, 33))
KEY = "gsk1_" + base64.urlsafe_b64encode(RAW + zlib.crc32(RAW).to_bytes(4, "big")).decode()
PRIMARY = f'[[keys]]\nstate = "primary"\nkey = "{KEY}"\n'
KDF = '{ name = "scrypt", n = 16384, r = 8, p = 5, salt = "AAECAwQFBgcICQoLDA0ODw==" }'
PATH = Path("/app/keys.toml")


def parsed(text: str) -> Keyring:
    return parse(SecretStr(text), PATH)


def refused(text: str) -> str:
    with pytest.raises(KeyInvalid) as caught:
        parsed(text)
    assert caught.value.field == "secrets.appkey.keyring"
    assert KEY not in str(caught.value)
    return str(caught.value)


def test_every_field_is_written_and_read_back() -> None:
    made = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    ring = Keyring(
        (
            Entry(id="old", version=2, state="retired", fingerprint="0a0b0c0d", created_at=made, retired_at=made),
            Entry(id="app-key-01020304", state="decrypt-only", created_at=made, source="file:a folder/ä.key"),
            Entry(
                state="decrypt-only",
                fingerprint="01020304",
                passphrase="env:P",
                kdf=Kdf.of(ScryptParameters(n=1 << 14, r=8, p=5, salt=bytes(range(16)))),
            ),
            Entry(id="new", version=7, state="primary", key=SecretStr(KEY)),
        )
    )
    text = render(ring).reveal()
    assert parsed(text) == ring
    assert render(parsed(text)) == render(ring)
    assert "created_at = 2026-11-22T10:00:00Z\n" in text
    assert f"kdf = {KDF}\n" in text


def test_written_form_is_the_documented_one() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = [block.split("```")[0] for block in page.split("```toml\n")[1:] if "retired_at" in block]
    text = example.replace("gsk1_…", KEY).replace("…", "AAECAwQFBgcICQoLDA0ODw==")
    assert render(parsed(text)).reveal() == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"has no \[\[keys\]\]"),
        ("keys = 3", r"has no \[\[keys\]\]"),
        ("keys = [3]", r"keys\[0\] \(line 1\): must be a table"),
        (f"{PRIMARY}broken\nx = 1", "not valid TOML \\(line 4\\)"),
        (f'{PRIMARY}key = "{KEY}"', "not valid TOML"),
        (f'surprise = "{KEY}"\n{PRIMARY}', r"surprise \(line 1\): there is no such setting"),
        (f"{PRIMARY}stat = 3", r"keys\[0\]\.stat \(line 4\): there is no such setting; did you mean 'state'"),
        (f'{PRIMARY}source = "env:A"', "did you mean 'from'"),
        (f'[[keys]]\nkey = "{KEY}"', r"keys\[0\]\.state"),
        (PRIMARY.replace("primary", "Primary"), r"must be one of 'primary', 'decrypt-only', 'retired'"),
        (PRIMARY.replace("primary", "decrypt-only"), "0 keys with the state primary"),
        (PRIMARY * 2, "2 keys with the state primary"),
        (f'{PRIMARY}id = "a"\n[[keys]]\nid = "a"\nstate = "decrypt-only"\nfrom = "env:A"', "two keys are named a:1"),
        (f'{PRIMARY}from = "env:A"', "needs one of key, from and passphrase"),
        ('[[keys]]\nstate = "primary"', "needs one of key, from and passphrase"),
        (f"{PRIMARY}version = 0", "a version is 1 to"),
        (f"{PRIMARY}version = true", "must be a whole number"),
        (f'{PRIMARY}id = "a:1"', "an id has"),
        (f'{PRIMARY}id = " a"', "an id has"),
        (f'{PRIMARY}id = ""', "an id has"),
        (f'{PRIMARY}fingerprint = "XYZ"', "8 hexadecimal digits"),
        (f"{PRIMARY}created_at = 2026-01-01T00:00:00", "created_at must have an offset"),
        (f"{PRIMARY}retired_at = 2026-01-01T00:00:00Z", "only a retired key"),
        (f"{PRIMARY}kdf = {KDF}", "passphrase and kdf belong together"),
        ('[[keys]]\nstate = "primary"\npassphrase = "env:P"', "passphrase and kdf belong together"),
        (f'[[keys]]\nstate = "primary"\npassphrase = "env:P"\nkdf = {KDF}', "needs its fingerprint"),
        (f'{PRIMARY}[[keys]]\nid = "a"\nstate = "retired"\nkey = "{KEY}"', "a retired key has neither"),
        (f'{PRIMARY}[[keys]]\nstate = "retired"', "a retired key needs its id"),
    ],
)
def test_keyring_that_is_not_understood_is_refused_by_place(text: str, words: str) -> None:
    assert re.search(words, refused(text))


@pytest.mark.parametrize(
    ("kdf", "words"),
    [
        (KDF.replace("scrypt", "pbkdf2"), "must be one of 'scrypt'"),
        (KDF.replace("16384", "1024"), "too weak"),
        (KDF.replace("AAEC", "A*EC"), "base64"),
        (KDF.replace("p = 5, ", ""), "kdf.p"),
        (KDF.replace("p = 5", "p = 5, q = 1"), "kdf.q"),
    ],
)
def test_derivation_that_is_not_understood_is_refused(kdf: str, words: str) -> None:
    text = f'[[keys]]\nstate = "primary"\nfingerprint = "01020304"\npassphrase = "env:P"\nkdf = {kdf}'
    assert words in refused(text)


@pytest.mark.parametrize("comment", ["# mine\n{}", "{}# mine", "{} # mine\n"])
def test_comments_are_read_over_and_remembered(comment: str) -> None:
    ring = parsed(comment.format(PRIMARY))
    assert ring.commented
    assert ring.primary.key == SecretStr(KEY)


def test_a_hash_in_a_value_is_no_comment() -> None:
    assert not parsed('[[keys]]\nstate = "primary"\nfrom = "file:a#b"').commented


def test_key_that_stands_in_the_file_is_not_shown() -> None:
    assert KEY not in repr(parsed(PRIMARY))


def test_keys_of_a_keyring_are_masked_wherever_they_are_written() -> None:  # P44
    parsed(PRIMARY)
    assert mask(f"read {KEY} of the keyring") == f"read {MASK} of the keyring"
