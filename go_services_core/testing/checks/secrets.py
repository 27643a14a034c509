"""What every secret backend must do. The subject is an open backend."""

from __future__ import annotations

import asyncio
import base64

import attrs

from ...errors import CannotOpen, KeyNotFound, SecretError
from ...model import KeyRef
from ...sealing import DataKey, SecretBackend, WrappedKey
from ...secret import SecretBytes
from ..kit import check

CONTEXT = bytes(range(32))
OTHER = bytes(range(1, 33))


@check("SEC-001", "secrets")
async def generated_key_unwraps_to_itself(backend: SecretBackend) -> None:
    """A generated data key has 32 bytes, and unwrapping gives it back under the same context."""
    made = await backend.generate(CONTEXT)
    assert len(made.plaintext.reveal()) == 32, "a data key has 32 bytes"
    assert isinstance(made.wrapped, bytes), "a wrapped key is bytes"
    assert made.plaintext.reveal() not in made.wrapped, "the wrapped key holds the data key in clear"
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext


@check("SEC-002", "secrets")
async def generated_keys_are_never_equal(backend: SecretBackend) -> None:
    """Twenty concurrent generates give twenty different keys, each of which unwraps to itself."""
    made = await asyncio.gather(*(backend.generate(CONTEXT) for _ in range(20)))
    assert len({key.plaintext.reveal() for key in made}) == 20, "a data key was given out twice"
    assert len({key.wrapped for key in made}) == 20, "two wrapped keys are equal"
    opened = await asyncio.gather(*(backend.unwrap(key.wrapped, key.key, CONTEXT) for key in made))
    assert [key.plaintext for key in made] == opened


@check("SEC-003", "secrets")
async def wrapped_key_unwraps_to_itself(backend: SecretBackend) -> None:
    """A data key that the caller brings is wrapped under the primary key, and wrapping it twice differs."""
    brought = SecretBytes(bytes(range(100, 132)))
    first, second = await backend.wrap(brought, CONTEXT), await backend.wrap(brought, CONTEXT)
    assert first.wrapped != second.wrapped, "wrapping is deterministic: equal data keys can be told"
    assert first.plaintext == brought
    assert first.key == await backend.check()
    assert await backend.unwrap(first.wrapped, first.key, CONTEXT) == brought


@check("SEC-004", "secrets")
async def other_context_does_not_unwrap(backend: SecretBackend) -> None:
    """The context is authenticated: another one, or none, is refused with CannotOpen."""
    made = await backend.generate(CONTEXT)
    for context in (OTHER, CONTEXT[:-1], b""):
        await _refuses(backend, made.wrapped, made.key, context, CannotOpen)


@check("SEC-005", "secrets")
async def changed_wrapped_key_does_not_unwrap(backend: SecretBackend) -> None:
    """A wrapped key with any byte changed, cut short, lengthened or emptied is refused with a typed error."""
    made = await backend.generate(CONTEXT)
    for at in range(len(made.wrapped)):
        changed = bytearray(made.wrapped)
        changed[at] ^= 1
        await _refuses(backend, bytes(changed), made.key, CONTEXT, CannotOpen, KeyNotFound)
    for wrong in (b"", made.wrapped[:1], made.wrapped[:-1], made.wrapped + b"\x00"):
        await _refuses(backend, wrong, made.key, CONTEXT, CannotOpen, KeyNotFound)


@check("SEC-006", "secrets")
async def unknown_key_is_named(backend: SecretBackend) -> None:
    """A key id that is not here, or one of another backend, is KeyNotFound; its message names the key id."""
    made = await backend.generate(CONTEXT)
    for key in (attrs.evolve(made.key, key_id="kit-no-such-key"), attrs.evolve(made.key, backend="kit-other")):
        error = await _refuses(backend, made.wrapped, key, CONTEXT, KeyNotFound)
        assert key.key_id in str(error), "the error must name the key that is missing"


