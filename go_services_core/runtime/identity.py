"""Whose account tokens are: proven by the flow, or asked of the provider; never said by the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

from attrs import frozen

from ..auth.dpop import signer_of
from ..auth.id_token import subject
from ..auth.identity import other_spellings, read_profile
from ..auth_specs import OpenIdClient
from ..errors import AuthError, BadInput, ProfileNotFound, ProviderForbidden, ProviderUnauthorized
from ..hosts import host_of, is_on_hosts
from ..http import USER_AGENT, Headers, HttpRequest
from ..model import Credential, Scope, TokenSet, UserProfile
from ..protocols import ProviderAdapter, SigningKey
from ..specs import Identity
from .core import Core
from .load import load
from .outcomes import error_for
from .refresh import ensure_fresh
from .requests import headers_of
from .settings_secrets import prepared
from .signed import send_signed

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..providers import ProviderInstance


@frozen(kw_only=True)
class Account:
    """Whose account it is."""

    id: str
    """What a new connection of it is stored with."""
    also: tuple[str, ...] = ()
    """How the same account may have been stored: with the issuer where ``id`` has none, or without it."""
    granted: tuple[str, ...] | None = None
    """The token's grants, where the provider told them along with it."""


def spelled(instance: ProviderInstance, record: AuthSpec, account: str) -> Account:
    """An account that somebody else names, however that is stored."""
    identity = instance.spec.identity
    issuer = (identity.issuer if identity is not None else None) or getattr(record, "issuer", None)
    return Account(id=account, also=other_spellings(account, issuer))


def unnamed(record: AuthSpec, scope: Scope) -> str:
    """What stands for the account of a key of which nobody says whose it is."""
    return f"{record.kind}:{scope}"


def tells_account(core: Core, instance: ProviderInstance, record: AuthSpec) -> bool:
    """Whether there is a place, or an adapter, that says whose account tokens are."""
    own = type(core.adapter(instance)).identity is not ProviderAdapter.identity
    return own or _place(instance, record) is not None


async def account_of(
    core: Core,
    instance: ProviderInstance,
    record: AuthSpec,
    scope: Scope,
    requested: tuple[str, ...],
    tokens: TokenSet,
) -> Account:
    """Whose account new tokens are; ``docs/how-to/know-whose-account-it-is.md`` has the order.

    After a consent it is what the flow proved, without another request. Of what was typed the provider is asked first:
    its answer also shows that it was typed right.

    Raises:
        AuthError: the provider does not accept the credential.
        ProfileNotFound: it does not say whose it is.
        ProviderError, TransportError: it does not answer.
    """
    consented = core.flow(record.kind).interactive
    identity = _place(instance, record)
    also = other_spellings(tokens.account, getattr(record, "issuer", None)) if tokens.account is not None else ()
    if tokens.account is not None and consented and (identity is None or identity.grants_header is None):
        return Account(id=tokens.account, also=also)
    try:
        told = await _ask(core, instance, record, scope, requested, tokens)
    except (ProviderUnauthorized, ProviderForbidden) as refused:
        raise AuthError(
            f"The provider {instance.id} does not accept the new credential (status {refused.upstream_status}).",
            hint="Check that it was copied whole and has not been revoked.",
        ) from refused
    if tokens.account is not None and (consented or told is None):
        if told is not None:
            _same_subject(told[0], tokens, instance)
        return Account(id=tokens.account, also=also, granted=told[1] if told is not None else None)
    if told is not None:
        found, granted = told
        issuer = found.issuer or getattr(record, "issuer", None)
        return Account(id=found.account_id, also=other_spellings(found.account_id, issuer), granted=granted)
    if consented:
        raise ProfileNotFound(
            f"The provider {instance.id} does not say whose account it is.",
            hint="Give it an identity, or an issuer, jwks_url and the grant openid.",
            plugin=instance.plugin_provider,
            field="identity",
        )
    return Account(id=unnamed(record, scope))


async def profile(core: Core, connection_id: str) -> UserProfile:
    """Ask the provider whose account a connection is; see ``Runtime.profile``."""
    loaded = await ensure_fresh(core, await load(core, connection_id))
    tokens, instance = loaded.credential.tokens, loaded.instance
    connection = loaded.connection
    told = await _ask(core, instance, loaded.key.auth, connection.scope, loaded.credential.requested, tokens)
    if told is None:
        raise ProfileNotFound(
            f"The provider {instance.id} has no place that says whose account it is.",
            hint="Give it an identity, or its auth record a userinfo_url.",
            plugin=instance.plugin_provider,
            field="identity",
        )
    _same_subject(told[0], tokens, instance)
    return told[0]


def _same_subject(profile: UserProfile, tokens: TokenSet, instance: ProviderInstance) -> None:
    """The answer of userinfo is of nobody else than the ID token (OpenID Connect Core §5.3.2)."""
    expected = subject(tokens.id_token) if tokens.id_token is not None else None
    said = profile.raw.get("sub")
    if expected is not None and said is not None and said != expected:
        raise ProfileNotFound(
            f"The provider {instance.id} tells the profile of another account than the ID token's.",
            plugin=instance.plugin_provider,
            field="sub",
        )


def _place(instance: ProviderInstance, record: AuthSpec) -> Identity | None:
    """Where the provider says whose account it is."""
    if instance.spec.identity is None and isinstance(record, OpenIdClient) and record.userinfo_url is not None:
        return Identity(url=record.userinfo_url, account="sub", issuer=record.issuer)
    return instance.spec.identity


async def _ask(
    core: Core,
    instance: ProviderInstance,
    record: AuthSpec,
    scope: Scope,
    requested: tuple[str, ...],
    tokens: TokenSet,
) -> tuple[UserProfile, tuple[str, ...] | None] | None:
    """The profile and the grants that the provider tells; None where it has no place for them."""
    await prepared(core, instance)
    ctx = core.auth_context(instance, record, scope, requested=requested)
    own = core.adapter(instance).identity(ctx, tokens)
    if own is not None:
        return await core.drive(own, provider_id=instance.id), None
    identity = _place(instance, record)
    if identity is None:
        return None
    request = _request(instance, record, identity)
    probe = Credential(connection_id="", version=0, auth_kind=record.kind, tokens=tokens)
    key = SigningKey(secret=tokens.access_token, auth=record, credential=probe)
    signer = core.signer(signer_of(record, tokens))
    response = await send_signed(core, signer, key, request, provider_id=instance.id)
    if response.status >= 300:
        secrets = (tokens.access_token, tokens.refresh_token, tokens.id_token, *tokens.extra.values())
        raise error_for(core, instance, response, secrets=secrets)
    return read_profile(identity, response, instance.id)


def _request(instance: ProviderInstance, record: AuthSpec, identity: Identity) -> HttpRequest:
    api, url = instance.spec.api, identity.url
    if not url.startswith(("https://", "http://")) and api is not None:
        url = urljoin(api.base_url.rstrip("/") + "/", url.lstrip("/"))
    if not (instance.allows(url) or _is_own_userinfo(record, url)):
        raise BadInput(f"The identity URL of provider {instance.id} is not on one of its hosts.", field="identity.url")
    defaults: Headers = (("Accept", "application/json"), USER_AGENT)
    return HttpRequest("GET", url, headers_of(api, defaults) if api is not None else defaults)


def _is_own_userinfo(record: AuthSpec, url: str) -> bool:
    """Whether it is the record's userinfo: that is where its tokens belong, on whichever host the API is."""
    if not isinstance(record, OpenIdClient) or url != record.userinfo_url:
        return False
    return is_on_hosts(url, (host_of(url),), plain_http=record.token_url.startswith("http://"))
