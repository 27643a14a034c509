"""Temporary keys of a role: the request and its answer (AWS STS API Reference: AssumeRole, Common errors)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from xml.parsers import expat

from attrs import evolve, frozen

from ..auth_specs import AssumeRole, AwsSigV4
from ..errors import InvalidGrant, ProviderUnavailable, RateLimited, TokenEndpointError, TokenResponseInvalid
from ..http import HttpRequest, HttpResponse
from ..redaction import scrub
from ..retry_after import retry_after
from ..secret import SecretStr
from ..signing.sigv4 import AwsKeys, SigningScope, sign_headers

MAX_ANSWER = 65_536
"""Bytes; an answer has about 2,000."""
_VERSION = "2011-06-15"
_CODE = re.compile(r"[A-Za-z0-9._:-]{1,80}")
_VALUE = re.compile(r"[!-~]+")

_OVER = frozenset({"InvalidClientTokenId", "NoSuchEntity", "NoSuchEntityException"})
"""The access key or the role is gone. A missing role and a changed trust policy both read AccessDenied at AWS."""
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
_BUSY = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_FAILING = frozenset(
    {"InternalError", "InternalFailure", "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable"}
)
_HINTS: Mapping[str, str] = {
    "AccessDenied": "Either the role's trust policy does not allow these keys and this external id, or these keys may "
    "not call sts:AssumeRole, or there is no such role.",
    "SignatureDoesNotMatch": "The secret access key is not that of the access key id, or this machine's clock is off.",
    "RequestExpired": "This machine's clock is off.",
    "RegionDisabledException": "Activate STS in this region, or set sts_region to one where it is active.",
}


def assume_role(
    record: AwsSigV4,
    role: AssumeRole,
    keys: AwsKeys,
    *,
    arn: str,
    external_id: str | None,
    now: datetime,
) -> HttpRequest:
    """The signed request for the role's keys."""
    region = record.sts_region or record.region
    fields = {
        "Action": "AssumeRole",
        "Version": _VERSION,
        "RoleArn": arn,
        "RoleSessionName": role.session_name,
        "DurationSeconds": str(role.duration),
    }
    if external_id is not None:
        fields["ExternalId"] = external_id
    request = HttpRequest.form(record.sts_url or _endpoint(region), fields).with_header("Accept", "application/xml")
    scope = SigningScope(service="sts", region=region, now=now)
    return sign_headers(evolve(request, max_body=MAX_ANSWER), keys, scope)


def _endpoint(region: str) -> str:
    """The endpoint of a region: in China it is in another domain."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://sts.{region}.{domain}/"


@frozen(kw_only=True)
class RoleKeys:
    """The keys of a role's session."""

    keys: AwsKeys
    expires_at: datetime


def read_role_keys(
    response: HttpResponse, *, now: datetime, sent: Iterable[SecretStr | None], temporary: bool
) -> RoleKeys:
    """The keys in ``response``: XML as AWS documents it, or the same as JSON, whatever the content type claims.

    ``sent`` are the secrets of the request: they are removed from whatever the endpoint says. ``temporary`` says that
    the keys which signed the request have a session token, and so end for good.

    Raises:
        InvalidGrant: the access key or the role is gone, or the temporary keys are over.
        RateLimited, ProviderUnavailable: the endpoint asks to wait, or is failing.
        TokenEndpointError: any other refusal, AccessDenied too: whoever changed a policy may change it back.
        TokenResponseInvalid: no refusal, and no keys that can be used either.
    """
    fields = _read(response.body)
    status = response.status
    refused = _inside(fields, "Error")
    code = refused.get("Code") if refused is not None else None
    if isinstance(code, str) and code:
        raise _refusal(response, code, refused, now, tuple(sent), temporary=temporary)
    if status == 429:
        raise RateLimited("STS asks to wait.", upstream_status=status, retry_after=retry_after(response, now))
    if status >= 500:
        raise ProviderUnavailable(f"STS is failing (status {status}).", upstream_status=status)
    if not 200 <= status < 300:
        raise TokenResponseInvalid(f"STS answered with status {status} and no error code.")
    found = _inside(fields, "Credentials")
    if found is None:
        kind = response.content_type or "no content type"
        raise TokenResponseInvalid(f"The answer of STS has no keys ({kind}, {len(response.body)} bytes).")
    keys = AwsKeys(
        access_key_id=_text(found, "AccessKeyId"),
        secret_access_key=SecretStr(_text(found, "SecretAccessKey")),
        session_token=SecretStr(_text(found, "SessionToken")),
    )
    expires_at = _moment(found.get("Expiration"))
    if expires_at <= now:
        raise TokenResponseInvalid(
            "The keys that STS gave are over already.", hint="Is this machine's clock right?", error="Expiration"
        )
    return RoleKeys(keys=keys, expires_at=expires_at)


