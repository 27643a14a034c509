"""Requests signed with a shared secret (HMAC, RFC 2104), over the parts that the provider wants signed."""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import new
from typing import Final
from urllib.parse import urlsplit

from ..auth_specs import AuthSpec, Hmac
from ..errors import SigningError
from ..http import HttpRequest, check_header
from ..protocols import SigningContext, SigningKey
from .shared_secret import secret_bytes

_VALUES: Final = re.compile(r"\{(key_id|timestamp|nonce)\}")


class HmacSigner:
    """The signature in its header, and beside it what the receiver needs to compute it: time, nonce, key id, digest.

    It signs the request's final bytes: path and query as they stand in the URL, the body as it is sent.
    """

    def is_dated(self, auth: AuthSpec) -> bool:
        """Whether the record sends the time."""
        return isinstance(auth, Hmac) and (auth.timestamp_header is not None or "{timestamp}" in auth.prefix)

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        """The signed copy of ``request``.

        Raises:
            SigningError: the key is of another kind, the secret is not written as the record says, or a part that is to
                be signed is missing or streamed.
            BadInput: the key id would break out of its header.
        """
        record = key.auth
        if not isinstance(record, Hmac):
            raise SigningError(f"The signer hmac needs an Hmac record, not {type(record).__name__}.")
        key_id = key.credential.tokens.extra.get("key_id") if key.credential is not None else None
        if key_id is None and record.names_key:
            raise SigningError("The credential has no key id, and its record sends one.", field="key_id")
        values = {
            "key_id": _checked(key_id.reveal()) if key_id is not None else "",
            "timestamp": _timestamp(record, ctx.now),
            "nonce": ctx.random(16).hex(),
        }
        for header, name in (
            (record.key_id_header, "key_id"),
            (record.timestamp_header, "timestamp"),
            (record.nonce_header, "nonce"),
        ):
            if header is not None:
                request = request.with_header(header, values[name])
        if record.digest_header is not None:
            request = request.with_header(record.digest_header, _digest(record, request))
        message = record.joiner.encode().join(_part(name, record, request, values) for name in record.signed)
        signature = hmac.digest(secret_bytes(key.secret, record.secret_encoding), message, record.algorithm)
        written = b64encode(signature).decode() if record.encoding == "base64" else signature.hex()
        prefix = _VALUES.sub(lambda found: values[found[1]], record.prefix)
        return request.with_header(record.signature_header, prefix + written)


def _checked(key_id: str) -> str:
    check_header("key_id", key_id)
    return key_id


def _part(name: str, record: Hmac, request: HttpRequest, values: dict[str, str]) -> bytes:
    if name in values:
        return values[name].encode()
    if name == "method":
        return request.method.encode()
    if name.startswith("body"):
        return _body(name, record, request)
    if name.startswith("header:"):
        return _header(name.removeprefix("header:"), request)
    parts = urlsplit(request.url)
    path = parts.path or "/"
    text = {
        "path": path,
        "query": parts.query,
        "target": f"{path}?{parts.query}" if parts.query else path,
        "host": parts.netloc.rpartition("@")[2],
    }[name]
    return text.encode()


def _body(name: str, record: Hmac, request: HttpRequest) -> bytes:
    if name == "body":
        return _whole(request)
    hashed = new(record.algorithm, _whole(request)).digest()
    return b64encode(hashed) if name == "body_hash_base64" else hashed.hex().encode()


def _digest(record: Hmac, request: HttpRequest) -> str:
    hashed = new(record.algorithm, _whole(request)).digest()
    if record.digest_format == "hex":
        return hashed.hex()
    text = b64encode(hashed).decode()
    if record.digest_format == "base64":
        return text
    name = f"sha-{record.algorithm.removeprefix('sha')}"
    return f"{name}=:{text}:" if record.digest_format == "content-digest" else f"{name.upper()}={text}"


def _whole(request: HttpRequest) -> bytes:
    body = request.body or b""
    if not isinstance(body, bytes):
        raise SigningError("A body that is streamed cannot be signed.", field="body")
    return body


def _header(name: str, request: HttpRequest) -> bytes:
    found = [value.strip() for known, value in request.headers if known.lower() == name.lower()]
    if not found:
        raise SigningError(f"The header {name} is to be signed, and the request has none.", field=name)
    return ", ".join(found).encode()  # RFC 9110 §5.2: fields of one name are one value


def _timestamp(record: Hmac, now: datetime) -> str:
    if record.timestamp_format == "iso8601":
        return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    seconds = int(now.timestamp())
    return str(seconds if record.timestamp_format == "seconds" else seconds * 1000 + now.microsecond // 1000)
