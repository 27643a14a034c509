"""Checks of a provider's record: ids, addresses, grants and operations agree with each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import attrs

from ...auth_specs import DeviceCode, OAuth2Client, OAuth2Code
from ...protocols import ProviderAdapter
from ...refs import Ref
from ...secret import MASK, SecretBytes, SecretStr
from ...specs import ProviderSpec
from ...webhook_specs import HmacWebhook
from ..kit import Skipped, check

_ID = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_DOTTED = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")
_GRANT = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
"""One scope token (RFC 6749 §3.3)."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?")


def settings_of(spec: ProviderSpec) -> Any:
    """The provider's settings with nothing but their defaults, or None when it has no settings class.

    Raises:
        Skipped: a setting is required, so that there is no instance without an operator.
    """
    cls = spec.settings.resolve() if isinstance(spec.settings, Ref) else spec.settings
    if cls is None:
        return None
    required = [one.name for one in attrs.fields(cls) if one.default is attrs.NOTHING]
    if required:
        raise Skipped(f"the provider needs settings to say its addresses: {', '.join(required)}")
    return cls()


def filled(text: str, settings: Any) -> str:
    """``text`` with each ``{name}`` replaced by the setting or property of that name."""
    return _TEMPLATE.sub(lambda found: str(getattr(settings, found[1])), text)


def _urls(spec: ProviderSpec) -> Iterator[tuple[str, str]]:
    for auth in spec.auth:
        if isinstance(auth, OAuth2Client):
            for field in attrs.fields(type(auth)):
                if field.name.endswith(("_url", "issuer")) and (url := getattr(auth, field.name)) is not None:
                    yield field.name, url
    if spec.api is not None:
        yield "api.base_url", spec.api.base_url
    if spec.identity is not None and not spec.identity.url.startswith("/"):
        yield "identity.url", spec.identity.url


def _twice(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]


@check("PRV-001", "provider")
async def provider_id_is_normalised(spec: ProviderSpec) -> None:
    """A provider's id is small letters, digits and single underscores; it has a name for people and an auth record."""
    assert _ID.fullmatch(spec.id), f"the id {spec.id!r} is not of the form google_gmail"
    assert spec.name, "the provider has no name"
    assert spec.name.strip() == spec.name, f"the name {spec.name!r} has spaces around it"
    assert spec.auth, f"{spec.id} has no auth record"
    kinds = _twice(auth.kind for auth in spec.auth)
    assert not kinds, f"auth of kind {', '.join(kinds)} is there twice"


@check("PRV-002", "provider")
async def endpoints_use_https(spec: ProviderSpec) -> None:
    """Every endpoint is https, without user name, password or fragment; http only for 127.0.0.1."""
    settings = settings_of(spec)
    for field, template in _urls(spec):
        parts = urlsplit(filled(template, settings))
        loopback = parts.scheme == "http" and parts.hostname == "127.0.0.1"
        assert parts.scheme == "https" or loopback, f"{field} is not https: {template}"
        assert parts.hostname, f"{field} has no host"
        assert "@" not in parts.netloc, f"{field} holds a user name or password"
        assert not parts.fragment, f"{field} has a fragment, which is never sent (RFC 6749 §3.1)"


@check("PRV-003", "provider")
async def credential_hosts_are_host_patterns(spec: ProviderSpec) -> None:
    """``api.hosts`` are ``name`` or ``*.domain``, with a port where needed: no scheme, no path, no bare wildcard."""
    for host in spec.api.hosts if spec.api is not None else ():
        assert _HOST.fullmatch(_TEMPLATE.sub("x", host)), f"the host {host!r} is not of the form name or *.domain"
        assert not host.startswith("*.") or "." in host[2:], f"the host {host!r} would cover a whole top-level domain"


@check("PRV-004", "provider")
async def names_are_unique(spec: ProviderSpec) -> None:
    """Names of capabilities and ids of operations are dotted small letters, and none is there twice."""
    for kind, names in (
        ("capability", [one.name for one in spec.capabilities]),
        ("operation", [one.id for one in spec.operations]),
    ):
        for name in names:
            assert _DOTTED.fullmatch(name), f"the {kind} {name!r} is not of the form issues.list"
        assert not _twice(names), f"{kind} {', '.join(_twice(names))} is there twice"


@check("PRV-005", "provider")
async def operations_name_known_capabilities(spec: ProviderSpec) -> None:
    """Each operation's capability is one that the record declares."""
    declared = {one.name for one in spec.capabilities}
    for operation in spec.operations:
        known = operation.capability is None or operation.capability in declared
        assert known, f"{operation.id} needs {operation.capability!r}, which is not a capability of {spec.id}"