def _refusal(
    response: HttpResponse,
    code: str,
    refused: Mapping[str, Any] | None,
    now: datetime,
    sent: tuple[SecretStr | None, ...],
    *,
    temporary: bool,
) -> Exception:
    shown = scrub(code, sent) if _CODE.fullmatch(code) else "an unreadable error code"
    message = refused.get("Message") if refused is not None else None
    said = f": {scrub(message, sent)}" if isinstance(message, str) and message else ""
    text = f"STS refused with {shown}{said.rstrip('.')}."
    status = response.status
    if code in _BUSY or status == 429:
        return RateLimited(text, upstream_status=status, upstream_code=shown, retry_after=retry_after(response, now))
    if code in _FAILING or status >= 500:
        return ProviderUnavailable(text, upstream_status=status, upstream_code=shown)
    if code in _OVER or (code in _EXPIRED and temporary):
        return InvalidGrant(text, error=shown)
    return TokenEndpointError(text, error=shown, hint=_HINTS.get(code))


def _read(body: bytes) -> dict[str, Any] | None:
    """The answer's elements as mappings, names without their namespace; None where it is neither XML nor JSON."""
    try:
        read = json.loads(body)
        return read if isinstance(read, dict) else None
    except (ValueError, RecursionError):
        pass
    reader = _Xml()
    try:
        reader.parser.Parse(body, True)
    except (expat.ExpatError, _NotRead, ValueError):
        return None
    return reader.root


class _NotRead(Exception):
    """The document has something that no answer has."""


class _Xml:
    """An XML document as mappings. A document type and a name that an element repeats are refused."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._open: list[tuple[str, dict[str, Any], list[str]]] = [("", self.root, [])]
        parser = self.parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data

    def _doctype(self, *_: Any) -> None:
        raise _NotRead

    def _start(self, name: str, _: Any) -> None:
        name = name.rpartition(" ")[2]
        if name in self._open[-1][1]:
            raise _NotRead
        self._open.append((name, {}, []))

    def _end(self, _: str) -> None:
        name, inside, text = self._open.pop()
        self._open[-1][1][name] = inside or "".join(text).strip()

    def _data(self, data: str) -> None:
        self._open[-1][2].append(data)


def _inside(fields: Any, name: str) -> Mapping[str, Any] | None:
    """The mapping under ``name``, at the top or at most three levels below it."""
    level = [fields]
    for _ in range(4):
        for one in level:
            if isinstance(one, Mapping) and isinstance(one.get(name), Mapping):
                found: Mapping[str, Any] = one[name]
                return found
        level = [value for one in level if isinstance(one, Mapping) for value in one.values()]
    return None


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise TokenResponseInvalid(f"The answer of STS has no usable {name}.", error=name)
    return value


def _moment(value: Any) -> datetime:
    """ISO 8601 as in XML, or seconds since 1970 as in JSON."""
    try:
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
        if isinstance(value, (int, float)) and math.isfinite(value):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise TokenResponseInvalid("The answer of STS has no usable Expiration.", error="Expiration")
