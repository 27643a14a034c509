"""A server's own description of itself (RFC 8414, OpenID Connect Discovery 1.0), and the record made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import field, frozen

from ..auth_specs import ClientAuth, OAuth2Code
from ..errors import BadInput, MetadataInvalid, MetadataNotFound, ProviderUnavailable, RateLimited, ResponseInvalid
from ..hosts import host_of, is_on_hosts
from ..http import USER_AGENT, HttpRequest, HttpResponse
from ..protocols import Flow
from .settings import OAuth2Settings

_MOST: Final = 1 << 20
"""Bytes of a metadata document."""
_METHODS: Final[Mapping[str, ClientAuth]] = {
    "private_key_jwt": "private_key_jwt",
    "tls_client_auth": "tls",
    "self_signed_tls_client_auth": "tls",
    "client_secret_basic": "basic",
    "client_secret_post": "post",
    "client_secret_jwt": "client_secret_jwt",
    "none": "none",
}
"""What records call the methods of authentication; the first that the settings make possible is taken."""


@frozen(kw_only=True)
class ServerMetadata:
    """What a server says of itself, checked: the issuer is the one asked, every endpoint is on an allowed host."""

    issuer: str
    authorize_url: str | None = None
    token_url: str | None = None
    par_url: str | None = None
    device_authorization_url: str | None = None
    revocation_url: str | None = None
    introspection_url: str | None = None
    registration_url: str | None = None
    userinfo_url: str | None = None
    jwks_url: str | None = None
    mtls_endpoints: Mapping[str, str] = field(factory=dict)
    """``mtls_endpoint_aliases`` (RFC 8705 §5), without those on hosts that are not the server's."""
    grants: tuple[str, ...] = ()
    """``scopes_supported``."""
    client_auth_methods: tuple[str, ...] = ("client_secret_basic",)
    """``token_endpoint_auth_methods_supported``; the default is the RFC's."""
    pkce_methods: tuple[str, ...] | None = None
    """``code_challenge_methods_supported``; None where the server does not say."""
    authorization_response_iss: bool = False
    """``authorization_response_iss_parameter_supported`` (RFC 9207 §3)."""
    par_required: bool = False
    """``require_pushed_authorization_requests`` (RFC 9126 §5)."""
    document: Mapping[str, Any] = field(factory=dict, repr=False)
    """Everything that it says; nothing of the rest was checked."""


_ENDPOINTS: Final = {
    "authorize_url": "authorization_endpoint",
    "token_url": "token_endpoint",
    "par_url": "pushed_authorization_request_endpoint",
    "device_authorization_url": "device_authorization_endpoint",
    "revocation_url": "revocation_endpoint",
    "introspection_url": "introspection_endpoint",
    "registration_url": "registration_endpoint",
    "userinfo_url": "userinfo_endpoint",
    "jwks_url": "jwks_uri",
}


def discover(issuer: str, *, hosts: Iterable[str] = (), plain_http: bool = False) -> Flow[ServerMetadata]:
    """Ask ``issuer`` for its metadata: at the place of RFC 8414, then at that of OpenID Connect.

    Args:
        issuer: as it will stand in the metadata, to the letter.
        hosts: where its endpoints may be besides its own host: ``name``, ``*.domain``, each with ``:port`` if it is
            not the scheme's own.
        plain_http: whether ``http`` is allowed, for a server on this machine.

    Raises:
        BadInput: the issuer is not an ``https`` URL without query and fragment.
        MetadataNotFound: the server has none in either place.
        MetadataInvalid: it is no JSON object, of another issuer, or names an endpoint elsewhere or without ``https``.
        RateLimited, ProviderUnavailable: the server asks to wait, or is failing.
    """
    allowed = (*_own_host(issuer, plain_http=plain_http), *hosts)
    for place in (_rfc_8414, _openid):
        request = HttpRequest("GET", place(issuer), (("Accept", "application/json"), USER_AGENT), max_body=_MOST)
        response: HttpResponse = yield request
        if response.status == 200:
            return _read(response, issuer, allowed, plain_http=plain_http)
        if response.status == 429:
            raise RateLimited("The server asks to wait before its metadata is read.", upstream_status=429)
        if response.status >= 500:
            raise ProviderUnavailable(
                f"The server fails to give its metadata (status {response.status}).", upstream_status=response.status
            )
    raise MetadataNotFound(
        "The server publishes no metadata (RFC 8414, OpenID Connect Discovery).",
        hint="Write its endpoints into the record.",
        metadata={"issuer": issuer},
    )


