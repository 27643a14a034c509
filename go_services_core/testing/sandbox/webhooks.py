"""Signed webhook deliveries in the form of Standard Webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from ...errors import ConnectFailed, RequestTimeout
from ...secret import SecretStr
from ...webhook_specs import HmacWebhook

WEBHOOK: Final = HmacWebhook(
    signature_header="webhook-signature",
    encoding="base64",
    prefix="v1,",
    signed=("id", "timestamp", "body"),
    id_header="webhook-id",
    timestamp_header="webhook-timestamp",
    event_field="type",
)
"""How to verify what :func:`send` sends. The key is the secret's UTF-8 bytes; it is not base64 as in ``whsec_…``."""


def body_of(event: str, data: Any) -> bytes:
    """The body of a delivery: the same event and data give the same bytes, so that a repetition is exact."""
    return json.dumps({"type": event, "data": data}, separators=(",", ":"), sort_keys=True).encode()


def sign(secret: SecretStr, delivery_id: str, timestamp: int, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``."""
    message = b".".join((delivery_id.encode(), str(timestamp).encode(), body))
    return "v1," + b64encode(hmac.digest(secret.reveal().encode(), message, hashlib.sha256)).decode()


async def send(
    url: str, body: bytes, *, delivery_id: str, timestamp: int, secret: SecretStr, headers: Mapping[str, str]
) -> int:
    """POST one delivery and give the status of the answer. Redirects are not followed.

    Raises:
        ConnectFailed: nobody listens at ``url``.
        RequestTimeout: no answer within 30 seconds.
    """
    own = {
        "Content-Type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, delivery_id, timestamp, body),
    }
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.post(url, data=body, headers={**own, **headers}, allow_redirects=False) as answer,
        ):
            return answer.status
    except TimeoutError:
        raise RequestTimeout("The webhook's target did not answer in time.") from None
    except aiohttp.ClientError as error:
        raise ConnectFailed(f"The webhook's target cannot be reached: {type(error).__name__}.", sent=True) from error
