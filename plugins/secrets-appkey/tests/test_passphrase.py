"""Keys from passphrases."""

from __future__ import annotations

import hashlib
import unicodedata

import pytest

from go_services_core.errors import ConfigError, KeyInvalid
from go_services_core.secret import SecretStr
from go_services_secrets_appkey.passphrase import ScryptParameters, current_parameters, derive_key

SALT = bytes(range(16))
CHEAP = ScryptParameters(n=1 << 14, r=8, p=5, salt=SALT)
WORDS = "unfold marble otter seventeen kiosk lantern"


def refused(text: str) -> str:
    with pytest.raises(KeyInvalid) as caught:
        derive_key(SecretStr(text), CHEAP, field="keys.toml, key a:1, passphrase")
    message = str(caught.value)
    assert "keys.toml, key a:1, passphrase" in message
    assert not text.strip() or text not in message
    return message


def test_key_is_scrypt_of_rfc_7914_with_the_stored_parameters() -> None:
    made = derive_key(SecretStr(WORDS), CHEAP, field="f").reveal()
    assert made == hashlib.scrypt(WORDS.encode(), salt=SALT, n=1 << 14, r=8, p=5, maxmem=1 << 26, dklen=32)


def test_other_parameters_or_another_salt_make_another_key() -> None:
    """P56: improved parameters make a key of its own, which rows move to."""
    first = derive_key(SecretStr(WORDS), CHEAP, field="f")
    for other in (
        ScryptParameters(n=1 << 15, r=8, p=5, salt=SALT),
        ScryptParameters(n=1 << 14, r=8, p=5, salt=SALT[::-1]),
    ):
        assert derive_key(SecretStr(WORDS), other, field="f") != first


def test_new_keys_get_the_strongest_parameters_of_the_cheat_sheet_and_a_salt_of_their_own() -> None:
    made = current_parameters()
    assert (made.n, made.r, made.p) == (1 << 17, 8, 1)
    assert len(made.salt) == 16
    assert made.salt != current_parameters().salt
    assert not made.warnings()


def test_parameters_weaker_than_todays_are_told() -> None:
    (warning,) = CHEAP.warnings()
    assert "n=131072 r=8 p=1" in warning


def test_passphrase_is_the_same_from_every_keyboard() -> None:
    text = "přílohy žluťoučký kůň úpěl"
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert derive_key(SecretStr(composed), CHEAP, field="f") == derive_key(SecretStr(decomposed), CHEAP, field="f")


@pytest.mark.parametrize("text", [f" {WORDS}", f"{WORDS}\n", f"{WORDS}\u00a0", f"\t{WORDS}"])
def test_mangled_passphrase_is_refused(text: str) -> None:
    """P52: white space that a shell or an editor added is an error, never part of the key and never trimmed."""
    assert "mangled" in refused(text)


@pytest.mark.parametrize("text", ["", "   ", "\n\n"])
def test_blank_passphrase_is_refused(text: str) -> None:
    assert "is blank" in refused(text)


@pytest.mark.parametrize("text", ["unfold marble\notter seventeen", "unfold marble\0otter seventeen", WORDS + "\udcff"])
def test_passphrase_with_what_nobody_types_is_refused(text: str) -> None:
    assert "control character" in refused(text)


@pytest.mark.parametrize("text", ["correct horse", "a" * 19])
def test_short_passphrase_is_refused(text: str) -> None:
    assert "at least 20" in refused(text)


@pytest.mark.parametrize(
    "text", ["a" * 40, "abababababababababababab", "12345678901234567890", "abcdefghijklmnopqrstuvwxyz"]
)
def test_passphrase_that_is_long_but_simple_is_refused(text: str) -> None:
    assert "repeats" in refused(text)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n": 1 << 10}, "too weak"),
        ({"n": 1 << 13, "p": 1}, "too weak"),
        ({"n": (1 << 17) + 1}, "power of two"),
        ({"n": 0}, "power of two"),
        ({"r": 1}, "r at least 8"),
        ({"p": 0}, "p 1 to 64"),
        ({"p": 65}, "p 1 to 64"),
        ({"n": 1 << 24}, "MiB of memory"),
        ({"salt": b"short"}, "salt"),
    ],
)
def test_parameters_that_are_weak_or_would_exhaust_the_machine_are_refused(
    wrong: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ScryptParameters(**{"n": 1 << 17, "r": 8, "p": 1, "salt": SALT, **wrong})  # type: ignore[arg-type]
