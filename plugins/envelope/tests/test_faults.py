"""Damaged, moved and hostile envelopes: refused with a typed error that shows nothing (pitfalls P50, P51, P54c)."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Iterator
from typing import Any, Final

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from go_services_core.errors import BackendUnavailable, BadInput, CannotOpen, KeyInvalid, KeyNotFound
from go_services_core.model import Binding, KeyRef, Scope, Sealed
from go_services_core.secret import SecretBytes
from go_services_core.testing.clock import FrozenClock
from go_services_envelope import Sealer
from go_services_envelope.format import located, unpack_head

BINDING: Final = Binding(
    purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1", record_version=3
)
SECRET: Final = b"gho_the-access-token-that-nobody-may-see"
SHORT_KEY: Final = b"sixteen-byte-key"
MASKS: Final = (0x01, 0x80)
FIELDS: Final = (
    "magic",
    "version",
    "section size",
    "backend size",
    "backend",
    "key id size",
    "key id",
    "key version",
    "wrapped size",
    "wrapped",
    "nonce",
    "commitment",
    "ciphertext",
    "tag",
)


def sealer(backend: Any, store_id: str = "store-1") -> Sealer:
    return Sealer(backend, store_id=store_id, clock=FrozenClock())


def spans(envelope: bytes) -> dict[str, range]:
    """Where each field of docs/reference/envelope.md stands."""
    found: dict[str, range] = {}
    at = 0

    def take(name: str, size: int) -> bytes:
        nonlocal at
        found[name] = range(at, at + size)
        at += size
        return envelope[at - size : at]

    for name, size in (("magic", 4), ("version", 1), ("section size", 2)):
        take(name, size)
    for name in ("backend", "key id"):
        take(name, int.from_bytes(take(f"{name} size", 2), "big"))
    take("key version", 4)
    take("wrapped", int.from_bytes(take("wrapped size", 2), "big"))
    for name, size in (("nonce", 12), ("commitment", 32), ("ciphertext", len(envelope) - at - 60), ("tag", 16)):
        take(name, size)
    assert at == len(envelope)
    assert tuple(found) == FIELDS
    return found


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that hangs on it, whether or not it would be printed."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [other for other in (one.__cause__, one.__context__) if other is not None]


def shown(error: BaseException) -> str:
    """Everything that a log, a report of errors or a debugger could print of an error."""
    parts = []
    for one in chain(error):
        parts += [repr(one), str(one), repr(one.args), repr(getattr(one, "__notes__", ())), repr(vars(one))]
        parts += traceback.TracebackException.from_exception(one, capture_locals=True).format()
    return "\n".join(parts)


def assert_hidden(error: BaseException, *secrets: bytes) -> None:
    text = shown(error)
    assert "Traceback" in text
    for secret in secrets:
        for form in (
            repr(secret)[2:-1],
            secret.decode("latin-1"),
            secret.hex(),
            base64.b64encode(secret).decode().rstrip("="),
            base64.urlsafe_b64encode(secret).decode().rstrip("="),
            repr(list(secret)),
        ):
            assert form not in text


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("row_agrees", [False, True], ids=["row-names-the-true-key", "row-names-what-is-there"])
async def test_no_byte_of_a_field_can_be_changed(backend: Any, field: str, row_agrees: bool) -> None:
    """P50. Who can write the database can change the row's key reference along with the envelope."""
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    for at in spans(sealed.ciphertext)[field]:
        for mask in MASKS:
            changed = bytearray(sealed.ciphertext)
            changed[at] ^= mask
            forged = Sealed(bytes(changed), named_in(bytes(changed), sealed.key) if row_agrees else sealed.key)
            for reader in (one, sealer(backend)):
                with pytest.raises((CannotOpen, KeyNotFound)) as caught:
                    await reader.open(forged, BINDING)
                assert_hidden(caught.value, SECRET, backend.generated[0].plaintext.reveal())
    assert await one.open(sealed, BINDING) == SecretBytes(SECRET)


def named_in(envelope: bytes, otherwise: KeyRef) -> KeyRef:
    try:
        return unpack_head(envelope[: 7 + int.from_bytes(envelope[5:7], "big")]).key
    except ValueError:
        return otherwise


async def test_an_envelope_of_another_length_does_not_open(backend: Any) -> None:
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    whole = sealed.ciphertext
    others = [whole[:size] for size in range(len(whole))]
    others += [whole[start:] for start in range(1, len(whole))]
    others += [whole + bytes(size) for size in range(1, len(whole))]
    others += [whole + whole[:size] for size in range(1, len(whole) + 1)]
    others += [whole[:at] + b"\x00" + whole[at:] for at in range(len(whole))]
    for number, other in enumerate(others):
        for reader in (one, sealer(backend)):
            with pytest.raises(CannotOpen) as caught:
                await reader.open(Sealed(other, sealed.key), BINDING)
        if number % 25 == 0:
            assert_hidden(caught.value, SECRET, backend.generated[0].plaintext.reveal())


