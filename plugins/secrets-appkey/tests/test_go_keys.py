"""Opening what the Go system sealed under its application key (P51, P54c)."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import traceback
from base64 import b64encode
from pathlib import Path
from typing import Any

import attrs
import pytest

from go_services_core.config.structure import Reader
from go_services_core.errors import CannotOpen, KeyInvalid, KeyNotFound, SecretError
from go_services_core.sealing import GoEnvelope
from go_services_core.secret import SecretBytes, SecretStr
from go_services_envelope.go_envelope import PREFIX, decode
from go_services_secrets_appkey import go_keys
from go_services_secrets_appkey.go_keys import GoKey, GoKeys

FILE = Path(__file__).parents[2] / "envelope" / "tests" / "go_envelopes" / "samples.json"
SAMPLES = {sample["name"]: sample for sample in json.loads(FILE.read_text("utf-8"))}
OPENED = [name for name, sample in SAMPLES.items() if sample["plaintext"] is not None]
REFUSED = [name for name, sample in SAMPLES.items() if sample["plaintext"] is None]
MATERIAL = "0123456789abcdef0123456789ABCDEF"


def keys_of(sample: dict[str, Any], **changes: Any) -> GoKeys:
    keys = [GoKey(**{**key, "material": SecretStr(key["material"])}) for key in sample["keys"]]
    return GoKeys(keys, without_prefix=changes.get("without_prefix", sample["without_prefix"]))


def envelope_of(sample: dict[str, Any]) -> GoEnvelope:
    return decode(sample["envelope"].encode())


def key(material: str = MATERIAL, **more: Any) -> GoKey:
    return GoKey(material=SecretStr(material), **more)


# --- the samples ----------------------------------------------------------------------------------------------------


def test_there_are_samples_of_both_sorts() -> None:
    assert len(OPENED) >= 20
    assert len(REFUSED) >= 30


@pytest.mark.parametrize("name", OPENED)
def test_sample_opens_to_its_plaintext(name: str) -> None:
    sample = SAMPLES[name]
    assert keys_of(sample).open(envelope_of(sample)) == SecretBytes(sample["plaintext"].encode())


@pytest.mark.parametrize("name", REFUSED)
def test_sample_that_was_changed_is_refused(name: str) -> None:
    sample = SAMPLES[name]
    with pytest.raises((CannotOpen, KeyNotFound)) as caught:
        keys_of(sample).open(envelope_of(sample))
    shown = "".join(traceback.format_exception(caught.value))
    assert all(known["material"] not in shown for known in sample["keys"])
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", [name for name in OPENED if SAMPLES[name]["without_prefix"]])
def test_older_form_is_refused_where_it_is_not_switched_on(name: str) -> None:
    sample = SAMPLES[name]
    with pytest.raises(CannotOpen, match=r"secrets\.appkey\.go_without_prefix") as caught:
        keys_of(sample, without_prefix=False).open(envelope_of(sample))
    assert caught.value.field == "secrets.appkey.go_without_prefix"


@pytest.mark.parametrize("name", [name for name in OPENED if not SAMPLES[name]["without_prefix"]])
def test_switch_for_the_older_form_changes_nothing_for_the_other(name: str) -> None:
    sample = SAMPLES[name]
    assert keys_of(sample, without_prefix=True).open(envelope_of(sample)).reveal() == sample["plaintext"].encode()


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("without_prefix", [False, True])
def test_no_byte_of_an_envelope_can_be_changed(mask: int, without_prefix: bool) -> None:
    """P51: not a member's name, not a bit of the base64 that means nothing, with neither setting of the switch."""
    sample = SAMPLES["a key of 32 bytes"]
    keys = keys_of(sample, without_prefix=without_prefix)
    raw = sample["envelope"].encode()
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= mask
        with pytest.raises((CannotOpen, KeyNotFound)):
            keys.open(decode(bytes(changed)))


