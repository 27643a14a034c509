"""Shared secrets as vendors write them down."""

from __future__ import annotations

from base64 import b64decode

from ..errors import SigningError
from ..secret import SecretStr


def secret_bytes(secret: SecretStr, encoding: str) -> bytes:
    """The bytes of ``secret``: its ``text`` in UTF-8, or what it stands for in ``hex`` or ``base64``.

    Raises:
        SigningError: it is not written so.
    """
    try:
        if encoding == "base64":
            return b64decode(secret.reveal().strip(), validate=True)
        if encoding == "hex":
            return bytes.fromhex(secret.reveal().strip())
        return secret.reveal().encode()
    except ValueError:  # a lone surrogate, too
        raise SigningError(f"The secret is not written as {encoding}.", field="secret") from None
