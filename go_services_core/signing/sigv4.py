"""AWS Signature Version 4, in a header or, presigned, in the query.

Sources: "Create a signed AWS API request" in the IAM User Guide; "Authenticating Requests: Using the Authorization
Header" and "… Using Query Parameters" in the Amazon S3 API Reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from hmac import digest
from math import floor
from threading import Lock
from typing import Final
from urllib.parse import quote, urlsplit

from attrs import evolve, field, frozen

from ..auth_specs import AuthSpec, AwsSigV4
from ..errors import SigningError
from ..http import BodySource, HttpRequest, check_header
from ..protocols import SigningContext, SigningKey
from ..secret import SecretStr
from .aws_chunked import (
    SIGNED,
    UNSIGNED,
    ChecksumFraming,
    ChunkedBody,
    Framing,
    SignedFraming,
    framed_headers,
    unframed,
)
from .aws_query import encoded, kept_query, pairs_of

ALGORITHM: Final = "AWS4-HMAC-SHA256"
LONGEST: Final = 604_800
"""Seconds that a presigned URL may work: 7 days."""
DEFAULT_EXPIRES: Final = 300

_EMPTY: Final = sha256(b"").hexdigest()
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
_NO_ADDRESS: Final = "The URL is not https://host/path without user information."
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_ACCESS_KEY_ID: Final = re.compile(r"[!-+\--.0-~]+")
"""Printable ASCII without ``,`` and ``/``, which would end it in the credential scope."""
_TOKEN: Final = re.compile(r"[!-~]+")
_SCOPE_PART: Final = re.compile(r"[A-Za-z0-9._-]+")
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
        text = self.now.astimezone(UTC).isoformat("T", "seconds")
        return f"{text[:4]}{text[5:7]}{text[8:13]}{text[14:16]}{text[17:19]}Z"

    @text.default
    def _text(self) -> str:
        for name, value in (("service", self.service), ("region", self.region)):
            if not _SCOPE_PART.fullmatch(value):
                raise SigningError(f"The {name} is not one that AWS could have: {value!r}.", field=f"auth.{name}")
        return f"{self.timestamp[:8]}/{self.region}/{self.service}/aws4_request"


@lru_cache(maxsize=64)
def _scope(service: str, region: str, second: int) -> SigningScope:
    """The scope of every request that is signed in one second since 1970."""
    return SigningScope(service=service, region=region, now=datetime.fromtimestamp(second, UTC))


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
    checksum: str | None = None,
    derive: DeriveKey = derive_key,
) -> HttpRequest:
    """A copy of the final ``request`` with ``Authorization`` and the ``x-amz-…`` headers that it covers.

    Every header is signed but those that are changed on the way. An earlier signature in the header is replaced. A body
    that is streamed to S3 is sent in the framing ``aws-chunked``: each chunk signed, or, where the payload is unsigned
    and there is a ``checksum`` (``crc32`` or ``sha256``), with that at its end.

    Raises:
        SigningError: the request is not final, carries another credential, or streams a body whose hash or length is
            wanted.
        BadInput: a header would break out of its line.
    """
    _require_usable(keys)
    streamed = None
    if not (request.body is None or isinstance(request.body, bytes)):
        request = unframed(request)
        streamed = _streamed(request, scope, signed=not unsigned_payload or checksum is not None)
    _, query, _, host, path = _split(request)
    pairs = pairs_of(query) if query else []
    if query and "X-Amz-Signature" in dict(pairs):
        raise SigningError("The request is signed in its query already.", field="url")
    if streamed is not None:
        payload = UNSIGNED if unsigned_payload else SIGNED
    else:
        payload = _UNSIGNED_PAYLOAD if unsigned_payload else _payload_hash(request)
    headers, covered = _kept_headers(request, resign=True)
    if streamed is not None:
        headers = framed_headers(headers, streamed[1], checksum if unsigned_payload else None)
        covered = [_canonical(name, value) for name, value in headers if name.lower() not in _VOLATILE]
    headers.append(("X-Amz-Date", scope.timestamp))
    covered.append(("x-amz-date", scope.timestamp))
    if keys.session_token:
        headers.append(("X-Amz-Security-Token", keys.session_token.reveal()))
        covered.append(("x-amz-security-token", keys.session_token.reveal()))
    if unsigned_payload or scope.service in _HASHED:
        headers.append(("X-Amz-Content-SHA256", payload))
        covered.append(("x-amz-content-sha256", payload))
    names, lines = _canonical_headers(covered, host)
    signature = _signature(request.method, path, pairs, names, lines, payload, keys, scope, derive)
    credential = f"{keys.access_key_id}/{scope.text}"
    headers.append(
        ("Authorization", f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}")
    )
    if streamed is not None:
        key, name = derive(keys.secret_access_key, scope.text), checksum or ""
        framing: Callable[[], Framing] = partial(SignedFraming, key, scope.timestamp, scope.text, signature)
        request = evolve(
            request,
            body=ChunkedBody(*streamed, partial(ChecksumFraming, name) if unsigned_payload else framing),
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
    _require_usable(keys)
    base, query, fragment, host, path = _split(request)
    unsigned = unsigned_payload or scope.service in _S3
    payload = _UNSIGNED_PAYLOAD if unsigned else _payload_hash(request)
    headers, covered = _kept_headers(request, resign=False)
    if unsigned and scope.service not in _S3:
        headers.append(("X-Amz-Content-SHA256", payload))
        covered.append(("x-amz-content-sha256", payload))
    names, lines = _canonical_headers(covered, host)
    parameters = {
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{keys.access_key_id}/{scope.text}",
        "X-Amz-Date": scope.timestamp,
        "X-Amz-Expires": str(expires),
        "X-Amz-SignedHeaders": names,
    }
    if keys.session_token:
        parameters["X-Amz-Security-Token"] = keys.session_token.reveal()
    kept = kept_query(query)
    own = [f"{name}={quote(value, safe='')}" for name, value in parameters.items()]
    signature = _signature(
        request.method, path, pairs_of("&".join(kept + own)), names, lines, payload, keys, scope, derive
    )
    whole = "&".join([*kept, *own, f"X-Amz-Signature={signature}"])
    return _with(request, f"{base}?{whole}{fragment}", headers)


class SigV4Signer:
    """Signs as the ``AwsSigV4`` record says, with the key that is the credential's ``access_key_id``, its secret and,
    for temporary keys, ``session_token``."""

    def __init__(self) -> None:
        self._derive = SigningKeys()

    def is_dated(self, auth: AuthSpec) -> bool:
        """True: the time is part of what is signed."""
        return True

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
        scope = _scope(record.service, record.region, floor(ctx.now.timestamp()))
        unsigned = record.unsigned_payload
        if record.mode == "query":
            return presign(request, keys, scope, expires=record.expires, unsigned_payload=unsigned, derive=self._derive)
        return sign_headers(
            request, keys, scope, unsigned_payload=unsigned, checksum=record.checksum, derive=self._derive
        )


def _split(request: HttpRequest) -> tuple[str, str, str, str, str]:
    """The URL's base, query and fragment with its mark, as they stand, and its host and path."""
    url = request.url
    if not url.isascii() or not url.isprintable() or " " in url:
        raise SigningError("The URL holds a character that must be percent-encoded.", field="url")
    base, mark, fragment = url.partition("#")
    base, _, query = base.partition("?")
    scheme, slashes, rest = base.partition("://")
    authority, slash, path = rest.partition("/")
    if not slashes or "\\" in base:
        raise SigningError(_NO_ADDRESS, field="url")
    host = _host(scheme, authority)
    for name, value in request.headers:
        if len(name) == 4 and name.lower() == "host" and value.lower() not in (host, authority.lower()):
            raise SigningError("The Host header is not the host of the URL.", field="Host")
    return base, query, mark + fragment, host, slash + path or "/"


