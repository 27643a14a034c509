"""Wrapping data keys anew: each row gets its answer, and no payload is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import pytest

from go_services_core.errors import BackendUnavailable, CannotOpen, KeyDisabled, KeyInvalid, KeyNotFound, SecretError
from go_services_core.model import Binding, KeyRef, Scope, Sealed
from go_services_core.sealing import WrappedKey
from go_services_core.secret import SecretBytes
from go_services_core.testing.clock import FrozenClock
from go_services_core.wrapping_keys import SealedRow
from go_services_envelope import Sealer

SECRET: Final = b"a secret of forty bytes, or thereabouts."


def sealer(backend: Any) -> Sealer:
    return Sealer(backend, store_id="store-1", clock=FrozenClock())


def binding(number: int, scope: str = "u1") -> Binding:
    return Binding(
        purpose="credential", provider_id="github", scope=Scope("user", scope), record_id=f"r-{number}",
        record_version=number,
    )  # fmt: skip


def row(sealed: Sealed, number: int, scope: str = "u1") -> SealedRow:
    return SealedRow(
        kind="credential", id=str(number), provider_id="github", scope=Scope("user", scope), record_id=f"r-{number}",
        record_version=number, sealed=sealed,
    )  # fmt: skip


async def rows(backend: Any, *scopes: str) -> list[SealedRow]:
    """A row for each scope; equal scopes share a data key."""
    one = sealer(backend)
    return [row(await one.seal(SECRET, binding(n, scope)), n, scope) for n, scope in enumerate(scopes)]


def answering(backend: Any, change: Any) -> None:
    """Let the backend's answer to a rewrap go through ``change``."""
    rewrap = backend.rewrap

    async def changed(keys: Sequence[WrappedKey]) -> Any:
        return change(await rewrap(keys))

    backend.rewrap = changed


async def test_each_row_gets_its_answer_in_its_place(backend: Any) -> None:
    """A row that cannot be wrapped anew blocks no other (pitfall P53)."""
    good = await rows(backend, "u1", "u2", "u1", "u3")
    cut = attrs.evolve(good[1], sealed=Sealed(good[1].sealed.ciphertext[:50], good[1].sealed.key))
    moved = attrs.evolve(good[3], scope=Scope("user", "u1"))
    renamed = attrs.evolve(good[0], sealed=Sealed(good[0].sealed.ciphertext, KeyRef("memory", "k9", 1)))
    impossible = attrs.evolve(good[0], provider_id="x" * 1025)
    adopted = attrs.evolve(good[0], sealed=Sealed(b"services.secret.v1:{}", KeyRef("", "app-key", 1)))
    backend.rotate()

    answers = await sealer(backend).rewrap([good[0], cut, moved, good[2], renamed, impossible, adopted, good[3]])
    assert backend.calls == ["generate"] * 3 + ["rewrap"]

    for at, number, scope in ((0, 0, "u1"), (3, 2, "u1"), (7, 3, "u3")):
        answer = answers[at]
        assert isinstance(answer, Sealed)
        assert answer.key == backend.primary
        assert await sealer(backend).open(answer, binding(number, scope)) == SecretBytes(SECRET)
    for at, record in ((1, "r-1"), (2, "r-3"), (4, "r-0"), (5, "r-0")):
        answer = answers[at]
        assert isinstance(answer, CannotOpen)
        assert answer.metadata["record_id"] == record
        assert record in str(answer)
    assert isinstance(answers[6], SecretError)


async def test_error_of_one_data_key_reaches_all_its_rows_and_no_other(backend: Any) -> None:
    some = await rows(backend, "u1", "u2", "u1")
    answering(backend, lambda made: [KeyNotFound("gone"), *made[1:]])
    answers = await sealer(backend).rewrap(some)
    assert [type(answer) for answer in answers] == [KeyNotFound, Sealed, KeyNotFound]


async def test_key_that_does_not_open_is_named_for_each_row(backend: Any) -> None:
    some = await rows(backend, "u1", "u1")
    answering(backend, lambda made: [CannotOpen()])
    answers = await sealer(backend).rewrap(some)
    assert [answer.metadata["record_id"] for answer in answers if isinstance(answer, CannotOpen)] == ["r-0", "r-1"]


@pytest.mark.parametrize("change", [{"wrapped": b""}, {"wrapped": bytes(8193)}, {"key": KeyRef("memory", "", 1)}])
async def test_answer_that_no_envelope_can_hold_is_an_error_of_its_rows_alone(
    backend: Any, change: dict[str, Any]
) -> None:
    some = await rows(backend, "u1", "u2")
    answering(backend, lambda made: [attrs.evolve(made[0], **change), made[1]])
    answers = await sealer(backend).rewrap(some)
    assert [type(answer) for answer in answers] == [KeyInvalid, Sealed]


@pytest.mark.parametrize("change", [lambda made: made[1:], lambda made: [*made, made[0]], lambda made: []])
async def test_answer_of_a_wrong_length_is_refused_whole(backend: Any, change: Any) -> None:
    some = await rows(backend, "u1", "u2")
    answering(backend, change)
    with pytest.raises(SecretError, match=r"'memory' was asked to rewrap 2 data keys and answered [013]"):
        await sealer(backend).rewrap(some)


@pytest.mark.parametrize("error", [BackendUnavailable, KeyDisabled])
async def test_backend_that_fails_wholly_raises_and_later_works(backend: Any, error: type[SecretError]) -> None:
    some = await rows(backend, "u1", "u2")
    rewrap = backend.rewrap

    async def failing(keys: Sequence[WrappedKey]) -> Any:
        raise error("not now")

    backend.rewrap = failing
    one = sealer(backend)
    with pytest.raises(error, match="not now"):
        await one.rewrap(some)
    backend.rewrap = rewrap
    assert [type(answer) for answer in await one.rewrap(some)] == [Sealed, Sealed]


async def test_shared_data_key_is_sent_once_and_another_context_apart(backend: Any) -> None:
    some = await rows(backend, "u1", "u2", "u1", "u1")
    sent: list[WrappedKey] = []
    rewrap = backend.rewrap

    async def watched(keys: Sequence[WrappedKey]) -> Any:
        sent.extend(keys)
        return await rewrap(keys)

    backend.rewrap = watched
    answers = [answer for answer in await sealer(backend).rewrap([*some, some[0]]) if isinstance(answer, Sealed)]
    assert len(answers) == 5
    assert len(sent) == len({(key.wrapped, key.context) for key in sent}) == 2
    heads = {answer.ciphertext[: -(12 + 32 + len(SECRET) + 16)] for answer in answers}
    assert len(heads) == 2


async def test_nothing_to_wrap_asks_nothing(backend: Any) -> None:
    (one,) = await rows(backend, "u1")
    damaged = attrs.evolve(one, sealed=Sealed(b"", one.sealed.key))
    backend.calls.clear()
    assert await sealer(backend).rewrap([]) == []
    assert [type(answer) for answer in await sealer(backend).rewrap([damaged])] == [CannotOpen]
    assert backend.calls == []
