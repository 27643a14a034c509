"""AWS Signature Version 4, in a header or, presigned, in the query.

Sources: "Create a signed AWS API request" in the IAM User Guide; "Authenticating Requests: Using the Authorization
Header" and "… Using Query Parameters" in the Amazon S3 API Reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from threading import Lock
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from attrs import evolve, field, frozen

from ..auth_specs import AwsSigV4
from ..errors import SigningError
from ..http import HttpRequest, check_header
from ..protocols import SigningContext, SigningKey
from ..secret import SecretStr

ALGORITHM: Final = "AWS4-HMAC-SHA256"
LONGEST: Final = 604_800
"""Seconds that a presigned URL may work: 7 days."""
DEFAULT_EXPIRES: Final = 300

_UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
_S3: Final = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts"})
"""Signing names whose path is signed as it stands and whose payload hash is always sent."""
_HASHED: Final = _S3 | {"aoss", "glacier"}
"""Signing names that refuse a request without ``x-amz-content-sha256``."""
_VOLATILE: Final = frozenset(
    {
        "baggage",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)
"""Headers that proxies and load balancers change, add or drop; AWS says not to sign them."""
_OWN_HEADERS: Final = ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
_OWN_PARAMETERS: Final = frozenset(
    f"X-Amz-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Security-Token", "Signature")
)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_PLAIN_URL: Final = re.compile(r"[!-~]+")
_ACCESS_KEY_ID: Final = re.compile(r"[!-+\--.0-~]+")
"""Printable ASCII without ``,`` and ``/``, which would end it in the credential scope."""
_TOKEN: Final = re.compile(r"[!-~]+")
_SCOPE_PART: Final = re.compile(r"[A-Za-z0-9._-]+")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")
_PLAIN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
"""A path that is neither changed by normalising nor by encoding."""
_SPACES: Final = re.compile(r"[ \t\v\f]+")
_KEYS_KEPT: Final = 256


@frozen(kw_only=True)
class AwsKeys:
    """What signs: an access key, and the session token when it is a temporary one."""

    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None


@frozen(kw_only=True)
class SigningScope:
    """Whom the signature is for: the service's signing name, its region, and the moment (aware)."""

    service: str
    region: str
    now: datetime
    timestamp: str = field(init=False)
    """``YYYYMMDDTHHMMSSZ``"""
    text: str = field(init=False)
    """``YYYYMMDD/region/service/aws4_request``"""

    @timestamp.default
    def _timestamp(self) -> str:
        at = self.now.astimezone(UTC)
        return f"{at.year:04}{at.month:02}{at.day:02}T{at.hour:02}{at.minute:02}{at.second:02}Z"

    @text.default
    def _text(self) -> str:
        for name, value in (("service", self.service), ("region", self.region)):
            if not _SCOPE_PART.fullmatch(value):
                raise SigningError(f"The {name} is not one that AWS could have: {value!r}.", field=f"auth.{name}")
        return f"{self.timestamp[:8]}/{self.region}/{self.service}/aws4_request"


DeriveKey = Callable[[SecretStr, str], bytes]
"""From a secret access key and the scope's text to the signing key."""


def derive_key(secret: SecretStr, scope: str) -> bytes:
    """The signing key of 32 bytes for ``date/region/service/aws4_request``.

    Raises:
        SigningError: the secret holds a character that cannot be encoded.
    """
    try:
        key = b"AWS4" + secret.reveal().encode()
    except UnicodeEncodeError:
        raise SigningError(
            "The secret access key holds a character that cannot be encoded.", field="secret_access_key"
        ) from None
    for part in scope.split("/"):
        key = digest(key, part.encode(), "sha256")
    return key


class SigningKeys:
    """Remembers the latest signing keys, so that each is derived once a day. It keeps no secret access key: they are
    found by its SHA-256."""

    def __init__(self) -> None:
        self._keys: dict[tuple[bytes, str], bytes] = {}
        self._lock = Lock()

    def __call__(self, secret: SecretStr, scope: str) -> bytes:
        """As :func:`derive_key`."""
        name = sha256(secret.reveal().encode("utf-8", "surrogatepass")).digest(), scope
        found = self._keys.get(name)
        if found is None:
            found = derive_key(secret, scope)
            with self._lock:
                while len(self._keys) >= _KEYS_KEPT:
                    del self._keys[next(iter(self._keys))]
                self._keys[name] = found
        return found


