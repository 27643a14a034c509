"""Getting a connection ready for use: one statement, or none while it is cached."""

from __future__ import annotations

from ..auth.dpop import is_bound, signer_of
from ..errors import ReauthRequired, ReconsentRequired
from ..model import Connection, Credential, SealedCredential
from ..protocols import SigningKey
from . import bindings
from .core import Core, Loaded
from .payload import decode_credential
from .refresh_rules import renew_at
from .secret_state import UNREADABLE, mark_readable, mark_unreadable
from .skew import is_dated


def cached(core: Core, connection_id: str) -> Loaded | None:
    """The connection, where the cache has it."""
    found = core.cache.get(connection_id)
    return found if found is not None and found.until > core.clock.monotonic() else None


async def load(core: Core, connection_id: str) -> Loaded:
    """The connection with its opened credential, from the cache or the store.

    Raises:
        ConnectionNotFound: there is none.
        ReauthRequired: it is not active, or has no credential.
        CannotOpen, KeyNotFound, KeyDisabled, KeyDenied, KeyInvalid, BackendUnavailable: its credential cannot be
            opened.
    """
    found = cached(core, connection_id)
    if found is not None:
        return found
    since = core.changes
    connection, row = await core.store.connections.load(connection_id)
    require_active(connection)
    if row is None:
        raise ReauthRequired(f"Connection {connection_id} has no credential; connect it again.")
    return remember(core, connection, row, await open_credential(core, connection, row), since=since)


def require_active(connection: Connection) -> None:
    """Refuse a connection that may not be used.

    Raises:
        ReconsentRequired: its status is ``needs_reconsent``.
        ReauthRequired: its status is another than ``active``.
    """
    if connection.status != "active":
        why = f": {connection.last_error}" if connection.last_error else ""
        again = connection.status == "needs_reconsent"
        raise (ReconsentRequired if again else ReauthRequired)(
            f"Connection {connection.id} is {connection.status}{why}.",
            hint=f"{'Begin a consent with Runtime.reconsent, or connect' if again else 'Connect'} it again to use it.",
            metadata={"connection_id": connection.id, "status": connection.status},
        )


async def open_credential(core: Core, connection: Connection, row: SealedCredential) -> Credential:
    """The credential in a row, opened under the binding of its connection and version.

    Whether it opens is kept with the connection.

    Raises:
        CannotOpen, KeyNotFound, KeyDisabled: it does not; ``metadata`` has ``connection_id`` and ``key_id``.
        KeyInvalid, KeyDenied, BackendUnavailable: it cannot be tried.
    """
    try:
        credential = await open_version(core, connection, row)
    except UNREADABLE as error:
        await mark_unreadable(core, connection, row.sealed.key, error)
        # Another object: connections of one scope wait for one data key, and all get the same error.
        raise type(error)(
            error.message,
            hint=error.hint,
            plugin=error.plugin,
            field=error.field,
            metadata={**error.metadata, "connection_id": connection.id, "key_id": row.sealed.key.key_id},
        ) from error
    await mark_readable(core, connection)
    return credential


async def open_version(core: Core, connection: Connection, row: SealedCredential) -> Credential:
    """The credential in a row of any version; nothing is kept of whether it opens.

    Raises:
        CannotOpen, KeyNotFound, KeyDisabled, KeyInvalid, KeyDenied, BackendUnavailable: it does not.
    """
    binding = bindings.credential(connection.id, row.version, connection.provider_id, connection.scope)
    return decode_credential(await core.sealer.open(row.sealed, binding), row, connection)


def remember(
    core: Core, connection: Connection, row: SealedCredential, credential: Credential, *, since: int
) -> Loaded:
    """Cache a connection and what was opened of it, unless something was forgotten after ``since``."""
    instance = core.instance(connection.provider_id)
    auth = instance.auth(connection.auth_kind)
    expires_at = credential.tokens.expires_at
    now = core.clock.monotonic()
    signer = core.signer(signer_of(auth, credential.tokens))
    loaded = Loaded(
        connection=connection,
        credential=credential,
        instance=instance,
        signer=signer,
        key=SigningKey(secret=credential.tokens.access_token, auth=auth, credential=credential),
        bound=is_bound(credential.tokens),
        dated=is_dated(signer, auth),
        renew_at=renew_at(auth, row, expires_at) if credential.refreshable and expires_at is not None else None,
        until=now + core.settings.cache_seconds,
    )
    cache = core.cache
    cache.pop(connection.id, None)
    while cache and next(iter(cache.values())).until <= now:  # in the order of their time: all live equally long
        del cache[next(iter(cache))]
    if core.settings.cache_seconds > 0 and core.changes == since:
        cache[connection.id] = loaded
    return loaded
