"""Connecting: from the first click to a stored, active connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from attrs import frozen

from ..auth.fields import concealed
from ..callback import cookie_name
from ..clock import uuid7
from ..errors import AccountMismatch, BadInput, EmbeddedAuthUnsupported, VersionConflict
from ..grants import normalised
from ..model import (
    Connection,
    ConnectStart,
    Establish,
    Observation,
    Scope,
    SealedCredential,
    TokenSet,
)
from ..protocols import AuthStart
from ..return_to import check_return_to
from ..secret import SecretStr
from . import attempts, bindings
from .announce import proposed
from .callback_url import choose_redirect_uri
from .core import Core
from .grants import drifted
from .identity import Account, account_of, unnamed
from .payload import (
    CREDENTIAL_FORMAT,
    CREDENTIAL_VERSION,
    encode_tokens,
)
from .refresh_rules import renewable
from .settings_secrets import drive

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..providers import ProviderInstance

ESTABLISH_TRIES = 5
EMBEDDED = "session_token_exchange"
"""The kind of an app that is embedded in its provider's pages."""


@frozen(kw_only=True)
class Known:
    """Of tokens that are imported: what is known of them without a consent."""

    account: Account
    connection_id: str | None = None
    """The id of a new connection, where it shall keep the one it had."""
    issued_at: datetime | None = None


async def connect(
    core: Core,
    provider_id: str,
    *,
    scope: Scope,
    redirect_uri: str | None,
    grants: Iterable[str],
    auth: str | None,
    connection_id: str | None,
    session: SecretStr | str | None,
    return_to: str | None,
) -> ConnectStart:
    """Begin a consent; see ``Runtime.connect``."""
    instance, record, requested = await asked(
        core, provider_id, scope=scope, grants=grants, auth=auth, connection_id=connection_id
    )
    if getattr(core.flow(record.kind), "polls", False):
        raise BadInput(
            f"The kind {record.kind} of provider {instance.id} is consented to on another device and has no callback.",
            hint="Use Runtime.connect_device.",
            field="auth",
        )
    if return_to is not None:
        check_return_to(return_to, core.settings.return_to)
    redirect_uri = choose_redirect_uri(
        core, instance, scope, redirect_uri, requested=requested, connection_id=connection_id
    )
    state, binding = attempts.random_text(core), attempts.bind(core, session)
    ctx = core.auth_context(instance, record, scope, redirect_uri=redirect_uri, state=state, requested=requested)
    start: AuthStart = await drive(core, instance, lambda: core.flow(record.kind).begin(ctx))
    attempt = await attempts.begin(
        core,
        instance,
        record,
        scope,
        attempt_id=uuid7(core.clock),
        state_hash=attempts.digest(state),
        binding=binding,
        requested=requested,
        memory=start.memory,
        expires_at=core.clock.now() + timedelta(seconds=core.settings.attempt_lifetime),
        redirect_uri=redirect_uri,
        connection_id=connection_id,
        return_to=return_to,
    )
    if session is not None:
        attempts.tell_of_split(core, attempt)
    return ConnectStart(
        url=start.url,
        attempt_id=attempt.id,
        binding=binding,
        expires_at=attempt.expires_at,
        cookie=cookie_name(state.reveal()),
    )


async def asked(
    core: Core,
    provider_id: str,
    *,
    scope: Scope,
    grants: Iterable[str],
    auth: str | None,
    connection_id: str | None,
) -> tuple[ProviderInstance, AuthSpec, tuple[str, ...]]:
    """Who is asked for a consent, how, and for which grants.

    Raises:
        BadInput: that cannot be asked for, or ``connection_id`` is another provider's or scope's.
    """
    instance = core.instance(provider_id)
    record = instance.auth(auth)
    _check_scope_type(instance, scope)
    requested = _listed(grants)
    if connection_id is not None:
        known = await core.store.connections.get(connection_id)
        if (known.provider_id, known.scope) != (instance.id, scope):
            raise BadInput("The connection belongs to another provider or scope.", field="connection_id")
    return instance, record, requested or default_grants(instance, record)


def default_grants(instance: ProviderInstance, record: AuthSpec) -> tuple[str, ...]:
    """What is asked for where nobody says."""
    defaults: tuple[str, ...] = getattr(record, "default_grants", ())
    return instance.grants or defaults