@pytest.mark.parametrize("without_prefix", [False, True])
def test_no_part_of_an_envelope_opens(without_prefix: bool) -> None:
    sample = SAMPLES["a key of 32 bytes"]
    keys = keys_of(sample, without_prefix=without_prefix)
    raw = sample["envelope"].encode()
    for size in range(len(raw)):
        for part in (raw[:size], raw[size + 1 :]):
            if without_prefix and part == raw.removeprefix(PREFIX):
                continue  # that is the older form of it, whole
            with pytest.raises((CannotOpen, KeyNotFound)):
                keys.open(decode(part))


def test_envelope_with_a_prefix_is_never_tried_without_its_associated_data() -> None:
    """P51: the same ciphertext, sealed without, opens in the older form only."""
    sample = SAMPLES["no prefix, key id and version, but no associated data"]
    keys = keys_of(sample)
    envelope = envelope_of(sample)
    assert keys.open(envelope).reveal() == sample["plaintext"].encode()
    with pytest.raises(CannotOpen):
        keys.open(attrs.evolve(envelope, prefixed=True))


# --- which key ------------------------------------------------------------------------------------------------------


def test_key_is_chosen_by_the_id_and_version_that_the_envelope_names() -> None:
    """P54c: another key with the right material is not tried."""
    envelope = envelope_of(SAMPLES["a key of 32 bytes"])
    others = [key(id="other"), key(version=2), key(id="other", version=2)]
    assert GoKeys([*others, key()]).open(envelope)
    with pytest.raises(KeyNotFound) as caught:
        GoKeys(others).open(envelope)
    assert str(caught.value) == (
        "It needs key 'app-key' (version 1) of the Go system, and secrets.appkey.go_keys has 'other' (version 1), "
        "'app-key' (version 2), 'other' (version 2). Add the key to secrets.appkey.go_keys, with the id and version "
        "that the Go system has for it."
    )
    assert caught.value.field == "secrets.appkey.go_keys"


def test_without_any_key_the_setting_is_named() -> None:
    with pytest.raises(KeyNotFound, match=r"'app-key' \(version 1\).*secrets\.appkey\.go_keys has none"):
        GoKeys(()).open(envelope_of(SAMPLES["a key of 32 bytes"]))


def test_older_form_without_a_key_id_opens_under_whichever_key_it_was_sealed_with() -> None:
    sample = SAMPLES["no prefix, only nonce and ciphertext"]
    keys = GoKeys([key("another passphrase", id="first"), key(id="second", version=4)], without_prefix=True)
    assert keys.open(envelope_of(sample)).reveal() == sample["plaintext"].encode()
    with pytest.raises(CannotOpen):
        GoKeys([key("another passphrase")], without_prefix=True).open(envelope_of(sample))


def test_older_form_with_a_version_alone_goes_by_that() -> None:
    envelope = envelope_of(SAMPLES["no prefix, no key id, no associated data"])
    with pytest.raises(KeyNotFound):
        GoKeys([key(version=2)], without_prefix=True).open(envelope)


@pytest.mark.parametrize("algorithm", ["kms", "vault", "aes-128-gcm"])
def test_other_algorithm_is_named(algorithm: str) -> None:
    envelope = attrs.evolve(envelope_of(SAMPLES["a key of 32 bytes"]), algorithm=algorithm)
    with pytest.raises(KeyNotFound, match=f"'{algorithm}'"):
        GoKeys([key()]).open(envelope)


# --- the settings ---------------------------------------------------------------------------------------------------


def read(**table: Any) -> tuple[GoKey | None, list[str]]:
    reader = Reader(origin=lambda _: "file", folder=Path(), resolve=lambda text: SecretStr(f"value of {text}"))
    made = reader.value(tuple[GoKey, ...], [table], ("secrets", "appkey", "go_keys"))
    return (made[0] if isinstance(made, tuple) else None), reader.problems


