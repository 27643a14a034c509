"""Standard Webhooks, the sending side: headers that sign a delivery. Nothing here has a clock or does I/O.

The receiving side is :class:`~go_services_core.webhook_specs.StandardWebhook`, and ``StandardKeyWebhook`` for ``v1a``.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NoReturn

from ..errors import BadInput, KeyInvalid
from ..http import Headers
from ..jose import Jose
from ..secret import SecretStr

SECRET_PREFIX: Final = "whsec_"
"""Before the base64 of a symmetric key, which signs ``v1``."""
PRIVATE_PREFIX: Final = "whsk_"
"""Before the base64 of an Ed25519 key pair (32 bytes of seed, 32 of public key), which signs ``v1a``."""
_NEW_BYTES: Final = 32
_SECRET_BYTES: Final = range(24, 65)
"""The specification's "between 24 bytes (192 bits) and 64 bytes (512 bits)"."""


def new_secret(random: Callable[[int], bytes]) -> SecretStr:
    """A new symmetric secret, ``whsec_`` and the base64 of 32 random bytes."""
    return SecretStr(SECRET_PREFIX + b64encode(random(_NEW_BYTES)).decode("ascii"))


def sign(
    body: bytes, *, id: str, timestamp: datetime, secrets: Sequence[SecretStr], jose: Jose | None = None
) -> Headers:
    """The three headers of one attempt: ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``.

    Args:
        body: exactly what is sent.
        id: stays the same over all attempts of a delivery; without a full stop, which separates the signed parts.
        timestamp: of this attempt, with a time zone.
        secrets: every one that is live, the newest first; each adds a signature, ``v1`` for ``whsec_…`` and ``v1a`` for
            ``whsk_…``.
        jose: makes the signatures ``v1a``; nothing else needs it.

    Raises:
        BadInput: the id is none (``field`` is ``id``), or there is no secret (``field`` is ``secrets``).
        KeyInvalid: a secret is of neither form, too short or too long, or it is ``whsk_…`` and there is no ``jose``.
    """
    if not id or len(id) > 255 or not id.isascii() or not id.isprintable() or "." in id or " " in id:
        raise BadInput("A delivery's id is printable ASCII without space and full stop.", field="id")
    if not secrets:
        raise BadInput("A delivery is signed with at least one secret.", field="secrets")
    stamp = str(int(timestamp.timestamp()))
    message = b".".join((id.encode("ascii"), stamp.encode("ascii"), body))
    signatures = " ".join(_signature(secret, message, jose) for secret in secrets)
    return (("webhook-id", id), ("webhook-timestamp", stamp), ("webhook-signature", signatures))


def _signature(secret: SecretStr, message: bytes, jose: Jose | None) -> str:
    text = secret.reveal()
    is_private, is_symmetric = text.startswith(PRIVATE_PREFIX), text.startswith(SECRET_PREFIX)
    del text  # or a traceback with locals shows it
    if is_private:
        if jose is None:
            _refuse("A secret whsk_… signs only where a plugin for asymmetric keys is installed (auth-jwt)")
        signature = jose.message_signature(_private_key(secret), "ed25519", message)
        return "v1a," + b64encode(signature).decode("ascii")
    if not is_symmetric:
        _refuse("A webhook secret begins with whsec_ or whsk_")
    return "v1," + b64encode(hmac.digest(_key(secret, SECRET_PREFIX), message, "sha256")).decode("ascii")


def _key(secret: SecretStr, prefix: str) -> bytes:
    try:
        key = b64decode(secret.reveal().removeprefix(prefix), validate=True)
    except ValueError:
        key = b""
    if len(key) not in _SECRET_BYTES:
        del key
        _refuse(f"After {prefix} stands the base64 of 24 to 64 bytes")
    return key


def _private_key(secret: SecretStr) -> SecretStr:
    """The key pair as a JWK (RFC 8037 §2)."""
    pair = _key(secret, PRIVATE_PREFIX)
    if len(pair) != 64:
        del pair
        _refuse(f"After {PRIVATE_PREFIX} stands the base64 of 64 bytes: the seed and the public key")
    seed, public = (urlsafe_b64encode(part).rstrip(b"=").decode("ascii") for part in (pair[:32], pair[32:]))
    return SecretStr(json.dumps({"kty": "OKP", "crv": "Ed25519", "d": seed, "x": public}))


def _refuse(message: str) -> NoReturn:
    raise KeyInvalid(f"{message}.", field="secrets") from None
