"""The envelope of the Go system (go-services 0.7): it is read, never written.

It is the text ``services.secret.v1:`` and one JSON object. ``docs/reference/envelope.md`` describes each member.
Nothing in it says to which record it belongs.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

from go_services_core.errors import CannotOpen, KeyNotFound, SecretError
from go_services_core.model import Binding, Sealed
from go_services_core.sealing import GoEnvelope, GoEnvelopeReader, SecretBackend
from go_services_core.secret import SecretBytes
from go_services_core.wrapping_keys import SealedRow

from .format import MAX_KEY_ID, MAX_KEY_VERSION

PREFIX: Final = b"services.secret.v1:"
MAX_SIZE: Final = 1 << 22
"""Bytes of an envelope. The Go system sealed credentials only, which have kilobytes."""
PURPOSE: Final = "credential"
"""All that the Go system sealed. What else has no backend in its row is no envelope, whatever its bytes say."""
_MEMBERS: Final = frozenset(("kid", "ver", "alg", "nonce", "ciphertext", "meta"))


def decode(ciphertext: bytes) -> GoEnvelope:
    """The members of an envelope, with or without the prefix; nothing is decrypted and no key is asked for.

    Key id and algorithm are trimmed, the algorithm is in lower case. A member that is missing is empty, or 0: whether
    it may be missing is the reader's to say.

    Raises:
        CannotOpen: it is no such envelope: over 4 MiB, no JSON object, a member that is unknown, repeated or of another
            type, base64 that is not canonical (RFC 4648 §3.5), or no ciphertext. The error holds nothing of it.
    """
    envelope = _decoded(ciphertext)
    if envelope is None:
        raise CannotOpen("This is no envelope of go-services.")
    return envelope


async def open_adopted(backend: SecretBackend, sealed: Sealed, binding: Binding) -> SecretBytes:
    """The plaintext of a value that has no backend in its key reference: it was adopted from the Go system.

    The key is the one that the envelope names. The row's own key id is not compared, because the Go system could write
    that of another key there while two were in use.

    Raises:
        CannotOpen: it is no envelope of the Go system, the backend does not read these, or it does not open.
        KeyNotFound: the backend was not given its key.
        KeyDisabled, KeyDenied, BackendUnavailable: the key cannot be had.
    """
    what = f"The {binding.purpose} of record {binding.record_id}"
    metadata = {"purpose": binding.purpose, "record_id": binding.record_id, "key_id": sealed.key.key_id}
    envelope = _decoded(sealed.ciphertext) if binding.purpose == PURPOSE else None
    if envelope is None:
        raise CannotOpen(
            f"{what} names no secret backend, as if it were adopted from go-services, but is no envelope of it.",
            metadata=metadata,
        )
    metadata["key_id"] = envelope.key_id
    what += f", sealed by go-services with key {envelope.key_id!r} (version {envelope.key_version}),"
    if not isinstance(backend, GoEnvelopeReader):
        raise CannotOpen(
            f"{what} does not open: the secret backend {backend.id!r} reads no envelopes of go-services.",
            hint="Use the backend appkey with secrets.appkey.go_keys; `go-services secrets reencrypt` converts it.",
            field="secrets.appkey.go_keys",
            metadata=metadata,
        )
    try:
        return await backend.open_go(envelope)
    except (CannotOpen, KeyNotFound) as error:
        kind = KeyNotFound if isinstance(error, KeyNotFound) else CannotOpen
        raise kind(
            f"{what} does not open: {error.message}",
            hint=error.hint,
            plugin=error.plugin,
            field=error.field,
            metadata=metadata,
        ) from None


def cannot_rewrap(row: SealedRow) -> SecretError:
    """Why a value that was adopted from the Go system cannot be wrapped anew."""
    return SecretError(
        f"The {row.kind} of record {row.record_id} was sealed by go-services, without a data key that could be "
        "wrapped anew.",
        hint="`go-services secrets reencrypt` seals it in today's format.",
        metadata={"record_id": row.record_id, "key_id": row.sealed.key.key_id},
    )


def _decoded(ciphertext: bytes) -> GoEnvelope | None:
    if len(ciphertext) > MAX_SIZE:
        return None
    try:
        text = ciphertext.removeprefix(PREFIX).decode()
        members = json.loads(text, object_pairs_hook=_once, parse_constant=_refused)
        return _envelope(members, prefixed=ciphertext.startswith(PREFIX))
    except (ValueError, RecursionError):
        return None


def _envelope(members: Any, *, prefixed: bool) -> GoEnvelope:
    if not isinstance(members, dict) or not members.keys() <= _MEMBERS:
        raise ValueError("members")
    key_id = _text(members, "kid").strip()
    version = members.get("ver", 0)
    ciphertext = _bytes(members, "ciphertext")
    if len(key_id.encode()) > MAX_KEY_ID or type(version) is not int or not 0 <= version <= MAX_KEY_VERSION:
        raise ValueError("key")
    if not ciphertext:
        raise ValueError("ciphertext")
    metadata = members.get("meta", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("meta")
    return GoEnvelope(
        key_id=key_id,
        key_version=version,
        algorithm=_text(members, "alg").strip().lower(),
        nonce=_bytes(members, "nonce"),
        ciphertext=ciphertext,
        metadata={name.strip(): value.strip() for name, value in metadata.items() if name.strip()},
        prefixed=prefixed,
    )


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name, "")
    if not isinstance(value, str):
        raise ValueError(name)  # noqa: TRY004 - whatever is wrong with an envelope is one error
    return value


def _bytes(members: Mapping[str, Any], name: str) -> bytes:
    text = _text(members, name)
    raw = b64decode(text, validate=True)
    if b64encode(raw).decode() != text:
        raise ValueError(name)  # bits that mean nothing would be a second form of the same envelope
    return raw


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("repeated")
    return members


def _refused(constant: str) -> Any:
    raise ValueError(constant)