async def test_payload_over_the_limit_is_refused_where_its_data_key_is_known(backend: Any) -> None:
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    key = one._keys.latest(backend.contexts[0])
    assert key is not None
    context, bound = located("store-1", "credential", "github", "r-1", 3, "user", "u1")
    assert context == backend.contexts[0]
    reader = sealer(backend)
    for each in (one, reader):
        assert await each.open(sealed, BINDING) == SecretBytes(SECRET)
    long = key.head + bytes(12) + key.commitment + key.gcm.encrypt(bytes(12), bytes((1 << 25) + 1), bound)
    for each in (one, reader, sealer(backend)):
        with pytest.raises(CannotOpen):
            await each.open(Sealed(long, sealed.key), BINDING)


TEXTS = st.text(alphabet="ab:", min_size=1, max_size=3)
PLACES = st.tuples(
    st.sampled_from(["s", "s2"]),
    st.builds(
        Binding,
        purpose=TEXTS,
        provider_id=st.text(alphabet="ab:", max_size=3),
        scope=st.none() | st.builds(Scope, st.sampled_from(["user", "org"]), TEXTS),
        record_id=TEXTS,
        record_version=st.integers(0, 3),
    ),
)


@given(PLACES, PLACES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_ciphertext_opens_nowhere_but_at_its_place(
    backend: Any, first: tuple[str, Binding], second: tuple[str, Binding]
) -> None:
    """P50: store, purpose, provider, scope, connection and version, in any combination."""
    assume(first != second)
    sealed = await sealer(backend, first[0]).seal(SECRET, first[1])
    assert await sealer(backend, first[0]).open(sealed, first[1]) == SecretBytes(SECRET)
    with pytest.raises(CannotOpen):
        await sealer(backend, second[0]).open(sealed, second[1])


@given(st.lists(PLACES, min_size=2, max_size=6, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_sealer_that_knows_many_records_keeps_them_apart(backend: Any, places: list[tuple[str, Binding]]) -> None:
    one = sealer(backend)
    bindings = list(dict.fromkeys(binding for _, binding in places))
    sealed = [await one.seal(b"%d" % number, binding) for number, binding in enumerate(bindings)]
    for number, envelope in enumerate(sealed):
        for other, binding in enumerate(bindings):
            if other == number:
                assert await one.open(envelope, binding) == SecretBytes(b"%d" % number)
            else:
                with pytest.raises(CannotOpen):
                    await one.open(envelope, binding)


async def test_key_is_found_from_the_ciphertext_and_no_other_is_tried(backend: Any) -> None:
    """P54c."""
    sealed = []
    for _ in range(8):
        sealed.append(await sealer(backend).seal(SECRET, BINDING))
        backend.rotate()
    asked: list[KeyRef] = []
    unwrap = backend.unwrap

    async def watched(wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        asked.append(key)
        return SecretBytes((await unwrap(wrapped, key, context)).reveal())

    backend.unwrap = watched
    for each in sealed:
        assert await sealer(backend).open(each, BINDING) == SecretBytes(SECRET)
    assert asked == [each.key for each in sealed]
    assert len(set(asked)) == 8


async def test_data_key_of_a_wrong_size_is_refused_and_not_shown(backend: Any) -> None:
    one = sealer(backend)
    sealed = await one.seal(SECRET, BINDING)
    generate = backend.generate

    async def short_generate(context: bytes) -> Any:
        return attrs.evolve(await generate(context), plaintext=SecretBytes(SHORT_KEY))

    async def short_unwrap(wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        return SecretBytes(SHORT_KEY)

    backend.generate, backend.unwrap = short_generate, short_unwrap
    one.forget()
    with pytest.raises(KeyInvalid, match="32 bytes, not 16") as caught:
        await one.seal(SECRET, BINDING)
    assert_hidden(caught.value, SHORT_KEY, SECRET)
    with pytest.raises(CannotOpen) as refused:
        await one.open(sealed, BINDING)
    assert_hidden(refused.value, SHORT_KEY, SECRET)


async def test_seal_that_fails_shows_no_plaintext(backend: Any) -> None:
    one = sealer(backend)
    with pytest.raises(BadInput) as wrong:
        await one.seal(SECRET, attrs.evolve(BINDING, record_id=""))
    assert_hidden(wrong.value, SECRET)
    with pytest.raises(BadInput) as long:
        await one.seal(SECRET * (1 << 20), BINDING)
    assert_hidden(long.value, SECRET)
    backend.down = True
    with pytest.raises(BackendUnavailable) as down:
        await one.seal(SECRET, BINDING)
    assert_hidden(down.value, SECRET)
    backend.down = False
    text: Any = SECRET.decode
    with pytest.raises(TypeError) as mistaken:
        await one.seal(text(), BINDING)
    assert_hidden(mistaken.value, SECRET, backend.generated[0].plaintext.reveal())
