"""The text form of an application key: ``gsk1_`` and 48 characters of base64url.

They hold the key (32 bytes) and its CRC-32 (4 bytes, big-endian), so that a key that lost or changed a character is
recognised, and no other text is taken for a key.
"""

from __future__ import annotations

import base64
import os
import zlib
from typing import Final

from go_services_core.errors import KeyInvalid
from go_services_core.secret import SecretBytes, SecretStr

PREFIX: Final = "gsk1_"
REMEDY: Final = "`python -m go_services_secrets_appkey` makes a key."
_ENCODED: Final = 48
_LEAST_DISTINCT: Final = 16


def generate_key() -> SecretStr:
    """A new key in its text form, from the operating system's random source."""
    return _encode(os.urandom(32))


def parse_key(text: SecretStr, *, field: str) -> SecretBytes:
    """The 32 bytes of a key.

    Args:
        text: the key in its text form.
        field: name of the setting, for the error.

    Raises:
        KeyInvalid: it is not a key, was damaged, or is not random; neither the message nor a variable of the frames
            that raise it holds anything of it.
    """
    flaw = _flaw(text)
    if flaw:
        raise KeyInvalid(f"The key in {field} {flaw}.", hint=REMEDY, plugin="secrets-appkey", field=field)
    return SecretBytes(_decoded(text.reveal())[:32])


def _flaw(text: SecretStr) -> str:
    """Why this is not a key; empty when it is one."""
    value = text.reveal()
    if any(character.isspace() for character in value):
        return "has a space or a line break in or around it"
    if not value.startswith(PREFIX):
        return f"does not begin with {PREFIX!r}: it is not a key of this backend"
    encoded = value[len(PREFIX) :]
    if len(encoded) != _ENCODED:
        return f"has {len(encoded)} characters after {PREFIX!r} instead of {_ENCODED}"
    try:
        raw = _decoded(value)
    except ValueError:
        return "has a character that is not base64url"
    key, checksum = raw[:32], raw[32:]
    if len(raw) != 36 or zlib.crc32(key).to_bytes(4, "big") != checksum:
        return "does not match its checksum: a character was changed"
    if len(set(key)) < _LEAST_DISTINCT:  # 32 random bytes fall below this once in 10**16 keys
        return "is not random"
    return ""


def _decoded(value: str) -> bytes:
    return base64.b64decode(value[len(PREFIX) :], altchars=b"-_", validate=True)


def _encode(key: bytes) -> SecretStr:
    checked = key + zlib.crc32(key).to_bytes(4, "big")
    return SecretStr(PREFIX + base64.urlsafe_b64encode(checked).decode())
