"""The bytes of envelope version 2 and of what they are bound to. ``docs/reference/envelope.md`` describes each of them.

Integers are unsigned and big-endian, text is UTF-8. Nothing here encrypts.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import Final

from attrs import field, frozen

from go_services_core.errors import BadInput, CannotOpen
from go_services_core.model import KeyRef, Scope

HEADER: Final = b"\x8bGSE\x02"
"""Magic and version. The first byte begins no UTF-8 text, so that no text is taken for an envelope."""
FORMAT: Final = b"go-services/envelope/2"
NONCE: Final = 12
COMMITMENT: Final = 32
TAG: Final = 16

MAX_PLAINTEXT: Final = 1 << 25
MAX_BACKEND: Final = 64
MAX_KEY_ID: Final = 512
MAX_KEY_VERSION: Final = (1 << 31) - 1
MAX_WRAPPED: Final = 8192
MAX_TEXT: Final = 1024
"""Bytes of each text of a binding."""
MAX_RECORD_VERSION: Final = (1 << 63) - 1

_MIN_PAYLOAD: Final = NONCE + COMMITMENT + TAG
MAX_PAYLOAD: Final = _MIN_PAYLOAD + MAX_PLAINTEXT
_SMALLEST: Final = len(HEADER) + 2 + _MIN_PAYLOAD
_u32: Final = struct.Struct(">I").pack
_sized_version: Final = struct.Struct(">IQ").pack


@frozen
class Wrapping:
    """A decoded wrapping section; nothing of it is authenticated yet."""

    key: KeyRef
    wrapped: bytes = field(repr=False)


@frozen
class Place:
    """What all records of one purpose, provider and scope have in common."""

    context: bytes
    """32 bytes, authenticated by the backend with every data key of this provider and scope. They are a hash because
    cloud audit logs show an encryption context in clear."""
    prefix: bytes
    """The associated data up to the record."""


def pack_head(key: KeyRef, wrapped: bytes) -> bytes:
    """Header and wrapping section: what stands before the payload, and all that a rewrap replaces.

    Raises:
        ValueError: a field is empty or over its limit.
    """
    section = _packed_key(key.backend, key.key_id, key.key_version) + _short(wrapped, MAX_WRAPPED)
    return HEADER + len(section).to_bytes(2, "big") + section


@lru_cache(maxsize=64)
def _packed_key(backend: str, key_id: str, key_version: int) -> bytes:
    if not 1 <= key_version <= MAX_KEY_VERSION:
        raise ValueError("key version")
    return _short(backend.encode(), MAX_BACKEND) + _short(key_id.encode(), MAX_KEY_ID) + _u32(key_version)


def unpack_head(head: bytes) -> Wrapping:
    """Decode header and wrapping section.

    Raises:
        ValueError: they are not exactly those of this version.
    """
    if not head.startswith(HEADER):
        raise ValueError("header")
    backend, at = _take(head, len(HEADER) + 2, MAX_BACKEND)
    key_id, at = _take(head, at, MAX_KEY_ID)
    version = int.from_bytes(head[at : at + 4], "big")
    wrapped, end = _take(head, at + 4, MAX_WRAPPED)
    if end != len(head) or not 1 <= version <= MAX_KEY_VERSION:
        raise ValueError("wrapping section")
    return Wrapping(KeyRef(backend.decode(), key_id.decode(), version), wrapped)


def head_size(envelope: bytes) -> int:
    """How many bytes stand before the payload. Only the sizes are checked.

    Raises:
        CannotOpen: the sizes are not those of an envelope.
    """
    size = len(envelope)
    if size >= _SMALLEST:
        end = 7 + (envelope[5] << 8 | envelope[6])
        if _MIN_PAYLOAD <= size - end <= MAX_PAYLOAD:
            return end
    raise CannotOpen


def place(store_id: str, purpose: str, provider_id: str, scope: Scope | None) -> Place:
    """Wrap context and start of the associated data.

    Raises:
        BadInput: a part is too long, or is not text.
    """
    # The hash of a Scope takes longer than all the rest of a place that is known already.
    return _place(store_id, purpose, provider_id, scope and scope.type, scope and scope.id)


@lru_cache(maxsize=4096)
def _place(store_id: str, purpose: str, provider_id: str, scope_type: str | None, scope_id: str | None) -> Place:
    store, provider = _text("store id", store_id), _text("provider id", provider_id)
    owner = b"\x00"
    if scope_type is not None and scope_id is not None:
        owner = b"\x01" + _text("scope type", scope_type) + _text("scope id", scope_id)
    bound = store + provider + _sized(owner)
    return Place(context=hashlib.sha256(bound).digest(), prefix=_sized(FORMAT) + _text("purpose", purpose) + bound)


@lru_cache(maxsize=8192)
def located(
    store_id: str,
    purpose: str,
    provider_id: str,
    record_id: str,
    record_version: int,
    scope_type: str | None,
    scope_id: str | None,
) -> tuple[bytes, bytes]:
    """Wrap context and associated data of a record; about 500 bytes are remembered of each.

    The associated data are what the payload is bound to. They leave the wrapping section out, so that a rewrap needs
    no plaintext. A binding is given by its parts, the scope by type and id, because its own hash takes longer.

    Raises:
        BadInput: purpose or record id is empty, the version is out of range, or a part is too long or is not text.
    """
    at = _place(store_id, purpose, provider_id, scope_type, scope_id)
    if not (purpose and record_id):
        raise BadInput("A secret is sealed for a purpose and a record; neither may be empty.", field="binding")
    if not 0 <= record_version <= MAX_RECORD_VERSION:
        raise BadInput("A binding's record version is between 0 and 2**63 - 1.", field="binding")
    return at.context, at.prefix + _text("record id", record_id) + _sized_version(8, record_version)


def _short(value: bytes, limit: int) -> bytes:
    if not 1 <= len(value) <= limit:
        raise ValueError("size")
    return len(value).to_bytes(2, "big") + value


def _take(data: bytes, at: int, limit: int) -> tuple[bytes, int]:
    # Slices past the end are short, not errors: a length that was cut off reads as 0 or points behind the end.
    start = at + 2
    end = start + int.from_bytes(data[at:start], "big")
    if not start < end <= min(start + limit, len(data)):
        raise ValueError("size")
    return data[start:end], end


def _sized(value: bytes) -> bytes:
    return _u32(len(value)) + value


def _text(name: str, value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise BadInput(f"The {name} of a binding is not valid text.", field="binding") from None
    if len(raw) > MAX_TEXT:
        raise BadInput(f"The {name} of a binding is longer than {MAX_TEXT} bytes.", field="binding")
    return _u32(len(raw)) + raw
