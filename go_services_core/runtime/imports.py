"""Importing tokens of another system as connections, without a consent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from ..errors import AccountMismatch, BadInput
from ..model import Connection, Scope, TokenSet
from ..transfer import Imported, TokenImport, mangled
from .connect import Known, asked, establish_tokens, stored_as
from .core import Core, logger
from .identity import account_of, spelled, tells_account, unnamed
from .load import open_version
from .secret_state import UNREADABLE

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..providers import ProviderInstance


async def import_connection(
    core: Core,
    provider_id: str,
    *,
    scope: Scope,
    tokens: TokenImport,
    auth: str | None,
    account: str | None,
    verify: bool,
    dry_run: bool,
) -> Imported:
    """Keep tokens of another system as a connection; see ``Runtime.import_connection``."""
    instance, record, _ = await asked(core, provider_id, scope=scope, grants=(), auth=auth, connection_id=None)
    if account is not None and (not account.strip() or account != account.strip()):
        raise BadInput("An account's id may not be blank or begin or end with a space.", field="account")
    damaged = mangled(tokens) if core.flow(record.kind).interactive else None
    if damaged is not None:
        raise BadInput(f"The secret {damaged} has a space around it or a control character in it.", field=damaged)
    if verify:
        if not tells_account(core, instance, record):
            raise BadInput(
                f"Provider {instance.id} does not say whose account a token is of.",
                hint="Pass verify=False and the account's id.",
                field="account",
            )
        whose = await account_of(core, instance, record, scope, tokens.requested, tokens)
        if account is not None and account not in (whose.id, *whose.also):
            raise AccountMismatch(f"The provider {instance.id} says that the token is of another account.")
    elif account is None:
        raise BadInput("Without asking the provider, the account's id is needed.", field="account")
    else:
        whose = spelled(instance, record, account)
        logger.warning("a token of %s for %s is imported without asking the provider whose it is", instance.id, scope)
    granted = tokens.granted if tokens.granted is not None else whose.granted
    if granted is None:
        granted = tokens.requested or None
    return await keep(
        core, instance, record, scope, evolve(tokens, granted=granted), Known(account=whose), dry_run=dry_run
    )


async def keep(
    core: Core,
    instance: ProviderInstance,
    record: AuthSpec,
    scope: Scope,
    tokens: TokenImport,
    known: Known,
    *,
    dry_run: bool,
) -> Imported:
    """Commit imported tokens as the account's connection, unless they are stored already."""
    facet = core.store.connections
    connection_id, _, account = await stored_as(core, instance, unnamed(record, scope), scope, known.account, None)
    connection = None if connection_id is None else await facet.get(connection_id)
    imported = Imported(
        outcome="new" if connection is None else "renewed",
        provider_id=instance.id,
        scope=scope,
        account=account,
        connection=connection,
    )
    if connection is not None and connection.status != "disconnected" and await _is_stored(core, connection, tokens):
        return evolve(imported, outcome="unchanged")
    if dry_run:
        return imported
    made = await establish_tokens(core, instance, record, scope, tokens.requested, tokens, None, known=known)
    return evolve(imported, connection=made)


async def _is_stored(core: Core, connection: Connection, tokens: TokenSet) -> bool:
    """Whether these are the connection's tokens, or were: an import that is repeated must not bring spent ones back."""
    for row in await core.store.connections.credentials(connection.id):
        try:
            held = await open_version(core, connection, row)
        except UNREADABLE:
            continue  # what cannot be compared is replaced by what can be read
        mine, theirs = held.tokens, tokens
        if (mine.access_token, mine.refresh_token, mine.id_token, dict(mine.extra)) == (
            theirs.access_token, theirs.refresh_token, theirs.id_token, dict(theirs.extra),
        ):  # fmt: skip
            return True
    return False