def sign_headers(
    request: HttpRequest,
    keys: AwsKeys,
    scope: SigningScope,
    *,
    unsigned_payload: bool = False,
    derive: DeriveKey = derive_key,
) -> HttpRequest:
    """A copy of the final ``request`` with ``Authorization`` and the ``x-amz-…`` headers that it covers.

    Every header is signed but those that are changed on the way. An earlier signature in the header is replaced.

    Raises:
        SigningError: the request is not final, carries another credential, or streams a body whose hash is wanted.
        BadInput: a header would break out of its line.
    """
    address, query = _split(request)
    if any(_name(part) == "X-Amz-Signature" for part in query):
        raise SigningError("The request is signed in its query already.", field="url")
    payload = _UNSIGNED_PAYLOAD if unsigned_payload else _payload_hash(request)
    headers = _kept_headers(request, resign=True)
    headers.append(("X-Amz-Date", scope.timestamp))
    token = _session_token(keys)
    if token is not None:
        headers.append(("X-Amz-Security-Token", token))
    if unsigned_payload or scope.service in _HASHED:
        headers.append(("X-Amz-Content-SHA256", payload))
    names, lines = _canonical_headers(headers, address.host)
    signature = _signature(request.method, address.path, query, names, lines, payload, keys, scope, derive)
    credential = f"{_access_key_id(keys)}/{scope.text}"
    headers.append(
        ("Authorization", f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}")
    )
    return _with(request, request.url, headers)


def presign(
    request: HttpRequest,
    keys: AwsKeys,
    scope: SigningScope,
    *,
    expires: int = DEFAULT_EXPIRES,
    unsigned_payload: bool = False,
    derive: DeriveKey = derive_key,
) -> HttpRequest:
    """A copy of the final ``request`` whose URL works by itself for ``expires`` seconds.

    The headers that the request has must be sent with the URL, except those that are changed on the way. S3 does not
    sign the payload of a presigned request. An earlier signature in the query is replaced.

    Raises:
        SigningError: as :func:`sign_headers`; or ``expires`` is not between 1 and 604800.
        BadInput: a header would break out of its line.
    """
    if type(expires) is not int or not 1 <= expires <= LONGEST:
        raise SigningError(f"A presigned URL works for 1 to {LONGEST} seconds.", field="auth.expires")
    address, query = _split(request)
    headers = _kept_headers(request, resign=False)
    unsigned = unsigned_payload or scope.service in _S3
    payload = _UNSIGNED_PAYLOAD if unsigned else _payload_hash(request)
    if unsigned and scope.service not in _S3:
        headers.append(("X-Amz-Content-SHA256", payload))
    names, lines = _canonical_headers(headers, address.host)
    parameters = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{_access_key_id(keys)}/{scope.text}",
        "X-Amz-Date": scope.timestamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": names,
    }
    token = _session_token(keys)
    if token is not None:
        parameters["X-Amz-Security-Token"] = token
    kept = [part for part in query if _name(part) not in _OWN_PARAMETERS]
    own = [f"{name}={quote(value, safe='')}" for name, value in parameters.items()]
    signature = _signature(request.method, address.path, kept + own, names, lines, payload, keys, scope, derive)
    whole = "&".join([*kept, *own, f"X-Amz-Signature={signature}"])
    return _with(request, f"{address.base}?{whole}{address.fragment}", headers)


class SigV4Signer:
    """Signs as the ``AwsSigV4`` record says, with the key that is the credential's ``access_key_id``, its secret and,
    for temporary keys, ``session_token``."""

    def __init__(self) -> None:
        self._derive = SigningKeys()

    def sign(self, request: HttpRequest, key: SigningKey, ctx: SigningContext) -> HttpRequest:
        record = key.auth
        if not isinstance(record, AwsSigV4):
            raise SigningError(f"The signer aws_sigv4 needs an AwsSigV4 record, not {type(record).__name__}.")
        extra = key.credential.tokens.extra if key.credential is not None else {}
        if "access_key_id" not in extra:
            raise SigningError("The credential has no access key id.", field="access_key_id")
        keys = AwsKeys(
            access_key_id=extra["access_key_id"].reveal(),
            secret_access_key=key.secret,
            session_token=extra.get("session_token"),
        )
        if record.access_token_header is not None and "access_token" in extra:
            request = request.with_header(record.access_token_header, extra["access_token"].reveal())
        scope = SigningScope(service=record.service, region=record.region, now=ctx.now)
        unsigned = record.unsigned_payload
        if record.mode == "query":
            return presign(request, keys, scope, expires=record.expires, unsigned_payload=unsigned, derive=self._derive)
        return sign_headers(request, keys, scope, unsigned_payload=unsigned, derive=self._derive)


@frozen
class _Address:
    """A URL without its query, in the parts that are signed."""

    base: str
    fragment: str
    host: str
    path: str