def test_key_is_read_from_a_table_with_the_defaults_of_the_go_system() -> None:
    made, problems = read(material="env:GO_KEY")
    assert problems == []
    assert made == GoKey(id="app-key", version=1, material=SecretStr("value of env:GO_KEY"), encoding="text")
    assert "env" not in repr(made)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "material"),
        ({"material": "env:K", "id": ""}, "go_keys.id"),
        ({"material": "env:K", "id": " app-key"}, "go_keys.id"),
        ({"material": "env:K", "id": "k" * 513}, "go_keys.id"),
        ({"material": "env:K", "version": 0}, "go_keys.version"),
        ({"material": "env:K", "version": 1 << 31}, "go_keys.version"),
        ({"material": "env:K", "version": "1"}, "version"),
        ({"material": "env:K", "encoding": "hex"}, "encoding"),
        ({"material": "env:K", "key": "x"}, "key"),
    ],
    ids=str,
)
def test_table_that_cannot_be_used_is_refused_with_the_name_of_the_setting(table: dict[str, Any], said: str) -> None:
    _, problems = read(**table)
    assert len(problems) == 1
    assert said in problems[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([key(), key("other")], r"go_keys\.1 has the id 'app-key' and version 1 of another one"),
        ([key(), key("", id="b")], r"go_keys\.1\.material is empty"),
        ([key(" \n\t\u3000")], r"go_keys\.0\.material is empty"),
        ([key("", encoding="base64")], r"go_keys\.0\.material is empty"),
        ([key("ICAg", encoding="base64")], r"go_keys\.0\.material is empty"),
        ([key("hunter2-hunter2!", encoding="base64")], r"go_keys\.0\.material is not valid base64"),
        ([key("hunter2\ud800")], r"go_keys\.0\.material is not valid text"),
    ],
    ids=str,
)
def test_material_that_cannot_be_used_is_refused_without_showing_it(given: list[GoKey], said: str) -> None:
    with pytest.raises(KeyInvalid, match=said) as caught:
        GoKeys(given)
    assert caught.value.plugin == "secrets-appkey"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "same",
    [
        key(f"  {MATERIAL}\n"),
        key(f"\u2003\x85{MATERIAL}\xa0\u3000\v\f"),
        key(b64encode(MATERIAL.encode()).decode(), encoding="base64"),
        key(b64encode(f"\n{MATERIAL} ".encode()).decode() + "\n", encoding="base64"),
    ],
    ids=["spaces", "white space beyond ASCII", "base64", "white space inside base64"],
)
def test_white_space_around_material_is_no_part_of_it(same: GoKey) -> None:
    assert GoKeys([same]).open(envelope_of(SAMPLES["a key of 32 bytes"]))


@pytest.mark.parametrize("around", ["\x1c", "\x1f", "\0", "\u200b"])
def test_what_go_does_not_take_for_white_space_is_part_of_the_material(around: str) -> None:
    with pytest.raises(CannotOpen):
        GoKeys([key(f"{MATERIAL}{around}")]).open(envelope_of(SAMPLES["a key of 32 bytes"]))


def test_bytes_of_an_environment_variable_are_the_material() -> None:
    """An environment variable that is not UTF-8 is text with surrogates in Python (PEP 383)."""
    sample = SAMPLES["a binary key"]
    raw = bytes((200 + n) % 256 for n in range(32))
    assert GoKeys([key(raw.decode("utf-8", "surrogateescape"))]).open(envelope_of(sample))


# --- secrecy --------------------------------------------------------------------------------------------------------


def test_keys_are_not_shown_nor_copied() -> None:
    keys = GoKeys([key()])
    assert MATERIAL not in repr(keys)
    assert "app-key" in repr(keys)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            leave(keys)


def test_no_frame_of_an_error_holds_plaintext_or_material() -> None:
    seen = ""
    for name in REFUSED:
        try:
            keys_of(SAMPLES[name]).open(envelope_of(SAMPLES[name]))
        except SecretError as error:
            frames = traceback.walk_tb(error.__traceback__)
            ours = [frame for frame, _ in frames if frame.f_code.co_filename == go_keys.__file__]
            seen += repr([frame.f_locals for frame in ours])
    assert "AESGCM" in seen
    assert MATERIAL not in seen
    assert "token of" not in seen


def test_settings_need_no_cryptography() -> None:
    code = "import sys, go_services_secrets_appkey.go_keys; print([n for n in sys.modules if 'cryptography' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
