"""Moving the connections of a scope into another database: everything verified before anything is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ..errors import BadInput, BundleInvalid, CapabilityUnsupported, ConnectionNotFound
from ..model import Connection, Scope
from ..secret import SecretBytes, SecretStr
from ..transfer import Exported, Imported, TokenImport, read_object, time_of, tokens_of
from .connect import Known, asked
from .core import Core
from .identity import spelled
from .imports import keep
from .load import open_version
from .secret_state import UNREADABLE

if TYPE_CHECKING:
    from ..sealing import BundleCipher


@frozen(kw_only=True)
class _Head:
    scope: Scope
    connections: int


@frozen(kw_only=True)
class _Entry:
    id: str
    provider: str
    auth: str
    account: str
    status: str
    issued_at: datetime | None
    tokens: TokenImport | None


async def export_scope(core: Core, scope: Scope, *, key: SecretStr) -> Exported:
    """The connections of a scope as an encrypted bundle; see ``Runtime.export_scope``."""
    cipher = _cipher(core)
    records: list[SecretBytes] = []
    without: list[str] = []
    after: str | None = None
    while True:
        page = await core.store.connections.list(scope=scope, after=after)
        for connection in page.items:
            if connection.status != "disconnected":
                record, has_secrets = await _record(core, connection)
                records.append(record)
                without += [] if has_secrets else [connection.id]
        after = page.next
        if after is None:
            break
    head = {"scope": str(scope), "connections": len(records), "exported_at": core.clock.now().isoformat()}
    plain = (SecretBytes(json.dumps(head).encode()), *records)
    bundle = await asyncio.to_thread(lambda: cipher.seal((record.reveal() for record in plain), key))
    return Exported(bundle=bundle, connections=len(records), without_secrets=tuple(without))


async def import_bundle(core: Core, bundle: bytes, *, key: SecretStr, dry_run: bool) -> tuple[Imported, ...]:
    """Store what a bundle holds; see ``Runtime.import_bundle``."""
    cipher = _cipher(core)
    records = await asyncio.to_thread(cipher.open, bundle, key)
    if not records:
        raise BundleInvalid
    head = read_object(_text(records[0]), _read_head)
    entries = [read_object(_text(record), _read_entry) for record in records[1:]]
    if head.connections != len(entries):
        raise BundleInvalid("The export bundle does not hold as many connections as it says.")
    for entry in entries:
        if entry.tokens is not None:
            await asked(core, entry.provider, scope=head.scope, grants=(), auth=entry.auth, connection_id=None)
    return tuple([await _keep(core, head.scope, entry, dry_run=dry_run) for entry in entries])


async def _keep(core: Core, scope: Scope, entry: _Entry, *, dry_run: bool) -> Imported:
    if entry.tokens is None:
        why = f"it was {entry.status}" if entry.status != "active" else "its credential could not be opened"
        return Imported(
            outcome="skipped", provider_id=entry.provider, scope=scope, account=entry.account,
            detail=f"{why} when it was exported: connect it again",
        )  # fmt: skip
    instance = core.instance(entry.provider)
    record = instance.auth(entry.auth)
    free = await _is_free(core, entry.id)
    whose = spelled(instance, record, entry.account)
    known = Known(account=whose, connection_id=entry.id if free else None, issued_at=entry.issued_at)
    return await keep(core, instance, record, scope, entry.tokens, known, dry_run=dry_run)


async def _is_free(core: Core, connection_id: str) -> bool:
    try:
        await core.store.connections.get(connection_id)
    except ConnectionNotFound:
        return True
    return False


async def _record(core: Core, connection: Connection) -> tuple[SecretBytes, bool]:
    """A connection in JSON, and whether its credential is in it: only that of an active one that can be opened."""
    grants = await core.store.connections.grants(connection.id)
    fields: dict[str, Any] = {
        "id": connection.id,
        "provider": connection.provider_id,
        "auth": connection.auth_kind,
        "account": connection.external_account_id,
        "status": connection.status,
        "requested": [] if grants is None else list(grants.requested),
        "granted": None if grants is None or grants.granted is None else list(grants.granted),
    }
    secrets = await _secrets(core, connection)
    return SecretBytes(json.dumps({**fields, **secrets}).encode()), bool(secrets)


async def _secrets(core: Core, connection: Connection) -> dict[str, Any]:
    connection, row = await core.store.connections.load(connection.id)
    if connection.status != "active" or row is None:
        return {}
    try:
        credential = await open_version(core, connection, row)
    except UNREADABLE:
        return {}
    tokens = credential.tokens
    secrets = {
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "id_token": tokens.id_token,
    }
    times = {
        "expires_at": tokens.expires_at,
        "refresh_expires_at": tokens.refresh_expires_at,
        "issued_at": row.created_at,
    }
    return {
        **{name: value.reveal() for name, value in secrets.items() if value is not None},
        **{name: value.isoformat() for name, value in times.items() if value is not None},
        "token_type": tokens.token_type,
        "extra": {name: value.reveal() for name, value in tokens.extra.items()},
        "requested": list(credential.requested),
        "granted": None if credential.granted is None else list(credential.granted),
    }


def _read_head(fields: Mapping[str, Any]) -> _Head:
    count = fields.get("connections")
    if not isinstance(count, int):
        raise BadInput("The export bundle does not say how many connections it holds.", field="connections")
    return _Head(scope=Scope.parse(str(fields.get("scope"))), connections=count)


def _read_entry(fields: Mapping[str, Any]) -> _Entry:
    for name in ("id", "provider", "auth", "account", "status"):
        if not isinstance(fields.get(name), str):
            raise BadInput(f"The member {name} of a connection in the bundle is text.", field=name)
    return _Entry(
        id=fields["id"],
        provider=fields["provider"],
        auth=fields["auth"],
        account=fields["account"],
        status=fields["status"],
        issued_at=time_of("issued_at", fields.get("issued_at")),
        tokens=tokens_of(fields) if "access_token" in fields else None,
    )


def _text(record: SecretBytes) -> SecretStr:
    return SecretStr(record.reveal().decode())


def _cipher(core: Core) -> BundleCipher:
    """What encrypts bundles: the configured secret backend's plugin where it can, else another's."""
    backends = core.catalog.secret_backends
    for spec in sorted(backends.values(), key=lambda spec: (spec.id != core.backend.id, spec.id)):
        if spec.bundles is not None:
            return spec.bundles.resolve()()
    raise CapabilityUnsupported(
        "No plugin that is loaded encrypts export bundles.", hint="Install go-services-secrets-appkey."
    )
