"""What every secret backend must do. The subject is an open backend."""

from __future__ import annotations

import asyncio
import base64

import attrs

from ...errors import CannotOpen, KeyNotFound, SecretError
from ...model import KeyRef
from ...protocols import SecretBackend
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
    wrapped, key = await backend.rewrap(made.wrapped, made.key, CONTEXT)
    assert key == await backend.check()
    assert wrapped != made.wrapped, "rewrap must wrap anew"
    assert await backend.unwrap(wrapped, key, CONTEXT) == made.plaintext
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    await _refuses(backend, wrapped, key, OTHER, CannotOpen)
    try:
        await backend.rewrap(made.wrapped, made.key, OTHER)
    except CannotOpen:
        return
    raise AssertionError("rewrap accepted another context")


@check("SEC-009", "secrets")
async def check_names_the_primary_key(backend: SecretBackend) -> None:
    """``check`` gives the reference that ``generate`` uses, with the backend's own id."""
    key = await backend.check()
    assert (await backend.generate(CONTEXT)).key == key
    assert key.backend == backend.id
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


@check("SEC-011", "secrets")
async def close_is_idempotent(backend: SecretBackend) -> None:
    """Closing twice is as closing once."""
    await backend.generate(CONTEXT)
    await backend.aclose()
    await backend.aclose()


async def _refuses(
    backend: SecretBackend, wrapped: bytes, key: KeyRef, context: bytes, *expected: type[SecretError]
) -> SecretError:
    try:
        await backend.unwrap(wrapped, key, context)
    except expected as error:
        return error
    raise AssertionError("unwrap gave a data key where it must refuse")
