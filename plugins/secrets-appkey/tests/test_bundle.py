"""Export bundles: each way of tampering has an error of its own, and gives nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from go_services_core.errors import (
    BundleChanged,
    BundleInvalid,
    BundleKeyWrong,
    BundleReordered,
    BundleTruncated,
    KeyInvalid,
)
from go_services_core.secret import SecretStr
from go_services_secrets_appkey import bundle as module
from go_services_secrets_appkey.bundle import Bundles
from go_services_secrets_appkey.key import generate_key, parse_key
from go_services_secrets_appkey.passphrase import ScryptParameters

from .conftest import PASSPHRASE
from .texts import WEAK

KEY = generate_key()
RECORDS = [b"first record", b"", b"third " + bytes(range(256)) * 9]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase costs less here; that today's parameters are used is a test of its own."""
    monkeypatch.setattr(module, "current_parameters", lambda: WEAK)


def opened(bundle: bytes, key: SecretStr = KEY) -> list[bytes]:
    return [record.reveal() for record in Bundles().open(bundle, key)]


@pytest.mark.parametrize("records", [[], [b""], RECORDS])
@pytest.mark.parametrize("key", [KEY, SecretStr(PASSPHRASE)], ids=["key", "passphrase"])
def test_bundle_gives_back_its_records(records: list[bytes], key: SecretStr) -> None:
    bundle = Bundles().seal(iter(records), key)
    assert opened(bundle, key) == records
    assert not any(record and record in bundle for record in records)
    assert bundle.isascii()
    assert Bundles().seal(records, key) != bundle


def test_bundle_is_what_the_format_says() -> None:
    """Opened by hand, as docs/reference/export-bundle.md describes it."""
    head, *lines = Bundles().seal(RECORDS, KEY).splitlines()
    fields = json.loads(head)
    assert (fields["bundle"], fields["version"], fields["scrypt"]) == ("go-services", 1, None)
    key, salt = parse_key(KEY, field="key").reveal(), base64.b64decode(fields["salt"])

    def derived(label: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=salt, info=label).derive(key)

    assert base64.b64decode(fields["check"]) == derived(b"go-services/bundle/1/commit")
    gcm, bound = AESGCM(derived(b"go-services/bundle/1/encrypt")), hashlib.sha256(head).digest()
    assert [line.split(b" ")[0] for line in lines] == [b"0", b"1", b"2", b"end"]
    found = [
        gcm.decrypt(place.to_bytes(11, "big") + bytes([place == 3]), base64.b64decode(line.split(b" ")[1]), bound)
        for place, line in enumerate(lines)
    ]
    assert found == [*RECORDS, b""]


def test_passphrase_is_stretched_with_todays_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    fields = json.loads(Bundles().seal([], SecretStr(PASSPHRASE)).splitlines()[0])
    assert (fields["scrypt"]["n"], fields["scrypt"]["r"], fields["scrypt"]["p"]) == (1 << 17, 8, 1)


Tamper = Callable[[list[bytes]], list[bytes]]


def moved(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def relabelled(lines: list[bytes]) -> list[bytes]:
    """Two records exchanged, and their numbers with them."""
    return [lines[0], b"0" + lines[2][1:], b"1" + lines[1][1:], *lines[3:]]


def flipped(lines: list[bytes]) -> list[bytes]:
    label, sealed = lines[3].split(b" ")
    raw = bytearray(base64.b64decode(sealed))
    raw[5] ^= 1
    return [*lines[:3], label + b" " + base64.b64encode(raw), lines[4]]


def spliced(lines: list[bytes]) -> list[bytes]:
    other = Bundles().seal(RECORDS, KEY).splitlines()
    return [*lines[:2], other[2], *lines[3:]]


def other_end(lines: list[bytes]) -> list[bytes]:
    return [*lines[:4], Bundles().seal(RECORDS, KEY).splitlines()[4]]


def header_of_another(lines: list[bytes]) -> list[bytes]:
    return [Bundles().seal(RECORDS, KEY).splitlines()[0], *lines[1:]]


def padded_header(lines: list[bytes]) -> list[bytes]:
    return [lines[0][:-1] + b', "more": 1}', *lines[1:]]


TAMPERED: list[tuple[Tamper, type[BundleInvalid]]] = [
    (moved, BundleReordered),
    (relabelled, BundleChanged),
    (lambda lines: [*lines[:2], lines[1], *lines[2:]], BundleReordered),
    (lambda lines: [*lines[:2], *lines[3:]], BundleReordered),
    (lambda lines: lines[:4], BundleTruncated),
    (lambda lines: lines[:1], BundleTruncated),
    (lambda lines: [*lines[:3], lines[4]], BundleTruncated),
    (other_end, BundleTruncated),
    (flipped, BundleChanged),
    (spliced, BundleChanged),
    (lambda lines: [*lines[:3], b"2 ####", lines[4]], BundleChanged),
    (lambda lines: [*lines, lines[4]], BundleChanged),
    (lambda lines: [*lines, b""], BundleChanged),
    (header_of_another, BundleChanged),
    (padded_header, BundleChanged),
    (lambda lines: lines[1:], BundleInvalid),
    (lambda lines: [], BundleInvalid),
    (lambda lines: [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]], BundleInvalid),
    (lambda lines: [lines[0].replace(b"go-services", b"other"), *lines[1:]], BundleInvalid),
    (lambda lines: [b"[" * 5000, *lines[1:]], BundleInvalid),
    (lambda lines: [b"\xff", *lines[1:]], BundleInvalid),
]


