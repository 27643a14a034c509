"""What opens, and what must not (pitfalls P50, P51)."""

from __future__ import annotations

import copy
import hashlib
import hmac
import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.clock import SystemClock
from go_services_core.errors import BackendUnavailable, BadInput, CannotOpen, KeyInvalid, KeyNotFound
from go_services_core.model import Binding, KeyRef, Scope, Sealed
from go_services_core.sealing import DataKey
from go_services_core.secret import SecretBytes
from go_services_core.wrapping_keys import SealedRow
from go_services_envelope import Sealer, keys

BINDING = Binding(
    purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1", record_version=3
)
SECRET = b"the access token that nobody may see"


def row(sealed: Sealed, n: int = 1) -> SealedRow:
    return SealedRow(
        kind="credential", id=str(n), provider_id="github", scope=Scope("user", "u1"), record_id=f"r-{n}", sealed=sealed
    )


def sealer(backend: Any, **kwargs: Any) -> Sealer:
    arguments: dict[str, Any] = {"store_id": "store-1", "clock": SystemClock()} | kwargs
    return Sealer(backend, **arguments)


@pytest.mark.parametrize("plaintext", [b"", b"x", SECRET, os.urandom(64 * 1024), bytes(1 << 25)], ids=len)
async def test_what_was_sealed_opens_for_a_sealer_that_has_no_key_yet(backend: Any, plaintext: bytes) -> None:
    sealed = await sealer(backend).seal(plaintext, BINDING)

    opened = await sealer(backend).open(sealed, BINDING)

    assert opened == SecretBytes(plaintext)
    assert sealed.key == backend.primary
    assert not plaintext or len(plaintext) < 8 or plaintext not in sealed.ciphertext


async def test_equal_plaintexts_give_different_ciphertexts(backend: Any) -> None:
    one = sealer(backend)
    assert len({(await one.seal(SECRET, BINDING)).ciphertext[-60:] for _ in range(200)}) == 200


@pytest.mark.parametrize(
    "moved",
    [
        {"record_id": "r-2"},
        {"record_version": 4},
        {"purpose": "attempt"},
        {"provider_id": "gitlab"},
        {"scope": Scope("user", "u2")},
        {"scope": Scope("org", "u1")},
        {"scope": None},
        {"purpose": "credentialgithub", "provider_id": ""},
        {"provider_id": "githu", "purpose": "credentialb"},
    ],
    ids=str,
)
async def test_ciphertext_that_moved_to_another_record_does_not_open(backend: Any, moved: dict[str, Any]) -> None:
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    for reader in (one, sealer(backend)):
        with pytest.raises(CannotOpen):
            await reader.open(sealed, attrs.evolve(BINDING, **moved))


async def test_record_without_scope_opens_only_without_scope(backend: Any) -> None:
    nobody = attrs.evolve(BINDING, scope=None)
    sealed = await sealer(backend).seal(SECRET, nobody)
    assert await sealer(backend).open(sealed, nobody) == SecretBytes(SECRET)
    with pytest.raises(CannotOpen):
        await sealer(backend).open(sealed, BINDING)


async def test_ciphertext_of_another_store_does_not_open(backend: Any) -> None:
    sealed = await sealer(backend).seal(SECRET, BINDING)
    with pytest.raises(CannotOpen):
        await sealer(backend, store_id="store-2").open(sealed, BINDING)


async def test_binding_is_authenticated_even_where_the_data_key_is_shared(backend: Any) -> None:
    """Two records of a scope share a data key, so only the payload's associated data keeps them apart."""
    one = sealer(backend)
    first = await one.seal(b"first", BINDING)
    second = await one.seal(b"second", attrs.evolve(BINDING, record_id="r-2"))
    assert backend.calls == ["generate"]
    with pytest.raises(CannotOpen):
        await one.open(second, BINDING)
    assert await one.open(first, BINDING) == SecretBytes(b"first")


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
async def test_no_byte_of_the_envelope_can_be_changed(backend: Any, mask: int) -> None:
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    for reader in (one, sealer(backend)):
        for at in range(len(sealed.ciphertext)):
            changed = bytearray(sealed.ciphertext)
            changed[at] ^= mask
            with pytest.raises(CannotOpen) as caught:
                await reader.open(Sealed(bytes(changed), sealed.key), BINDING)
            assert caught.value.__cause__ is None
            assert SECRET.decode() not in "".join(traceback.format_exception(caught.value))


