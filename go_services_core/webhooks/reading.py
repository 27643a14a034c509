"""What a delivery says of itself, read after it was verified, and the handshakes before the first delivery."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from ..http import InboundRequest
from ..protocols import Challenge, Rejected, Verdict, Verified
from ..secret import SecretStr
from ..webhook_specs import DeliveryFields, Handshake

MOST_ID: Final = 255
"""Characters of a delivery's id, as the inbox keeps them."""
MOST_EVENT: Final = 120
MOST_CHALLENGE: Final = 1024
"""Bytes."""
_MOST_PARAMS: Final = 1000
_FORM: Final = "application/x-www-form-urlencoded"


def parameters(text: str) -> list[tuple[str, str]] | None:
    """The parameters of a query or form in order, empty ones too; None where it cannot be read."""
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMS, errors="strict")
    except ValueError:
        return None


def query_of(target: str) -> str:
    """The query of a request's target, without the question mark."""
    return target.partition("#")[0].partition("?")[2]


def is_form(request: InboundRequest) -> bool:
    """Whether the body says that it is a form."""
    return (request.header("content-type") or "").partition(";")[0].strip().lower() == _FORM


def form_of(request: InboundRequest) -> list[tuple[str, str]] | None:
    """The parameters of a form in the body; None where it cannot be read."""
    try:
        return parameters(request.body.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def same(given: str, secret: str) -> bool:
    """Whether two texts are equal, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode("utf-8", "surrogatepass"))


def shown(given: str, secrets: Sequence[SecretStr]) -> bool:
    """Whether ``given`` is one of the live secrets; each is compared, in constant time."""
    matched = False
    for secret in secrets:
        matched |= bool(secret) and same(given, secret.reveal())
    return matched


def read_json(body: bytes | str) -> Any:
    """The body read as JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def find(data: Any, paths: str, *, integers: bool = True) -> str:
    """The text, or integer, at the first of several dotted paths that leads to one; empty where none does."""
    for path in paths.split("|"):
        value = data
        for name in path.strip().split("."):
            if isinstance(value, Mapping):
                value = value.get(name)
            elif isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 7:
                value = value[int(name)] if int(name) < len(value) else None
            else:
                value = None
        if integers and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30:
            value = str(value)
        if isinstance(value, str) and value:
            return value
    return ""


def usable(text: str | None, most: int = MOST_ID) -> str:
    """The text if a column and a log line can hold it, else nothing."""
    return text if text and len(text) <= most and text.isprintable() else ""


def check_fields(record: DeliveryFields) -> None:
    """Refuse a record that finds no id.

    Raises:
        ValueError: naming the field.
    """
    name = type(record).__name__
    if record.id_header is None and record.id_field is None and record.id_bucket is None:
        raise ValueError(f"{name} needs id_header, id_field or id_bucket: without an id nothing is recognised")
    if record.id_header is not None and (record.id_field is not None or record.id_bucket is not None):
        raise ValueError(f"{name}.id_header excludes id_field and id_bucket")
    if record.id_bucket is not None and not 1 <= record.id_bucket < math.inf:
        raise ValueError(f"{name}.id_bucket must be at least one second")
    if record.id_per_channel and record.channel_header is None:
        raise ValueError(f"{name}.channel_header is needed when ids are unique in their channel only")
    shake = record.handshake
    if shake is not None and shake.where == "query" and not (shake.token and shake.token_prefix):
        raise ValueError(f"{name}.handshake needs token and token_prefix: nothing else protects a query")


def channel_of(record: DeliveryFields, request: InboundRequest) -> str | None:
    """The channel that the delivery claims to come on; None where it claims none."""
    return usable(request.header(record.channel_header)) or None if record.channel_header is not None else None


def keys_of(record: DeliveryFields, secrets: Sequence[SecretStr]) -> list[SecretStr]:
    """The live secrets without the verification tokens of handshakes."""
    prefix = record.handshake.token_prefix if record.handshake is not None and record.handshake.token else ""
    return [one for one in secrets if one and not (prefix and one.reveal().startswith(prefix))]


def asked(record: DeliveryFields, request: InboundRequest, secrets: Sequence[SecretStr]) -> Challenge | Rejected | None:
    """The answer to a handshake in the query; None for what is no such handshake."""
    shake = record.handshake
    if shake is None or shake.where != "query" or request.method != "GET":
        return None
    given = parameters(query_of(request.target))
    if given is None or len({name for name, _ in given}) != len(given):
        return Rejected(reason="the handshake's parameters cannot be read, or one occurs twice")
    found = dict(given)
    if any(found.get(name) != value for name, value in shake.when.items()):
        return Rejected(reason="the request is neither a delivery nor a handshake")
    if not _holds(shake, found.get(shake.token or "", ""), secrets):
        return Rejected(reason="the handshake's token is wrong")
    return _answered(shake, found.get(shake.challenge, ""))


def _holds(shake: Handshake, token: str, secrets: Sequence[SecretStr]) -> bool:
    tokens = [one for one in secrets if one.reveal().startswith(shake.token_prefix)] if shake.token_prefix else secrets
    return shown(token, tokens)


def _answered(shake: Handshake, challenge: str) -> Challenge | Rejected:
    try:
        body = challenge.encode("utf-8")
    except UnicodeEncodeError:
        body = b""
    if not 0 < len(body) <= MOST_CHALLENGE:
        return Rejected(reason="the handshake's challenge is missing or too long")
    if shake.answer == "text":
        return Challenge(body=body)
    body = json.dumps({shake.challenge.rpartition(".")[2]: challenge}).encode("ascii")
    if len(body) > MOST_CHALLENGE:
        return Rejected(reason="the handshake's challenge is missing or too long")
    return Challenge(body=body, content_type="application/json")


def read(
    record: DeliveryFields,
    request: InboundRequest,
    *,
    now: datetime,
    secrets: Sequence[SecretStr] = (),
    timestamp: datetime | None = None,
    body: bytes | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Verdict:
    """The verdict on a request that was found authentic.

    Args:
        record: where to look.
        request: as it came.
        now: for ids that are made of the body.
        secrets: for the token of a handshake in the body.
        timestamp: the provider's, where it was verified.
        body: what the scheme decrypted or decoded, for the handlers.
        extra: further top-level names that paths may begin with.
    """
    data: Any = None
    if record.id_field or record.event_field or record.resource_field or record.handshake is not None:
        data = _parsed(request)
        if extra is not None and isinstance(data, Mapping):
            data = {**data, **extra}
    shake = record.handshake
    if (
        shake is not None
        and shake.where == "body"
        and data is not None
        and all(find(data, path) == value for path, value in shake.when.items())
        and (shake.when or find(data, shake.challenge))
    ):
        if shake.token is not None and not _holds(shake, find(data, shake.token), secrets):
            return Rejected(reason="the handshake's token is wrong")
        return _answered(shake, find(data, shake.challenge))
    channel = ""
    if record.channel_header is not None:
        channel = channel_of(record, request) or ""
        if not channel:
            return Rejected(reason=f"the header {record.channel_header} is missing")
    delivery_id = _id(record, request, data, now)
    if isinstance(delivery_id, Rejected):
        return delivery_id
    if record.id_per_channel:
        delivery_id = f"{channel}:{delivery_id}"
        if len(delivery_id) > MOST_ID:
            return Rejected(reason="the delivery's id is too long")
    return Verified(
        delivery_id=delivery_id,
        event=usable(_event(record, request, data), MOST_EVENT) or "unknown",
        timestamp=timestamp,
        channel=channel,
        resource=usable(_resource(record, request, data)),
        body=body,
    )


def header_id(record: DeliveryFields, request: InboundRequest) -> str | Rejected:
    """The id in the header that the record names."""
    name = record.id_header or ""
    found = request.header(name)
    if not found:
        return Rejected(reason=f"the header {name} is missing")
    return usable(found) or Rejected(reason=f"the header {name} is not an id")


def _id(record: DeliveryFields, request: InboundRequest, data: Any, now: datetime) -> str | Rejected:
    if record.id_header is not None:
        return header_id(record, request)
    if record.id_field is not None:
        found = usable(find(data, record.id_field))
        if found:
            return found
        if record.id_bucket is None:
            return Rejected(reason="the body has no delivery id where the record says")
    span = int(now.timestamp() // (record.id_bucket or 1))
    content = request.body or request.target.encode("utf-8", "surrogatepass")
    return f"sha256:{hashlib.sha256(content).hexdigest()}:{span}"


def _parsed(request: InboundRequest) -> Any:
    if is_form(request):
        return dict(form_of(request) or ())
    return read_json(request.body)


def _event(record: DeliveryFields, request: InboundRequest, data: Any) -> str | None:
    if record.event_header is not None:
        return request.header(record.event_header)
    return find(data, record.event_field, integers=False) if record.event_field is not None else None


def _resource(record: DeliveryFields, request: InboundRequest, data: Any) -> str | None:
    if record.resource_header is not None:
        return request.header(record.resource_header)
    return find(data, record.resource_field) if record.resource_field is not None else None