def code_record(metadata: ServerMetadata, *, settings: OAuth2Settings | None = None, **changes: Any) -> OAuth2Code:
    """The authorization-code record of a server that was discovered; ``changes`` are fields that it does not decide.

    The request is pushed where the server takes pushed requests. PKCE is S256: a server whose metadata leaves S256 out
    gets a weaker method only if ``changes`` has ``pkce``.

    Args:
        metadata: what the server says.
        settings: the client, so that it authenticates by its key or its certificate where it has one and the server
            takes that; without them it is one with a secret or a public one.
        changes: fields of the record.

    Raises:
        MetadataInvalid: it has no authorization or token endpoint, or no way to authenticate that a record can have.
    """
    if metadata.authorize_url is None or metadata.token_url is None:
        raise MetadataInvalid(
            "The server's metadata has no authorization or no token endpoint.", metadata={"issuer": metadata.issuer}
        )
    if "pkce" not in changes and metadata.pkce_methods is not None and "S256" not in metadata.pkce_methods:
        raise MetadataInvalid("The server does not offer PKCE with S256.", hint="Say which pkce to use.", field="pkce")
    if "client_auth" not in changes:
        offered = [auth for name, auth in _METHODS.items() if name in metadata.client_auth_methods]
        known = [auth for auth in offered if auth in _possible(settings)]
        if not known:
            raise MetadataInvalid(
                "The server authenticates clients in no way that the settings make possible: "
                f"{', '.join(metadata.client_auth_methods)[:200]}.",
                hint="Give it settings with a key, a certificate or a secret, or say which client_auth to use.",
                field="client_auth",
            )
        changes["client_auth"] = known[0]
    fields: dict[str, Any] = {
        "issuer": metadata.issuer,
        "authorize_url": metadata.authorize_url,
        "token_url": metadata.token_url,
        "par_url": metadata.par_url,
        "revocation_url": metadata.revocation_url,
        "introspection_url": metadata.introspection_url,
        "jwks_url": metadata.jwks_url,
        "userinfo_url": metadata.userinfo_url,
        "authorization_response_iss": metadata.authorization_response_iss,
        "mtls_endpoints": metadata.mtls_endpoints,
    }
    return OAuth2Code(**{**fields, **changes})


def _possible(settings: OAuth2Settings | None) -> tuple[ClientAuth, ...]:
    """The ways in which a client with these settings can authenticate itself."""
    if settings is None:
        return ("basic", "post", "none")
    ways: list[ClientAuth] = []
    if settings.client_key is not None:
        ways.append("private_key_jwt")
    if settings.client_certificate is not None and settings.client_private_key is not None:
        ways.append("tls")
    if settings.client_secret is not None:
        ways += ["basic", "post", "client_secret_jwt"]
    return tuple(ways) or ("none",)


def _own_host(issuer: str, *, plain_http: bool) -> tuple[str, ...]:
    try:
        host = host_of(issuer)
    except ValueError:
        host = ""
    if not host or "?" in issuer or "#" in issuer or not is_on_hosts(issuer, (host,), plain_http=plain_http):
        raise BadInput("An issuer is an https URL without query and fragment (RFC 8414 §2).", field="issuer")
    return (host,)


def _rfc_8414(issuer: str) -> str:
    """The well-known part stands between host and path (RFC 8414 §3.1)."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path.rstrip('/')}"


def _openid(issuer: str) -> str:
    """The well-known part stands after the path (OpenID Connect Discovery §4)."""
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def _read(response: HttpResponse, issuer: str, hosts: tuple[str, ...], *, plain_http: bool) -> ServerMetadata:
    try:
        said = response.json()
    except ResponseInvalid:
        said = None
    if not isinstance(said, dict):
        raise MetadataInvalid("The server's metadata is not a JSON object.", metadata={"issuer": issuer})
    if said.get("issuer") != issuer:  # RFC 8414 §3.3: whoever answers here may not speak for another issuer
        raise MetadataInvalid(
            "The server's metadata is that of another issuer.", field="issuer", metadata={"issuer": issuer}
        )
    urls: dict[str, str] = {}
    for name, member in _ENDPOINTS.items():
        url = said.get(member)
        if url is None:
            continue
        if not isinstance(url, str) or "#" in url or not is_on_hosts(url, hosts, plain_http=plain_http):
            raise MetadataInvalid(
                f"The server's {member} is not an https URL on one of its hosts.",
                hint=f"Its hosts: {', '.join(hosts)}.",
                field=member,
                metadata={"issuer": issuer},
            )
        urls[name] = url
    aliases = said.get("mtls_endpoint_aliases")
    named = aliases if isinstance(aliases, dict) else {}
    return ServerMetadata(
        issuer=issuer,
        **urls,
        mtls_endpoints={
            member: url
            for member in _ENDPOINTS.values()
            if isinstance(url := named.get(member), str) and is_on_hosts(url, hosts, plain_http=plain_http)
        },
        grants=_texts(said, "scopes_supported") or (),
        client_auth_methods=_texts(said, "token_endpoint_auth_methods_supported") or ("client_secret_basic",),
        pkce_methods=_texts(said, "code_challenge_methods_supported"),
        authorization_response_iss=said.get("authorization_response_iss_parameter_supported") is True,
        par_required=said.get("require_pushed_authorization_requests") is True,
        document=said,
    )


def _texts(said: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = said.get(name)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else None