@check("SEC-007", "secrets")
async def other_key_version_does_not_unwrap(backend: SecretBackend) -> None:
    """The key version is authenticated: a reference with another one is refused."""
    made = await backend.generate(CONTEXT)
    key = attrs.evolve(made.key, key_version=made.key.key_version + 1000)
    await _refuses(backend, made.wrapped, key, CONTEXT, KeyNotFound, CannotOpen)


@check("SEC-008", "secrets")
async def rewrap_keeps_the_data_key(backend: SecretBackend) -> None:
    """Rewrapping gives other bytes under the primary key, the same data key and context; the old bytes still open."""
    made = await backend.generate(CONTEXT)
    (new,) = await backend.rewrap([_asked(made, CONTEXT)])
    assert isinstance(new, WrappedKey), f"rewrap gave {new!r}"
    assert new.key == await backend.check()
    assert new.context == CONTEXT
    assert new.wrapped != made.wrapped, "rewrap must wrap anew"
    assert await backend.unwrap(new.wrapped, new.key, CONTEXT) == made.plaintext
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    await _refuses(backend, new.wrapped, new.key, OTHER, CannotOpen)


@check("SEC-009", "secrets")
async def check_names_the_primary_key(backend: SecretBackend) -> None:
    """``check`` gives the reference that ``generate`` uses; it names the backend, or the one of its members."""
    key = await backend.check()
    assert (await backend.generate(CONTEXT)).key == key
    assert key.backend in getattr(backend, "members", (backend.id,)), "a key names its backend, or the member it is of"
    assert key.key_id, "a key has an id"
    assert key.key_version >= 1


@check("SEC-010", "secrets")
async def nothing_prints_a_key(backend: SecretBackend) -> None:
    """Neither the backend, a data key nor an error shows a data key, in any encoding."""
    made = await backend.generate(CONTEXT)
    error = await _refuses(backend, made.wrapped, made.key, OTHER, SecretError)
    shown = "".join(f"{thing!r}{thing!s}" for thing in (backend, made, made.key, error, error.as_dict()))
    raw = made.plaintext.reveal()
    for text in (raw.hex(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode(), repr(raw)[2:-1]):
        assert text not in shown, "a data key was printed"


@check("SEC-012", "secrets")
async def rewrap_answers_each_in_its_place(backend: SecretBackend) -> None:
    """Of many keys each gets its answer in its place: those that cannot be opened an error, the others a new form."""
    good = [await backend.generate(CONTEXT) for _ in range(3)]
    elsewhere = await backend.generate(OTHER)
    damaged = attrs.evolve(good[0], wrapped=good[0].wrapped[:-1])
    foreign = attrs.evolve(good[0], key=attrs.evolve(good[0].key, key_id="kit-no-such-key"))
    asked = [good[0], damaged, good[1], elsewhere, foreign, good[2]]
    answers = await backend.rewrap([_asked(key, CONTEXT) for key in asked])
    assert len(answers) == len(asked), "rewrap must answer each"
    for place in (1, 3):
        assert isinstance(answers[place], (CannotOpen, KeyNotFound)), f"rewrap gave {answers[place]!r}"
    assert isinstance(answers[4], KeyNotFound), f"rewrap gave {answers[4]!r}"
    for place in (0, 2, 5):
        answer = answers[place]
        assert isinstance(answer, WrappedKey), f"rewrap gave {answer!r}"
        assert await backend.unwrap(answer.wrapped, answer.key, CONTEXT) == asked[place].plaintext
    assert list(await backend.rewrap([])) == []


@check("SEC-011", "secrets")
async def close_is_idempotent(backend: SecretBackend) -> None:
    """Closing twice is as closing once."""
    await backend.generate(CONTEXT)
    await backend.aclose()
    await backend.aclose()


def _asked(made: DataKey, context: bytes) -> WrappedKey:
    return WrappedKey(wrapped=made.wrapped, key=made.key, context=context)


async def _refuses(
    backend: SecretBackend, wrapped: bytes, key: KeyRef, context: bytes, *expected: type[SecretError]
) -> SecretError:
    try:
        await backend.unwrap(wrapped, key, context)
    except expected as error:
        return error
    raise AssertionError("unwrap gave a data key where it must refuse")
