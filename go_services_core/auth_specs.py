"""The records of how a provider authenticates: data only, frozen, comparable.

URL fields, issuers, assertion audiences and regions may hold ``{name}``, as in ``go_services_core.specs``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

from attrs import Attribute, field, frozen
from attrs.validators import and_, deep_mapping, ge, gt, in_, instance_of, le, lt, matches_re, optional

from .tuples import as_tuple

Rotation = Literal["none", "single-use", "single-use-grace"]
RevocationScope = Literal["token", "grant"]
ClientAuth = Literal["basic", "post", "none", "tls", "private_key_jwt", "client_secret_jwt"]
Dpop = Literal["off", "preferred", "required"]


_RENAMED = ("client_id", "client_secret", "redirect_uri", "scope", "code", "refresh_token", "audience", "resource")
_OWN_NAMES = {*_RENAMED, "state", "nonce", "response_type", "grant_type", "code_challenge", "code_verifier"}


is_seconds: Any = optional(and_(instance_of((int, float)), ge(0), lt(math.inf)))
"""Validates a field with seconds: finite, not below 0, or None. NaN is refused as well: it is not at least 0."""
_life = optional(and_(instance_of((int, float)), gt(0), lt(math.inf)))


def _renames(record: object, attribute: Attribute[Mapping[str, str]], value: Mapping[str, str]) -> None:
    """Only names that vendors do change, each to one that no other parameter has."""
    unknown = sorted(set(value) - set(_RENAMED))
    if unknown:
        raise ValueError(f"parameters cannot rename {unknown[0]!r}; it can rename {', '.join(_RENAMED)}")
    names = list(value.values())
    taken = sorted(name for name in names if not name or name in _OWN_NAMES or names.count(name) > 1)
    if taken:
        raise ValueError(f"parameters gives a parameter the name {taken[0]!r}, which is another one's")


def _is_bound_once(record: OAuth2Client, attribute: Attribute[str], value: str) -> None:
    if value != "off" and record.certificate_bound_tokens:
        raise ValueError("dpop and certificate_bound_tokens exclude each other: a token is bound in one way")


@runtime_checkable
class AuthSpec(Protocol):
    """Any frozen record with a ``kind`` that an auth strategy serves, and the signer that uses its credential."""

    @property
    def kind(self) -> str: ...

    @property
    def signer(self) -> str: ...


@frozen(kw_only=True)
class OAuth2Client:
    """What every OAuth 2.0 record says of its server and of how the client talks to it (RFC 6749)."""

    kind: ClassVar[str]
    token_url: str
    revocation_url: str | None = None
    """RFC 7009; without one, disconnecting only destroys the stored credential."""
    introspection_url: str | None = None
    """RFC 7662."""
    default_grants: tuple[str, ...] = ()
    tells_grants: bool = True
    """Whether the token answer says what was granted where that is not what was asked for (RFC 6749 §5.1). False only
    for a server without scopes: where it says nothing, capabilities are then left to its own answer to the call."""
    scope_separator: str = " "
    client_auth: ClientAuth = field(default="basic", validator=in_(get_args(ClientAuth)))
    """How the client authenticates at the server's endpoints: RFC 6749 §2.3.1; ``tls`` is ``tls_client_auth`` and
    ``self_signed_tls_client_auth`` (RFC 8705 §2), with the settings ``client_certificate`` and
    ``client_private_key``; ``private_key_jwt`` signs an assertion with the setting ``client_key`` and
    ``client_secret_jwt`` with the client's secret (RFC 7523 §2.2, OpenID Connect Core §9)."""
    assertion_audience: str | None = None
    """``aud`` of the client's assertion, where the server wants neither its issuer, which is sent where the record has
    one, nor the token endpoint."""
    assertion_algorithm: str | None = field(
        default=None, validator=optional(matches_re(r"(RS|PS|ES)(256|384|512)|EdDSA|Ed25519"))
    )
    """Signature algorithm of ``private_key_jwt``; None goes by the key."""
    certificate_bound_tokens: bool = False
    """Whether tokens are bound to the client's certificate (RFC 8705 §3), so that calls must present it."""
    mtls_endpoints: Mapping[str, str] = field(
        factory=dict, validator=deep_mapping(matches_re(r"[a-z_]+_endpoint"), instance_of(str))
    )
    """URLs for clients with a certificate, by the names of the authorization server's ``mtls_endpoint_aliases``
    (RFC 8705 §5): ``token_endpoint``, ``revocation_endpoint`` …"""
    parameters: Mapping[str, str] = field(factory=dict, validator=_renames)
    """Names of parameters at a provider that has its own: ``{"client_id": "client_key"}``."""
    extra_token: Mapping[str, str] = field(factory=dict)
    """Further parameters of the token requests; they replace none of the flow's own."""
    resource: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Where the token shall be used (RFC 8707 §2): absolute URIs without fragment."""
    token_response: Mapping[str, str] = field(factory=dict)
    """Where the token answer has a field that is not at its top: ``{"access_token": "authed_user.access_token"}``.

    The paths are dotted, alternatives are separated by ``|``, and the field is read nowhere else. A name that no OAuth
    answer has is kept as a secret in ``TokenSet.extra``.
    """
    default_lifetime: float | None = field(default=None, validator=is_seconds)
    """Seconds an access token lives when the answer has no ``expires_in``; None means that it does not expire."""
    refresh_margin: float | None = field(default=None, validator=is_seconds)
    """Seconds before its end that an access token is renewed; None means a tenth of its life, at most 5 minutes."""
    refresh_lifetime: float | None = field(default=None, validator=_life)
    """Seconds a refresh token lives after it was issued, when the answer does not say; None: nobody knows."""
    refresh_inactivity: float | None = field(default=None, validator=_life)
    """Seconds after which a refresh token that is not used dies; each use begins them anew. ``refresh.ahead`` then
    renews after four fifths of them, whatever the access token's life. None: a refresh token need not be used."""
    revocation_scope: RevocationScope = "token"
    dpop: Dpop = field(default="off", validator=and_(in_(get_args(Dpop)), _is_bound_once))
    """Whether tokens are bound to a key of their connection (RFC 9449): ``required`` refuses an answer without that,
    ``preferred`` takes it as it is. Calls with a bound token are signed by ``dpop`` in place of ``bearer``."""
    signer: str = "bearer"