@check("PRV-006", "provider")
async def grants_are_scope_tokens(spec: ProviderSpec) -> None:
    """Every grant is one scope token: not empty, without spaces (RFC 6749 §3.3), and not the separator's character."""
    grants = [grant for one in spec.capabilities for grant in (*one.grants, *one.optional)]
    grants += [grant for wide, narrow in spec.implies.items() for grant in (wide, *narrow)]
    for auth in spec.auth:
        if isinstance(auth, OAuth2Client):
            assert auth.scope_separator, "scope_separator is empty"
            grants += auth.default_grants
            assert not _twice(auth.default_grants), f"default_grants holds {_twice(auth.default_grants)[0]!r} twice"
            for grant in grants:
                assert auth.scope_separator not in str(grant), f"the grant {grant!r} holds the scope separator"
    for grant in grants:
        assert _GRANT.fullmatch(str(grant)), f"the grant {grant!r} is not one scope token"


@check("PRV-007", "provider")
async def operation_paths_match_their_parameters(spec: ProviderSpec) -> None:
    """Each ``{name}`` of a path is a path parameter, each path parameter is in the path, and no name is there twice."""
    assert spec.api is not None or not spec.operations, f"{spec.id} has operations but no api"
    for operation in spec.operations:
        assert operation.path.startswith("/"), f"{operation.id}: the path does not begin with /"
        assert operation.method in _METHODS, f"{operation.id}: {operation.method!r} is not an HTTP method"
        names = [param.name for param in operation.params]
        assert all(names), f"{operation.id}: a parameter has no name"
        assert not _twice(names), f"{operation.id}: the parameter {', '.join(_twice(names))} is there twice"
        placed = set(_TEMPLATE.findall(operation.path))
        declared = {param.name for param in operation.params if param.where == "path"}
        assert placed == declared, f"{operation.id}: path and path parameters differ in {sorted(placed ^ declared)}"


@check("PRV-008", "provider")
async def repr_holds_no_secret(spec: ProviderSpec) -> None:
    """The record carries no secret, and its settings print none: every secret setting is masked in ``repr``."""
    for found in _values(spec):
        assert not isinstance(found, (SecretStr, SecretBytes)), "the record itself carries a secret"
    cls = spec.settings.resolve() if isinstance(spec.settings, Ref) else spec.settings
    if cls is None:
        return
    for one in attrs.fields(cls):
        if one.metadata.get("secret"):
            assert "SecretStr" in str(one.type), f"the secret setting {one.name} has the type {one.type}, not SecretStr"
        elif isinstance(one.default, (SecretStr, SecretBytes)):
            assert MASK in repr(one.default), f"the default of {one.name} prints its value"


def _values(value: Any) -> Iterator[Any]:
    yield value
    if attrs.has(type(value)) and not isinstance(value, Ref):
        for one in attrs.fields(type(value)):
            yield from _values(getattr(value, one.name))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _values(item)


@check("PRV-009", "provider")
async def adapter_is_a_provider_adapter(spec: ProviderSpec) -> None:
    """The adapter, where there is one, is a class made from ``ProviderAdapter`` that needs no arguments."""
    if spec.adapter is None:
        raise Skipped("the provider has no adapter")
    adapter = spec.adapter.resolve()
    assert isinstance(adapter, type), f"the adapter is {adapter!r}, not a class"
    assert issubclass(adapter, ProviderAdapter), f"{adapter.__name__} is no ProviderAdapter"
    adapter()


@check("PRV-010", "provider")
async def webhook_record_is_complete(spec: ProviderSpec) -> None:
    """A webhook signed with HMAC covers the body; a timestamp that is signed has a header and a positive tolerance."""
    if not isinstance(spec.webhook, HmacWebhook):
        raise Skipped("the provider has no webhook signed with HMAC")
    webhook = spec.webhook
    assert "body" in webhook.signed or "form" in webhook.signed, "the signature does not cover the body"
    assert webhook.signature_header, "the signature has no header"
    assert webhook.id_header or webhook.id_field or webhook.id_bucket, "nothing says where the delivery's id is"
    if "timestamp" in webhook.signed:
        assert webhook.timestamp_header or webhook.timestamp_field, "the timestamp is signed but has no header"
        assert webhook.tolerance > 0, "the tolerance is not positive"


@check("PRV-011", "provider", level="should")
async def account_can_be_told(spec: ProviderSpec) -> None:
    """A provider with a consent page says where to read whose account it is, so that it is not connected twice."""
    if not any(isinstance(auth, (OAuth2Code, DeviceCode)) for auth in spec.auth):
        raise Skipped("the provider has no consent page")
    assert spec.identity is not None, "the record has no identity"
    assert all(part.strip() for part in spec.identity.account.split("|")), "identity.account has an empty alternative"