@pytest.mark.parametrize(("tamper", "error"), TAMPERED)
def test_tampering_is_refused_with_its_own_error(tamper: Tamper, error: type[BundleInvalid]) -> None:
    lines = Bundles().seal(RECORDS, KEY).splitlines()
    with pytest.raises(BundleInvalid) as refused:
        opened(b"".join(line + b"\n" for line in tamper(lines)))
    assert type(refused.value) is error


def test_every_truncation_is_refused() -> None:
    bundle = Bundles().seal(RECORDS[:2], KEY)
    for size in range(len(bundle)):
        with pytest.raises(BundleInvalid):
            opened(bundle[:size])


def test_end_that_was_cut_short_is_truncation() -> None:
    with pytest.raises(BundleTruncated):
        opened(Bundles().seal(RECORDS, KEY)[:-1])


@pytest.mark.parametrize(
    ("made", "given"),
    [
        (KEY, generate_key()),
        (SecretStr(PASSPHRASE), SecretStr(PASSPHRASE + " oyster")),
        (KEY, SecretStr(PASSPHRASE)),
        (SecretStr(PASSPHRASE), KEY),
    ],
)
def test_wrong_key_is_told_from_tampering(made: SecretStr, given: SecretStr) -> None:
    with pytest.raises(BundleKeyWrong) as refused:
        opened(Bundles().seal(RECORDS, made), given)
    assert given.reveal() not in str(refused.value)


@pytest.mark.parametrize("key", ["short", "aaaaaaaaaaaaaaaaaaaaaaaaa", " " + PASSPHRASE, "gsk1_damaged"])
def test_weak_passphrase_and_damaged_key_are_refused(key: str) -> None:
    with pytest.raises(KeyInvalid) as refused:
        Bundles().seal(RECORDS, SecretStr(key))
    assert key.strip() not in str(refused.value)


def rewritten(bundle: bytes, **scrypt: Any) -> bytes:
    head, rest = bundle.split(b"\n", 1)
    fields = json.loads(head)
    fields["scrypt"].update(scrypt)
    return json.dumps(fields).encode() + b"\n" + rest


@pytest.mark.parametrize(
    "scrypt",
    [{"n": 1 << 30}, {"n": 2}, {"n": "131072"}, {"r": 1 << 20}, {"p": 1000}, {"salt": "AAAA"}, {"salt": "#"}],
    ids=repr,
)
def test_parameters_that_are_weak_or_cost_too_much_are_refused_before_they_are_used(scrypt: dict[str, Any]) -> None:
    bundle = Bundles().seal(RECORDS, SecretStr(PASSPHRASE))
    with pytest.raises(BundleInvalid) as refused:
        opened(rewritten(bundle, **scrypt), SecretStr(PASSPHRASE))
    assert type(refused.value) is BundleInvalid


def test_other_parameters_are_another_key() -> None:
    stronger = ScryptParameters(n=WEAK.n * 2, r=WEAK.r, p=WEAK.p, salt=WEAK.salt)
    bundle = rewritten(Bundles().seal(RECORDS, SecretStr(PASSPHRASE)), n=stronger.n)
    with pytest.raises(BundleKeyWrong):
        opened(bundle, SecretStr(PASSPHRASE))
