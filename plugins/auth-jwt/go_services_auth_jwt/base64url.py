"""Base64url without padding (RFC 7515 §2), read strictly."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(value: bytes) -> str:
    """The text of ``value``, without ``=``."""
    return urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of ``text``, of which each has exactly one accepted form.

    Raises:
        ValueError: padding, another alphabet, an impossible length, or unused bits that are not zero (RFC 4648 §3.5).
    """
    value = urlsafe_b64decode(text + "=" * (-len(text) % 4))  # skips foreign characters, which the comparison finds
    if encode(value) != text:
        raise ValueError("not the one base64url form of its bytes")
    return value