async def test_every_damage_gives_the_same_message(backend: Any) -> None:
    sealed = await sealer(backend).seal(SECRET, BINDING)
    messages = set()
    for at in range(len(sealed.ciphertext)):
        changed = bytearray(sealed.ciphertext)
        changed[at] ^= 0x55
        with pytest.raises(CannotOpen) as caught:
            await sealer(backend).open(Sealed(bytes(changed), sealed.key), BINDING)
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert "r-1" in messages.pop()


async def test_no_part_of_an_envelope_opens(backend: Any) -> None:
    sealed = await sealer(backend).seal(SECRET, BINDING)
    for size in range(len(sealed.ciphertext)):
        for part in (sealed.ciphertext[:size], sealed.ciphertext[size + 1 :]):
            with pytest.raises(CannotOpen):
                await sealer(backend).open(Sealed(part, sealed.key), BINDING)
    with pytest.raises(CannotOpen):
        await sealer(backend).open(Sealed(sealed.ciphertext + b"\x00", sealed.key), BINDING)


class Refusing:
    """A backend that may not be asked at all."""

    id = "memory"

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        raise CannotOpen


@given(st.binary(max_size=400), st.booleans())
async def test_arbitrary_bytes_never_open_and_never_crash(noise: bytes, framed: bool) -> None:
    data = b"\x8bGSE\x02" + noise if framed else noise
    with pytest.raises(CannotOpen):
        await sealer(Refusing()).open(Sealed(data, KeyRef("memory", "k1", 1)), BINDING)


@pytest.mark.parametrize("field", ["backend", "key_id", "key_version"])
async def test_row_and_envelope_must_name_the_same_key(backend: Any, field: str) -> None:
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    change: dict[str, Any] = {field: 9 if field == "key_version" else "other"}
    other = attrs.evolve(sealed.key, **change)
    for reader in (one, sealer(backend)):
        with pytest.raises(CannotOpen):
            await reader.open(Sealed(sealed.ciphertext, other), BINDING)
    assert "unwrap" not in backend.calls


async def test_key_that_is_gone_is_told_apart_from_damage(backend: Any) -> None:
    sealed = await sealer(backend).seal(SECRET, BINDING)
    backend.keys.clear()
    with pytest.raises(KeyNotFound):
        await sealer(backend).open(sealed, BINDING)


async def test_backend_that_is_down_is_told_apart_from_damage(backend: Any) -> None:
    sealed = await sealer(backend).seal(SECRET, BINDING)
    backend.down = True
    with pytest.raises(BackendUnavailable):
        await sealer(backend).open(sealed, BINDING)
    with pytest.raises(BackendUnavailable):
        await sealer(backend).seal(SECRET, BINDING)
    backend.down = False
    assert await sealer(backend).open(sealed, BINDING) == SecretBytes(SECRET)