def _asymmetric(record: object, attribute: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    """Signatures that only the issuer can make: with HS256 whoever has the client's secret could."""
    if not value or any(name == "none" or name.startswith("HS") for name in value):
        raise ValueError("id_token_algorithms names asymmetric signatures such as RS256, and at least one")


@frozen(kw_only=True)
class OpenIdClient(OAuth2Client):
    """What a record says of a server where people sign in: an OpenID Connect issuer, or none."""

    issuer: str | None = None
    """Expected in the callback's ``iss`` (RFC 9207) when set, and in ID tokens."""
    jwks_url: str | None = None
    """The issuer's public keys. With ``issuer`` and the grant ``openid``, no token is kept without an ID token that
    verifies (OpenID Connect Core §3.1.3.7), and the account is ``issuer|sub``. That needs the plugin auth-jwt."""
    id_token_algorithms: tuple[str, ...] = field(default=("RS256",), converter=as_tuple, validator=_asymmetric)
    """Signatures that an ID token may have (``id_token_signed_response_alg``)."""
    userinfo_url: str | None = None
    """OpenID Connect Core §5.3: says whose account it is where the provider has no ``identity`` of its own."""


@frozen(kw_only=True)
class OAuth2Code(OpenIdClient):
    """OAuth 2.0 authorization code (RFC 6749 §4.1) with PKCE (RFC 7636)."""

    kind: ClassVar[str] = "oauth2_auth_code"
    authorize_url: str
    par_url: str | None = None
    """Where the authorization request is pushed to (RFC 9126); the browser then carries only a reference to it."""
    authorization_response_iss: bool = True
    """Whether a callback without ``iss`` is refused; False for an issuer that does not send it."""
    pkce: Literal["S256", "hex", "plain", "off"] = field(default="S256", validator=in_(("S256", "hex", "plain", "off")))
    """``hex`` is S256 with the digest in hexadecimal, as TikTok has it for desktop apps. ``plain`` and ``off`` are for
    servers that know nothing better."""
    response_mode: Literal["query", "form_post"] | None = None
    """How the callback arrives, where the provider has to be told."""
    extra_authorize: Mapping[str, str] = field(factory=dict)
    """Further parameters of the authorization request."""
    refreshable: bool = True
    rotation: Rotation = "single-use"
    """What happens to a refresh token that was used; the careful answer is the default."""
    rotation_grace: float | None = field(default=None, validator=is_seconds)
    """With ``single-use-grace``: seconds for which a refresh token that was used may be used again."""


@frozen(kw_only=True)
class DeviceCode(OpenIdClient):
    """OAuth 2.0 device authorization (RFC 8628): the person consents on another device."""

    kind: ClassVar[str] = "oauth2_device_code"
    device_authorization_url: str
    refreshable: bool = True
    rotation: Rotation = "single-use"
    """As in ``OAuth2Code``."""
    rotation_grace: float | None = field(default=None, validator=is_seconds)
    """As in ``OAuth2Code``."""


@frozen(kw_only=True)
class ClientCredentials(OAuth2Client):
    """OAuth 2.0 client credentials (RFC 6749 §4.4): the application acts for itself."""

    kind: ClassVar[str] = "oauth2_client_credentials"
    audience: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Sent as ``audience``, where the server wants that instead of ``resource``."""
    refreshable: bool = True


@frozen(kw_only=True)
class TokenExchange(OAuth2Client):
    """OAuth 2.0 token exchange (RFC 8693): a token of somebody else's becomes one for this provider."""

    kind: ClassVar[str] = "oauth2_token_exchange"
    subject_token_type: str = "urn:ietf:params:oauth:token-type:access_token"
    """Type of what is exchanged, unless ``subject_token_type`` is given with it (RFC 8693 §3)."""
    requested_token_type: str | None = None
    """Type of what is asked for; an answer of another type is refused."""
    audience: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Logical names of the services where the token shall be used."""
    refreshable: bool = True
    """Whether the subject token is kept, so that it can be exchanged again."""
    rotation: Rotation = "single-use"
    """Of the refresh token, where the exchange gives one; as in ``OAuth2Code``."""
    rotation_grace: float | None = field(default=None, validator=is_seconds)
    """As in ``OAuth2Code``."""


@frozen(kw_only=True)
class ApiKey:
    """A key that the provider issued, sent in a header or in the query, never in both."""

    kind: ClassVar[str] = "api_key"
    header: str | None = "X-API-Key"
    prefix: str | None = None
    """Stands before the key, with one space."""
    query: str | None = None
    """Name of the query parameter; the header is then not used."""
    signer: str = "api_key"


@frozen(kw_only=True)
class PersonalToken:
    """A personal access token, sent in ``Authorization`` as a bearer token (RFC 6750 §2.1) or under another scheme."""

    kind: ClassVar[str] = "pat"
    scheme: str = field(default="Bearer", validator=matches_re(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"))
    """What stands before the token: ``token`` for servers that want it so."""
    signer: str = "bearer"


@frozen(kw_only=True)
class Basic:
    """User name and password (RFC 7617)."""

    kind: ClassVar[str] = "basic"
    signer: str = "basic"


_HMAC_PARTS = (
    "method", "path", "query", "target", "host", "body", "body_hash", "body_hash_base64",
    "timestamp", "nonce", "key_id",
)  # fmt: skip
_HMAC_PART = re.compile(rf"(?:{'|'.join(_HMAC_PARTS)}|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)")


def _hmac_parts(record: object, attribute: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    wrong = next((name for name in value if not _HMAC_PART.fullmatch(name)), None)
    if wrong is not None or not value:
        raise ValueError(f"signed takes {', '.join(_HMAC_PARTS)} and header:NAME, not {wrong or 'nothing'!r}")


@frozen(kw_only=True)
class Hmac:
    """A shared secret that signs each request with HMAC (RFC 2104) and is never sent; the fields state the variant."""

    kind: ClassVar[str] = "hmac"
    signed: tuple[str, ...] = field(
        default=("method", "target", "timestamp", "body_hash"), converter=as_tuple, validator=_hmac_parts
    )
    """Parts of the request in the order in which they are signed. ``target`` is path and query as they are sent;
    ``body_hash`` is the body's digest by ``algorithm``, in hexadecimal, ``body_hash_base64`` the same in Base64;
    ``header:NAME`` the value of a header, which the request must then have."""
    joiner: str = "\n"
    """Stands between the parts."""
    algorithm: Literal["sha256", "sha384", "sha512", "sha1"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    signature_header: str = "X-Signature"
    prefix: str = ""
    """Stands before the signature, for example ``sha256=``; ``{key_id}``, ``{timestamp}`` and ``{nonce}`` are put in:
    ``ACME {key_id}:``."""
    timestamp_header: str | None = "X-Timestamp"
    timestamp_format: Literal["seconds", "milliseconds", "iso8601"] = "seconds"
    """Since 1970; or ``2026-01-31T12:00:00Z``."""
    nonce_header: str | None = None
    """Where 32 random hexadecimal digits are sent, other ones with each request."""
    key_id_header: str | None = None
    digest_header: str | None = None
    """Where the body's digest by ``algorithm`` is sent, that of no bytes where there is no body."""
    digest_format: Literal["hex", "base64", "digest", "content-digest"] = field(
        default="hex", validator=in_(("hex", "base64", "digest", "content-digest"))
    )
    """How: as text of its bytes, as ``SHA-256=…`` (RFC 3230) or as ``sha-256=:…:`` (RFC 9530)."""
    secret_encoding: Literal["text", "hex", "base64"] = "text"
    """How the secret is written down: as it is, or as the text of its bytes."""
    signer: str = "hmac"

    def __attrs_post_init__(self) -> None:
        for name, header in (("timestamp", self.timestamp_header), ("nonce", self.nonce_header)):
            if name in self.signed and header is None and f"{{{name}}}" not in self.prefix:
                raise ValueError(f"signed has the {name}, so it must be sent: {name}_header is missing")
        if f"header:{self.signature_header}".lower() in [name.lower() for name in self.signed]:
            raise ValueError("signed has the header of the signature itself")
        if self.digest_format in ("digest", "content-digest") and self.algorithm not in ("sha256", "sha512"):
            raise ValueError(f"digest_format {self.digest_format} has no name for {self.algorithm}")

    @property
    def names_key(self) -> bool:
        """Whether a request says which key has signed it."""
        return self.key_id_header is not None or "key_id" in self.signed or "{key_id}" in self.prefix


_COMPONENT = re.compile(r"(@[a-z-]+|[!#$%&'*+.^_`|~0-9a-z-]+)((?:;(?:[a-z]+)(?:=\"(?:[ !#-\[\]-~]|\\[\"\\])*\")?)*)")
_DERIVED = (
    "@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query", "@query-param"
)  # fmt: skip
STRUCTURED: Mapping[str, Literal["dictionary", "list", "item"]] = {
    "accept-signature": "dictionary",
    "client-cert": "item",
    "client-cert-chain": "list",
    "content-digest": "dictionary",
    "priority": "dictionary",
    "repr-digest": "dictionary",
    "signature": "dictionary",
    "signature-input": "dictionary",
    "want-content-digest": "dictionary",
    "want-repr-digest": "dictionary",
}
"""Structured fields of requests, by their RFCs (9218, 9421, 9440, 9530): they can be signed in their canonical form."""


def _components(record: object, attribute: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    """Identifiers that a request has (RFC 9421 §2), each once."""
    seen: set[tuple[str, frozenset[str]]] = set()
    for text in value:
        found = _COMPONENT.fullmatch(text)
        if found is None:
            raise ValueError(
                f'{attribute.name} takes components such as @method, content-type or x-a;key="b"; not {text!r}'
            )
        name, parameters = found[1], re.findall(r";([a-z]+(?:=\"(?:[^\"\\]|\\.)*\")?)", found[2])
        wrong = _wrong_component(name, [parameter.partition("=")[::2] for parameter in parameters])
        if wrong is not None:
            raise ValueError(f"{attribute.name} has {text!r}, {wrong}")
        if (name, frozenset(parameters)) in seen:
            raise ValueError(f"{attribute.name} has {text!r} twice")
        seen.add((name, frozenset(parameters)))


def _wrong_component(name: str, parameters: list[tuple[str, str]]) -> str | None:
    """What cannot be signed about a component of a request; completes a sentence."""
    names = [parameter for parameter, _ in parameters]
    if len(set(names)) < len(names):
        return "which has a parameter twice"
    if name.startswith("@"):
        if name not in _DERIVED:
            return f"and a request has only {', '.join(_DERIVED)}"
        if names != (["name"] if name == "@query-param" else []) or any(not value for _, value in parameters):
            return 'but only @query-param has a parameter, which is name="…"'
        return None
    for parameter, value in parameters:
        if parameter in ("req", "tr"):
            return f"and {parameter} is for answers and trailers: there is none when a request is signed"
        if parameter not in ("sf", "key", "bs") or bool(value) != (parameter == "key"):
            return 'but a header field takes sf, bs and key="…" only'
    if "bs" in names and len(names) > 1:
        return "but bs goes with neither sf nor key (RFC 9421 §2.1)"
    if name in ("signature", "signature-input") and "key" not in names:
        return 'which changes with the signature itself; one of them is named with key="…"'
    return None


_MESSAGE_PARAMETERS = ("created", "expires", "nonce", "alg", "keyid", "tag")


def _message_parameters(record: object, attribute: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
    wrong = next((name for name in value if name not in _MESSAGE_PARAMETERS or value.count(name) > 1), None)
    if wrong is not None:
        raise ValueError(f"parameters takes {', '.join(_MESSAGE_PARAMETERS)}, each once, not {wrong!r}")


MessageAlgorithm = Literal[
    "hmac-sha256", "ed25519", "ecdsa-p256-sha256", "ecdsa-p384-sha384", "rsa-pss-sha512", "rsa-v1_5-sha256"
]


@frozen(kw_only=True)
class HttpSignature:
    """A key that signs each request by HTTP Message Signatures (RFC 9421); the fields are the server's requirements."""

    kind: ClassVar[str] = "http_signature"
    algorithm: MessageAlgorithm = field(default="ed25519", validator=in_(get_args(MessageAlgorithm)))
    """RFC 9421 §3.3. All but ``hmac-sha256`` need the plugin auth-jwt."""
    covered: tuple[str, ...] = field(default=("@method", "@target-uri"), converter=as_tuple, validator=_components)
    """Components of every request, in order: derived ones and header fields in lower case, with their parameters as the
    RFC writes them: ``@query-param;name="id"``, ``x-list;sf``, ``x-dictionary;key="a"``, ``x-text;bs``. A header field
    that is covered must be there when the request is signed."""
    covered_with_body: tuple[str, ...] = field(default=("content-digest",), converter=as_tuple, validator=_components)
    """Covered as well where the request has a body. ``content-digest`` (RFC 9530) and ``content-length`` are put in
    where they are covered."""
    digest: Literal["sha-256", "sha-512"] = field(default="sha-256", validator=in_(("sha-256", "sha-512")))
    """Of ``content-digest``."""
    structured: Mapping[str, Literal["dictionary", "list", "item"]] = field(
        factory=dict,
        validator=deep_mapping(matches_re(r"[!#$%&'*+.^_`|~0-9a-z-]+"), in_(("dictionary", "list", "item"))),
    )
    """What kind of structured field (RFC 9651) a field is, for ``sf``; those of ``STRUCTURED`` are known."""
    parameters: tuple[str, ...] = field(default=("created", "keyid"), converter=as_tuple, validator=_message_parameters)
    """What the signature says of itself, in order: ``created``, ``expires``, ``nonce``, ``alg``, ``keyid``, ``tag``."""
    lifetime: float | None = field(default=None, validator=_life)
    """Seconds from ``created`` to ``expires``."""
    tag: str | None = field(default=None, validator=optional(matches_re(r"[ -~]+")))
    """Names the application that the signature is for (RFC 9421 §2.3)."""
    label: str = field(default="sig1", validator=matches_re(r"[a-z*][a-z0-9_.*-]*"))
    """Of the signature among those of the request."""
    secret_encoding: Literal["text", "hex", "base64"] = field(default="text", validator=in_(("text", "hex", "base64")))
    """How the secret of ``hmac-sha256`` is written down."""

    def __attrs_post_init__(self) -> None:
        if ("expires" in self.parameters) != (self.lifetime is not None):
            raise ValueError("expires stands in parameters where lifetime is set, and only there")
        if ("tag" in self.parameters) != (self.tag is not None):
            raise ValueError("tag stands in parameters where tag is set, and only there")
        unknown = [
            text for text in (*self.covered, *self.covered_with_body) if ";sf" in text and self.kind_of(text) is None
        ]
        if unknown:
            raise ValueError(f"covered has {unknown[0]!r}, and structured does not say what kind of field that is")
        if not self.covered and not self.covered_with_body:
            raise ValueError("covered names nothing that is signed")
        twice = sorted(set(self.covered) & set(self.covered_with_body))
        if twice:
            raise ValueError(f"covered_with_body has {twice[0]!r}, which covered has already")

    @property
    def signer(self) -> str:
        """``http_signature``, or what signs with asymmetric keys."""
        return "http_signature" if self.algorithm == "hmac-sha256" else "http_signature_key"

    def kind_of(self, component: str) -> str | None:
        """What kind of structured field a component is of, or None where nobody said it."""
        name = component.partition(";")[0]
        return self.structured.get(name) or STRUCTURED.get(name)


@frozen(kw_only=True)
class Mtls:
    """A client certificate that each connection brings, presented in TLS (RFC 8446 §4.4.2); nothing else is sent."""

    kind: ClassVar[str] = "mtls"
    server_ca: str | None = None
    """PEM of the authorities that the server's certificate must come from; None trusts those of the transport."""
    signer: str = "mtls"


@frozen(kw_only=True)
class AssumeRole:
    """A role whose temporary keys are used in place of those that were typed (AWS STS API Reference, AssumeRole)."""

    arn: str | None = None
    """None where each connection has its own, typed as ``role_arn``."""
    external_id: str | None = None
    """None where each connection may have its own, typed as ``external_id``."""
    session_name: str = field(default="go-services", validator=matches_re(r"[A-Za-z0-9_+=,.@-]{2,64}"))
    """Names the session in the account's logs: 2 to 64 letters, digits and ``+=,.@-_``."""
    duration: int = field(default=3600, validator=and_(instance_of(int), ge(900), le(43200)))
    """Seconds that the keys live; the role may allow less than 43200."""


@frozen(kw_only=True)
class AwsSigV4:
    """An AWS access key that signs each request (AWS Signature Version 4), or assumes a role whose keys do."""

    kind: ClassVar[str] = "aws_sigv4"
    service: str
    """The service's signing name: ``s3``, ``execute-api``, ``ses`` …"""
    region: str
    mode: Literal["header", "query"] = field(default="header", validator=in_(("header", "query")))
    """Where the signature stands: in ``Authorization``, or in the URL, which then works by itself."""
    expires: int = field(default=300, validator=and_(instance_of(int), ge(1), le(604800)))
    """Seconds that a URL signed in its query works."""
    unsigned_payload: bool = False
    """Whether the body is left out of the signature; S3 and a few others allow that."""
    checksum: Literal["crc32", "sha256"] | None = field(default=None, validator=optional(in_(("crc32", "sha256"))))
    """What ends a body that is streamed to S3 unsigned, for S3 to compare: ``x-amz-checksum-…`` as a trailer."""
    access_token_header: str | None = None
    """Header for a further token of the connection, typed as ``access_token``; not sent where there is none."""
    role: AssumeRole | None = None
    sts_url: str | None = None
    """Where roles are assumed; by default the endpoint of ``sts_region``."""
    sts_region: str | None = None
    """Region of the role's endpoint, by default ``region``; ``us-east-1`` for ``https://sts.amazonaws.com/``."""
    signer: str = "aws_sigv4"

    def __attrs_post_init__(self) -> None:
        if self.checksum is not None and not self.unsigned_payload:
            raise ValueError("checksum is for unsigned_payload: what is signed piece by piece needs none")

    @property
    def refreshable(self) -> bool:
        """Whether there is something to renew: the keys of a role, with the keys that assumed it."""
        return self.role is not None