async def establish(
    core: Core,
    provider_id: str,
    *,
    scope: Scope,
    fields: Mapping[str, SecretStr | str],
    auth: str | None,
    grants: Iterable[str],
) -> Connection:
    """Connect with what a person typed; see ``Runtime.establish``."""
    instance = core.instance(provider_id)
    if auth == EMBEDDED and all(one.kind != EMBEDDED for one in instance.spec.auth):
        raise EmbeddedAuthUnsupported(
            f"The provider {instance.id} has no authentication of the kind {EMBEDDED}.", plugin=instance.plugin_provider
        )
    record = instance.auth(auth)
    _check_scope_type(instance, scope)
    flow = core.flow(record.kind)
    if flow.interactive:
        raise BadInput(
            f"The kind {record.kind} of provider {instance.id} needs a consent.",
            hint="Use Runtime.connect and Runtime.complete.",
            field="auth",
        )
    requested = _listed(grants)
    if requested and not hasattr(record, "default_grants"):
        raise BadInput(
            f"What the kind {record.kind} of provider {instance.id} may do was decided when it was issued.",
            hint="Leave out the grants.",
            field="grants",
        )
    typed = concealed(fields)
    del fields
    requested = requested or getattr(record, "default_grants", ())
    ctx = core.auth_context(instance, record, scope, requested=requested)
    tokens: TokenSet = await drive(core, instance, lambda: flow.complete(ctx, typed))
    return await establish_tokens(core, instance, record, scope, requested, tokens, None)


async def establish_tokens(
    core: Core,
    instance: ProviderInstance,
    record: AuthSpec,
    scope: Scope,
    requested: tuple[str, ...],
    tokens: TokenSet,
    expected: str | None,
    *,
    known: Known | None = None,
) -> Connection:
    """Commit new tokens as the connection of the account that the provider says they are of, or that is ``known``.

    Raises:
        AccountMismatch: it is another connection than ``expected``.
        AuthError, ProfileNotFound, ProviderError: the provider does not say whose they are.
    """
    whose = known.account if known is not None else await account_of(core, instance, record, scope, requested, tokens)
    granted = tokens.granted if tokens.granted is not None else whose.granted
    if granted is None and known is None and core.flow(record.kind).interactive:
        granted = requested  # RFC 6749 §5.1: an absent scope is the one that was asked for
    now = core.clock.now()
    facet = core.store.connections
    for _ in range(ESTABLISH_TRIES):
        known_id, version, account = await stored_as(core, instance, unnamed(record, scope), scope, whose, expected)
        connection_id = known_id or (known.connection_id if known is not None else None) or uuid7(core.clock)
        event = await proposed(
            core,
            "connection.established",
            {
                "external_account_id": account,
                "auth_kind": record.kind,
                "version": version,
                **({"source": "imported"} if known is not None else {}),
            },
            provider_id=instance.id,
            scope=scope,
            connection_id=connection_id,
        )
        sealed = await core.sealer.seal(
            encode_tokens(tokens), bindings.credential(connection_id, version, instance.id, scope)
        )
        credential = SealedCredential(
            id=uuid7(core.clock),
            connection_id=connection_id,
            version=version,
            sealed=sealed,
            payload_format=CREDENTIAL_FORMAT,
            payload_version=CREDENTIAL_VERSION,
            token_type=tokens.token_type,
            requested=requested,
            granted=granted,
            expires_at=tokens.expires_at,
            refresh_expires_at=tokens.refresh_expires_at,
            refreshable=renewable(core.flow(record.kind), record, tokens),
            created_at=now if known is None or known.issued_at is None else known.issued_at,
        )
        change = Establish(
            connection=Connection(
                id=connection_id,
                provider_id=instance.id,
                auth_kind=record.kind,
                scope=scope,
                external_account_id=account,
                status="active",
                created_at=now,
                updated_at=now,
            ),
            credential=credential,
            event=event,
            expected_connection_id=expected,
            also=drifted(core, instance, scope, connection_id, requested, granted),
        )
        try:
            connection, _ = await facet.establish(change)
        except VersionConflict:
            continue  # the same account was connected at the same moment: seal for the next version
        core.forget(connection.id)
        core.observe(
            Observation(name="connection.established", at=now, provider_id=instance.id, connection_id=connection.id)
        )
        return connection
    raise VersionConflict("The account is being connected by many at once; try again.")


async def stored_as(
    core: Core, instance: ProviderInstance, unnamed: str, scope: Scope, account: Account, expected: str | None
) -> tuple[str | None, int, str]:
    """The account's connection if it has one, the version of its next credential, and the account as it is stored.

    Raises:
        AccountMismatch: it is another connection than ``expected``.
    """
    facet = core.store.connections
    stored = [(*await facet.next_version(instance.id, scope, id), id) for id in (account.id, *account.also)]
    found = [one for one in stored if one[0] is not None and expected in (None, one[0])]
    if found:
        return found[0]
    if expected is None:
        return stored[0]
    if all(one[0] is None for one in stored) and (await facet.get(expected)).external_account_id == unnamed:
        return *await facet.next_version(instance.id, scope, unnamed), unnamed
    raise AccountMismatch(
        "The consent was given with another account than the connection's.",
        hint="Sign in at the provider with the account that was connected first.",
    )


def _check_scope_type(instance: ProviderInstance, scope: Scope) -> None:
    if scope.type not in instance.spec.scope_types:
        raise BadInput(
            f"Provider {instance.id} connects for {' or '.join(instance.spec.scope_types)}, not for {scope.type}.",
            field="scope.type",
        )


def _listed(grants: Iterable[str]) -> tuple[str, ...]:
    if isinstance(grants, str):
        raise BadInput("Grants are a list of names, not one text.", field="grants")
    return normalised(grants)