def multiply(x: int, y: int) -> int:
    """GF(2**128) as GHASH has it (NIST SP 800-38D §6.3): bit 0 is the most significant."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def inverse(x: int) -> int:
    result, power = 1 << 127, x  # x ** (2**128 - 2)
    for _ in range(127):
        power = multiply(power, power)
        result = multiply(result, power)
    return result


def under_two_keys(first: bytes, second: bytes, nonce: bytes, associated_data: bytes) -> bytes:
    """One ciphertext block and a tag that AES-256-GCM accepts under both keys.

    tag = E(J0) + GHASH, and the ciphertext block X enters GHASH as X·H²; equating both tags gives X.
    """
    blocks = [associated_data[at : at + 16].ljust(16, b"\0") for at in range(0, len(associated_data), 16)]
    lengths = (len(associated_data) * 8 << 64 | 128).to_bytes(16, "big")
    tags, squares = [], []
    for key in (first, second):
        encrypt = Cipher(AES(key), ECB()).encryptor().update
        h = int.from_bytes(encrypt(bytes(16)), "big")
        value = 0
        for block in (*blocks, bytes(16), lengths):
            value = multiply(value ^ int.from_bytes(block, "big"), h)
        tags.append(value ^ int.from_bytes(encrypt(nonce + b"\0\0\0\1"), "big"))
        squares.append(multiply(h, h))
    crafted = multiply(tags[0] ^ tags[1], inverse(squares[0] ^ squares[1]))
    return crafted.to_bytes(16, "big") + (tags[0] ^ multiply(crafted, squares[0])).to_bytes(16, "big")


def derive(data_key: bytes, label: bytes) -> bytes:
    """HKDF-SHA256 without salt, one block (RFC 5869 §2), by hand."""
    return hmac.digest(hmac.digest(bytes(32), data_key, "sha256"), label + b"\x01", "sha256")


async def test_ciphertext_made_to_open_under_two_keys_opens_only_under_the_committed_one(backend: Any) -> None:
    one = sealer(backend)
    mine = await one.seal(SECRET, BINDING)
    theirs = await one.seal(SECRET, attrs.evolve(BINDING, scope=Scope("user", "u2")))
    data_keys = [made.plaintext.reveal() for made in backend.generated]
    payload_keys = [derive(data_key, keys.ENCRYPT) for data_key in data_keys]
    nonce, bound = bytes(12), documented_associated_data(BINDING)
    crafted = under_two_keys(payload_keys[0], payload_keys[1], nonce, bound)
    plaintexts = [AESGCM(key).decrypt(nonce, crafted, bound) for key in payload_keys]
    assert plaintexts[0] != plaintexts[1]

    def envelope(sealed: Sealed, committed_to: bytes) -> Sealed:
        head = sealed.ciphertext[: -(12 + 32 + len(SECRET) + 16)]
        return Sealed(head + nonce + derive(committed_to, keys.COMMIT) + crafted, sealed.key)

    assert await one.open(envelope(mine, data_keys[0]), BINDING) == SecretBytes(plaintexts[0])
    with pytest.raises(CannotOpen):
        await one.open(envelope(mine, data_keys[1]), BINDING)
    with pytest.raises(CannotOpen):
        await one.open(envelope(theirs, data_keys[0]), BINDING)


async def test_commitment_is_compared_before_anything_is_decrypted(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched:
        def __init__(self, key: bytes) -> None:
            self._real = AESGCM(key)
            self.encrypt = self._real.encrypt

        def decrypt(self, *args: bytes) -> bytes:
            decrypted.append(args)
            return self._real.decrypt(*args)

    decrypted: list[tuple[bytes, ...]] = []
    monkeypatch.setattr(keys, "AESGCM", Watched)
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    start = len(sealed.ciphertext) - (32 + len(SECRET) + 16)
    for at in range(start, start + 32):
        changed = bytearray(sealed.ciphertext)
        changed[at] ^= 1
        with pytest.raises(CannotOpen):
            await one.open(Sealed(bytes(changed), sealed.key), BINDING)
    assert decrypted == []
    await one.open(sealed, BINDING)
    assert len(decrypted) == 1


def documented_associated_data(binding: Binding) -> bytes:
    """The table of docs/reference/envelope.md, written down a second time."""

    def sized(value: bytes) -> bytes:
        return len(value).to_bytes(4, "big") + value

    scope = b"\x00"
    if binding.scope is not None:
        scope = b"\x01" + sized(binding.scope.type.encode()) + sized(binding.scope.id.encode())
    parts = [b"go-services/envelope/2", binding.purpose.encode(), b"store-1", binding.provider_id.encode(), scope]
    parts += [binding.record_id.encode(), binding.record_version.to_bytes(8, "big")]
    return b"".join(map(sized, parts))


@pytest.mark.parametrize("scope", [Scope("user", "ü1"), Scope("org", "o"), None], ids=str)
async def test_envelope_opens_by_the_documented_steps_alone(backend: Any, scope: Scope | None) -> None:
    binding = attrs.evolve(BINDING, scope=scope)
    data = (await sealer(backend).seal(SECRET, binding)).ciphertext
    made = backend.generated[0]

    assert data[:5] == b"\x8bGSE\x02"
    size = int.from_bytes(data[5:7], "big")
    section, payload = data[7 : 7 + size], data[7 + size :]
    assert section == (
        b"\x00\x06memory" + b"\x00\x02k1" + b"\x00\x00\x00\x01" + len(made.wrapped).to_bytes(2, "big") + made.wrapped
    )
    nonce, commitment, ciphertext = payload[:12], payload[12:44], payload[44:]
    data_key = made.plaintext.reveal()
    assert commitment == derive(data_key, b"go-services/envelope/2/commit")
    key = AESGCM(derive(data_key, b"go-services/envelope/2/encrypt"))
    assert key.decrypt(nonce, ciphertext, documented_associated_data(binding)) == SECRET
    bound = documented_associated_data(binding)
    place = bound[bound.index(b"\x00\x00\x00\x07store-1") : bound.index(b"\x00\x00\x00\x03r-1")]
    assert backend.contexts == [hashlib.sha256(place).digest()]


async def test_context_shows_no_scope_in_clear(backend: Any) -> None:
    await sealer(backend).seal(SECRET, BINDING)
    assert [len(context) for context in backend.contexts] == [32]
    assert b"u1" not in backend.contexts[0]


async def test_rewrap_changes_the_wrapping_and_not_one_byte_of_the_payload(backend: Any) -> None:
    sealed = await sealer(backend).seal(SECRET, BINDING)
    old = backend.primary
    backend.rotate()

    (rewrapped,) = await sealer(backend).rewrap([row(sealed)])

    assert isinstance(rewrapped, Sealed)
    assert backend.calls == ["generate", "rewrap"]
    assert rewrapped.key == backend.primary != sealed.key
    payload = 12 + 32 + len(SECRET) + 16
    assert rewrapped.ciphertext[-payload:] == sealed.ciphertext[-payload:]
    assert await sealer(backend).open(sealed, BINDING) == SecretBytes(SECRET)
    del backend.keys[old]
    assert await sealer(backend).open(rewrapped, BINDING) == SecretBytes(SECRET)
    with pytest.raises(CannotOpen):
        await sealer(backend).open(rewrapped, attrs.evolve(BINDING, record_id="r-2"))


async def test_rewrap_refuses_another_scope_another_key_and_damage(backend: Any) -> None:
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    elsewhere = attrs.evolve(row(sealed), scope=Scope("user", "u2"))
    renamed = row(Sealed(sealed.ciphertext, KeyRef("memory", "k1", 9)))
    damaged = row(Sealed(b"\x8bGSE\x02", sealed.key))
    answers = await one.rewrap([elsewhere, renamed, row(sealed), damaged])
    assert [type(answer) for answer in answers] == [CannotOpen, CannotOpen, Sealed, CannotOpen]


async def test_rows_of_one_data_key_are_wrapped_once_and_keep_sharing_it(backend: Any) -> None:
    one = sealer(backend)
    rows = [row(await one.seal(SECRET, attrs.evolve(BINDING, record_id=f"r-{n}")), n) for n in range(3)]
    backend.rotate()
    answers = await one.rewrap(rows)
    assert backend.calls == ["generate", "rewrap"]
    heads = {answer.ciphertext[: -(12 + 32 + len(SECRET) + 16)] for answer in answers if isinstance(answer, Sealed)}
    assert len(heads) == 1
    for n, answer in enumerate(answers):
        assert isinstance(answer, Sealed)
        opened = await sealer(backend).open(answer, attrs.evolve(BINDING, record_id=f"r-{n}"))
        assert opened == SecretBytes(SECRET)


async def test_stand_ins_data_key_is_told_before_it_seals(backend: Any) -> None:
    told: list[KeyRef] = []

    async def on_stand_in(key: KeyRef) -> None:
        told.append(key)

    async def generate(context: bytes) -> DataKey:
        return attrs.evolve(await type(backend).generate(backend, context), stand_in=True)

    backend.generate = generate
    one = Sealer(backend, store_id="store-1", clock=SystemClock(), on_stand_in=on_stand_in)
    await one.seal(SECRET, BINDING)
    await one.seal(SECRET, BINDING)
    assert told == [backend.primary]


@pytest.mark.parametrize(
    "wrong",
    [
        {"purpose": ""},
        {"record_id": ""},
        {"record_version": -1},
        {"record_version": 1 << 63},
        {"record_id": "x" * 1025},
        {"provider_id": "x" * 1025},
        {"scope": Scope("user", "x" * 1025)},
        {"record_id": "\ud800"},
    ],
    ids=lambda wrong: str(wrong)[:40].encode("ascii", "replace").decode(),
)
async def test_binding_outside_the_limits_is_refused_before_the_backend_is_asked(
    backend: Any, wrong: dict[str, Any]
) -> None:
    one = sealer(backend)
    with pytest.raises(BadInput):
        await one.seal(SECRET, attrs.evolve(BINDING, **wrong))
    assert backend.calls == []
    sealed = await one.seal(SECRET, BINDING)
    with pytest.raises(BadInput):
        await one.open(sealed, attrs.evolve(BINDING, **wrong))


async def test_plaintext_over_the_limit_is_refused(backend: Any) -> None:
    with pytest.raises(BadInput, match="33554432"):
        await sealer(backend).seal(bytes((1 << 25) + 1), BINDING)
    assert backend.calls == []


@pytest.mark.parametrize(
    "answer",
    [
        {"wrapped": b""},
        {"wrapped": bytes(8193)},
        {"key": KeyRef("memory", "", 1)},
        {"key": KeyRef("memory", "k" * 513, 1)},
        {"key": KeyRef("memory", "k1", 0)},
        {"plaintext": SecretBytes(bytes(16))},
    ],
    ids=lambda answer: next(iter(answer)),
)
async def test_data_key_that_does_not_fit_is_refused(backend: Any, answer: dict[str, Any]) -> None:
    generate = backend.generate

    async def misfit(context: bytes) -> Any:
        return attrs.evolve(await generate(context), **answer)

    backend.generate = misfit
    with pytest.raises(KeyInvalid):
        await sealer(backend).seal(SECRET, BINDING)


async def test_nothing_prints_pickles_or_copies_a_key(backend: Any) -> None:
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    opened = await one.open(sealed, BINDING)
    data_key = backend.generated[0].plaintext.reveal()
    shown = repr([one, vars(one), one._keys.latest(backend.contexts[0]), sealed, opened, backend.generated[0]])
    for secret in (SECRET, data_key, derive(data_key, keys.ENCRYPT)):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    known = keys.KnownKey(SecretBytes(data_key), sealed.key, b"", b"", until=0)
    for guarded in (one, opened, known):
        with pytest.raises(TypeError):
            pickle.dumps(guarded)
    for guarded in (one, known):
        with pytest.raises(TypeError):
            copy.deepcopy(guarded)


async def test_example_of_the_reference_page_opens() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "envelope.md"
    example = page.read_text(encoding="utf-8").rpartition("```text\n")[2].partition("```")[0]

    class Example:
        id = "memory"

        async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
            assert (wrapped, key) == (b"wrapped", KeyRef("memory", "k1", 1))
            return SecretBytes(bytes(range(32)))

    sealed = Sealed(bytes.fromhex(example), KeyRef("memory", "k1", 1))
    assert await sealer(Example()).open(sealed, BINDING) == SecretBytes(b"token")
