"""The envelope's bytes: what is refused, and that each envelope has one form only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go_services_core.errors import CannotOpen
from go_services_core.model import Binding, KeyRef, Scope
from go_services_envelope.format import HEADER, head_size, located, pack_head, place, unpack_head

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
SCOPES = st.none() | st.builds(Scope, st.sampled_from(["user", "org"]), st.from_regex(r"\A[a-z:|]{1,4}\Z"))
BINDINGS = st.builds(
    Binding,
    purpose=TEXT,
    provider_id=st.text(alphabet="ab\x00", max_size=4),
    scope=SCOPES,
    record_id=TEXT,
    record_version=st.integers(0, (1 << 63) - 1),
)


def section(*fields: bytes) -> bytes:
    body = b"".join(fields)
    return HEADER + len(body).to_bytes(2, "big") + body


GOOD = (b"\x00\x01b", b"\x00\x01k", b"\x00\x00\x00\x01", b"\x00\x01w")


@given(TEXT, TEXT, st.integers(1, (1 << 31) - 1), st.binary(min_size=1, max_size=300), st.binary(min_size=60))
def test_what_is_packed_unpacks_to_the_same(
    backend: str, key_id: str, version: int, wrapped: bytes, rest: bytes
) -> None:
    key = KeyRef(backend, key_id, version)
    envelope = pack_head(key, wrapped) + rest
    head = envelope[: head_size(envelope)]
    assert envelope[len(head) :] == rest
    assert (unpack_head(head).key, unpack_head(head).wrapped) == (key, wrapped)


@given(st.binary(max_size=60), st.integers(0, 70))
def test_whatever_unpacks_packs_to_the_same_bytes(noise: bytes, cut: int) -> None:
    for head in (section(noise), section(*GOOD, noise), section(*GOOD)[:cut] + noise):
        try:
            found = unpack_head(head)
        except ValueError:
            continue
        assert pack_head(found.key, found.wrapped) == head


def test_smallest_wrapping_section_is_read() -> None:
    assert unpack_head(section(*GOOD)).key == KeyRef("b", "k", 1)


@pytest.mark.parametrize(
    "fields",
    [
        (*GOOD, b"\x00"),
        GOOD[:3],
        (GOOD[0], GOOD[1], b"\x00\x00\x00\x00", GOOD[3]),
        (GOOD[0], GOOD[1], b"\x80\x00\x00\x00", GOOD[3]),
        (b"\x00\x00", *GOOD[1:]),
        (b"\x00\x41" + b"b" * 65, *GOOD[1:]),
        (GOOD[0], b"\x02\x01" + b"k" * 513, *GOOD[2:]),
        (*GOOD[:3], b"\x00\x00"),
        (*GOOD[:3], b"\x20\x01" + b"w" * 8193),
        (*GOOD[:3], b"\x00\x02w"),
        (b"\x00\x01\xff", *GOOD[1:]),
        (b"\x00\x02\xc0\x80", *GOOD[1:]),
    ],
    ids=[
        "byte-after-the-end",
        "no-wrapped-key",
        "version-0",
        "version-too-large",
        "no-backend",
        "backend-too-long",
        "key-id-too-long",
        "empty-wrapped-key",
        "wrapped-key-too-long",
        "length-behind-the-end",
        "not-utf-8",
        "overlong-utf-8",
    ],
)
def test_wrapping_section_has_one_form_only(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError):
        unpack_head(section(*fields))


@pytest.mark.parametrize("payload", [59, 60 + (1 << 25) + 1])
def test_payload_has_room_for_nonce_commitment_and_tag_and_one_mebibyte(payload: int) -> None:
    with pytest.raises(CannotOpen):
        head_size(section(*GOOD) + bytes(payload))


def test_earlier_envelopes_are_not_taken_for_this_one() -> None:
    with pytest.raises(ValueError):
        unpack_head(b'services.secret.v1:{"kid":"app-key","ver":1}')
    with pytest.raises(ValueError):
        unpack_head(section(*GOOD).replace(HEADER, b"\x8bGSE\x01"))


@given(st.lists(BINDINGS, min_size=2, max_size=2, unique=True))
def test_different_bindings_never_have_the_same_associated_data(pair: list[Binding]) -> None:
    first, second = (
        located(
            "s",
            b.purpose,
            b.provider_id,
            b.record_id,
            b.record_version,
            b.scope and b.scope.type,
            b.scope and b.scope.id,
        )[1]
        for b in pair
    )
    assert first != second


@given(
    st.lists(
        st.tuples(st.text(alphabet="ab", max_size=3), st.text(alphabet="ab", max_size=3), SCOPES),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_different_places_never_have_the_same_context(pair: list[tuple[str, str, Scope | None]]) -> None:
    first, second = (place(store, "purpose", provider, scope).context for store, provider, scope in pair)
    assert first != second


def test_context_does_not_depend_on_the_purpose() -> None:
    assert place("s", "one", "p", None).context == place("s", "two", "p", None).context