def _split(request: HttpRequest) -> tuple[_Address, list[str]]:
    """The URL's address and the parts of its query, as they stand."""
    base, mark, fragment = request.url.partition("#")
    base, _, query = base.partition("?")
    if not _PLAIN_URL.fullmatch(request.url):
        raise SigningError("The URL holds a character that must be percent-encoded.", field="url")
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SigningError("The URL has no usable host and port.", field="url") from None
    if not host or parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc or "\\" in base:
        raise SigningError("The URL is not https://host/path without user information.", field="url")
    host = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    given = {value.lower() for name, value in request.headers if name.lower() == "host"}
    if not given <= {host, parts.netloc.lower()}:
        raise SigningError("The Host header is not the host of the URL.", field="Host")
    return _Address(base, mark + fragment, host, parts.path or "/"), query.split("&") if query else []


def _kept_headers(request: HttpRequest, *, resign: bool) -> list[tuple[str, str]]:
    """The headers without what a signature adds; a credential that is not one of ours is refused."""
    kept: list[tuple[str, str]] = []
    for name, value in request.headers:
        check_header(name, value)
        lowered = name.lower()
        if lowered == "authorization" and not (resign and value.startswith(f"{ALGORITHM} ")):
            raise SigningError(
                "The request has an Authorization header already; AWS takes one credential only.", field="Authorization"
            )
        if lowered != "authorization" and lowered not in _OWN_HEADERS:
            kept.append((name, value))
    return kept


def _with(request: HttpRequest, url: str, headers: list[tuple[str, str]]) -> HttpRequest:
    return evolve(request, url=url, headers=tuple(headers))


def _canonical_headers(headers: list[tuple[str, str]], host: str) -> tuple[str, str]:
    """The signed names, joined, and the canonical lines: values folded, those of one name joined in their order."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered not in _VOLATILE:
            values.setdefault(lowered, []).append(_SPACES.sub(" ", value).strip(" "))
    values["host"] = [host]
    names = sorted(values)
    return ";".join(names), "".join(f"{name}:{','.join(values[name])}\n" for name in names)


def _signature(
    method: str,
    path: str,
    query: list[str],
    names: str,
    lines: str,
    payload: str,
    keys: AwsKeys,
    scope: SigningScope,
    derive: DeriveKey,
) -> str:
    address = _s3_path(path) if scope.service in _S3 else _path(path)
    canonical = f"{method.upper()}\n{address}\n{_canonical_query(query)}\n{lines}\n{names}\n{payload}"
    hashed = sha256(canonical.encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{scope.timestamp}\n{scope.text}\n{hashed}"
    return digest(derive(keys.secret_access_key, scope.text), to_sign.encode(), "sha256").hex()


def _path(path: str) -> str:
    """The path normalised (RFC 3986 §5.2.4, empty segments removed too) and encoded once more than on the wire."""
    if _PLAIN_PATH.fullmatch(path):
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    tail = "/" if kept and path.endswith("/") else ""
    return quote("/" + "/".join(kept) + tail, safe="/")


def _s3_path(path: str) -> str:
    """The path with its segments as they are, each byte encoded once: ``//`` and ``..`` may be part of a key."""
    return "/".join(_encoded(segment) for segment in path.split("/"))


def _canonical_query(query: list[str]) -> str:
    """Names and values decoded and encoded as AWS wants (RFC 3986, no ``+``), sorted by name, then by value."""
    pairs = []
    for part in filter(None, query):
        name, _, value = part.replace("+", "%20").partition("=")
        pairs.append((_encoded(name), _encoded(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _encoded(text: str) -> str:
    """What is encoded in some way, encoded as AWS wants it: everything but unreserved characters, in capitals."""
    return text if _UNRESERVED.fullmatch(text) else quote(unquote_to_bytes(text), safe="")


def _name(part: str) -> str:
    return _encoded(part.partition("=")[0])


def _payload_hash(request: HttpRequest) -> str:
    if request.body is not None and not isinstance(request.body, bytes):
        raise SigningError(
            "The hash of a streamed body is not known before it is sent.",
            hint="Send it as bytes, or set unsigned_payload where the service allows that.",
            field="body",
        )
    return sha256(request.body or b"").hexdigest()


def _access_key_id(keys: AwsKeys) -> str:
    if not _ACCESS_KEY_ID.fullmatch(keys.access_key_id):
        raise SigningError("The access key id holds a character that none can have.", field="access_key_id")
    return keys.access_key_id


def _session_token(keys: AwsKeys) -> str | None:
    if not keys.session_token:
        return None
    if not _TOKEN.fullmatch(keys.session_token.reveal()):
        raise SigningError("The session token holds a character that none can have.", field="session_token")
    return keys.session_token.reveal()