@lru_cache(maxsize=256)
def _host(scheme: str, authority: str) -> str:
    """The Host that is sent: in lower case, without the scheme's own port."""
    try:
        parts = urlsplit(f"{scheme}://{authority}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SigningError("The URL has no usable host and port.", field="url") from None
    if not host or parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc:
        raise SigningError(_NO_ADDRESS, field="url")
    host = f"[{host}]" if ":" in host else host
    return host if port is None or port == _DEFAULT_PORTS[parts.scheme] else f"{host}:{port}"


def _kept_headers(request: HttpRequest, *, resign: bool) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The headers without what a signature adds, and those of them that are signed, in canonical form.

    A credential that is not one of ours is refused.
    """
    kept: list[tuple[str, str]] = []
    covered: list[tuple[str, str]] = []
    for pair in request.headers:
        name, value = pair
        lowered = _lowered(name)
        if not (value.isascii() and value.isprintable()):
            check_header(name, value)
        if lowered == "authorization":
            if not (resign and value.startswith(f"{ALGORITHM} ")):
                del value, pair  # or a traceback with locals shows it
                raise SigningError(
                    "The request has an Authorization header already; AWS takes one credential only.",
                    field="Authorization",
                )
        elif lowered not in _OWN_HEADERS:
            kept.append(pair)
            if lowered not in _VOLATILE:
                covered.append(_canonical(lowered, value))
    return kept, covered


@lru_cache(maxsize=256)
def _lowered(name: str) -> str:
    """A header's name in lower case, if it can be one."""
    check_header(name, "")
    return name.lower()


def _canonical(name: str, value: str) -> tuple[str, str]:
    """The name in lower case, the value folded."""
    if "  " in value or not value.isprintable():
        value = _SPACES.sub(" ", value)
    return name.lower(), value.strip(" ")


def _with(request: HttpRequest, url: str, headers: list[tuple[str, str]]) -> HttpRequest:
    return HttpRequest(
        request.method, url, tuple(headers), request.body, request.timeout, request.max_body, request.client_certificate
    )


def _canonical_headers(covered: list[tuple[str, str]], host: str) -> tuple[str, str]:
    """The signed names, joined, and the canonical lines; values of one name are joined in their order."""
    values = {"host": host}
    for name, value in covered:
        if name not in values:
            values[name] = value
        elif name != "host":
            values[name] += f",{value}"
    names = sorted(values)
    return ";".join(names), "".join([f"{name}:{values[name]}\n" for name in names])


def _signature(
    method: str,
    path: str,
    pairs: list[tuple[str, str]],
    names: str,
    lines: str,
    payload: str,
    keys: AwsKeys,
    scope: SigningScope,
    derive: DeriveKey,
) -> str:
    address = _s3_path(path) if scope.service in _S3 else _path(path)
    query = "&".join([f"{name}={value}" for name, value in pairs]) if pairs else ""
    canonical = f"{method.upper()}\n{address}\n{query}\n{lines}\n{names}\n{payload}"
    hashed = sha256(canonical.encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{scope.timestamp}\n{scope.text}\n{hashed}"
    inner, outer = _blocks(derive(keys.secret_access_key, scope.text))
    return sha256(outer + sha256(inner + to_sign.encode()).digest()).hexdigest()


@lru_cache(maxsize=_KEYS_KEPT)
def _blocks(key: bytes) -> tuple[bytes, bytes]:
    """The blocks that HMAC begins with for a key of 32 bytes (RFC 2104 §2): ``hmac.digest`` looks its algorithm up anew
    each time, which takes as long again as the two hashes."""
    return tuple(bytes(byte ^ pad for byte in key.ljust(64, b"\0")) for pad in (0x36, 0x5C))  # type: ignore[return-value]


@lru_cache(maxsize=256)
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
    return "/".join(encoded(segment) for segment in path.split("/"))


def _streamed(request: HttpRequest, scope: SigningScope, *, signed: bool) -> tuple[BodySource, int] | None:
    """The body and its length, where it is streamed to S3 in chunks."""
    body = request.body
    if not signed or body is None or isinstance(body, bytes) or scope.service not in _S3:
        return None
    if body.length is None:
        raise SigningError(
            "S3 is told the length of a streamed body before it is sent, and this one's is not known.",
            hint="Give its source a length, or send it in parts as bytes (multipart upload).",
            field="body",
        )
    return body, body.length


def _payload_hash(request: HttpRequest) -> str:
    if request.body is None or request.body == b"":
        return _EMPTY
    if not isinstance(request.body, bytes):
        raise SigningError(
            "The hash of a streamed body is not known before it is sent.",
            hint="Send it as bytes, or set unsigned_payload where the service allows that.",
            field="body",
        )
    return sha256(request.body).hexdigest()


def _require_usable(keys: AwsKeys) -> None:
    """Refuse keys that none can be, before anything of them stands in a variable that a traceback could show."""
    if not _ACCESS_KEY_ID.fullmatch(keys.access_key_id):
        raise SigningError("The access key id holds a character that none can have.", field="access_key_id")
    if keys.session_token and not _TOKEN.fullmatch(keys.session_token.reveal()):
        raise SigningError("The session token holds a character that none can have.", field="session_token")
    if not keys.secret_access_key.reveal().isascii():
        raise SigningError("The secret access key holds a character that cannot be encoded.", field="secret_access_key")
