"""The wrapping keys as operators see and change them: what there is, what needs it, and what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import BadInput, CapabilityUnsupported, Conflict, KeyNotFound, SecretError
from ..model import KeyRef
from ..sealing import KeyLifecycle, SecretBackend
from ..wrapping_keys import KeyInfo, KeyStatus, KeyUse
from . import keycheck
from .core import Core
from .load import open_credential
from .rotation import sealed_facet
from .secret_state import UNREADABLE, mark_readable

_USABLE: Final = ("primary", "decrypt-only")
LISTED: Final = 100
"""Unreadable connections that a status names."""


async def status(core: Core, *, count: bool) -> KeyStatus:
    """What there is; see ``Runtime.key_status``."""
    backend = core.backend
    primary, problem, check = None, "", None
    known: Sequence[KeyInfo] = ()
    warnings: list[str] = []
    try:
        primary = await backend.check()
        check = await keycheck.key_of(core.store, core.sealer)
    except SecretError as error:
        problem = str(error)
    try:
        if isinstance(backend, KeyLifecycle):
            known = await backend.keys()
    except CapabilityUnsupported:
        pass
    except SecretError as error:
        if not problem:
            warnings.append(f"The keys cannot be listed: {error}")
    uses: Sequence[KeyUse] = ()
    unreadable: tuple[str, ...] = ()
    if getattr(core.store, "sealed", None) is not None:
        uses = await sealed_facet(core).keys() if count else ()
        unreadable = tuple(await _unreadable(core, limit=LISTED))
    return KeyStatus(
        backend=backend.id,
        primary=primary,
        problem=problem,
        keys=tuple(known),
        check=check,
        uses=tuple(uses),
        unreadable=unreadable,
        warnings=(*warnings, *_warnings(primary, known, uses, unreadable)),
    )


async def retry_unreadable(core: Core) -> tuple[str, ...]:
    """Try what could not be opened; see ``Runtime.retry_unreadable``."""
    sealed_facet(core)
    left = []
    for connection_id in await _unreadable(core, limit=None):
        connection, row = await core.store.connections.load(connection_id)
        if row is None:
            await mark_readable(core, connection)
            continue
        try:
            await open_credential(core, connection, row)
        except UNREADABLE:
            left.append(connection_id)
    return tuple(left)


async def add(core: Core, *, dry_run: bool) -> KeyInfo:
    """A new key that only unwraps; see ``Runtime.add_key``."""
    return await lifecycle(core.backend).add_key(dry_run=dry_run)


async def rotate(core: Core, to: str | None, *, dry_run: bool) -> tuple[KeyRef, KeyRef]:
    """Another primary key; see ``Runtime.rotate_key``."""
    changed = await lifecycle(core.backend).rotate(to=to, dry_run=dry_run)
    if not dry_run:
        core.sealer.forget()
    return changed


async def retire(core: Core, key_id: str, version: int | None, *, dry_run: bool) -> str:
    """Let a key go that nothing needs; see ``Runtime.retire_key``."""
    changing = lifecycle(core.backend)
    facet = sealed_facet(core)
    info = _named(await changing.keys(), key_id, version)
    key = info.key
    if info.state == "primary":
        raise Conflict(f"{_name(key)} is the primary key; it was not retired.", hint="Make another one primary first.")
    in_use = [use for use in await facet.keys() if use.key == key]
    if in_use:
        rows = sum(use.rows for use in in_use)
        kinds = ", ".join(f"{use.rows} {use.kind}" for use in in_use)
        raise Conflict(
            f"{_name(key)} is in use by {rows} {'row' if rows == 1 else 'rows'} ({kinds}); it was not retired.",
            hint="Run `go-services secrets rewrap` first.",
            metadata={"key_id": key.key_id, "key_version": key.key_version, "rows": rows},
        )
    if await keycheck.key_of(core.store, core.sealer) == key:
        raise Conflict(
            f"{_name(key)} is in use by the key check of this database; it was not retired.",
            hint="Run `go-services secrets rewrap` first.",
            metadata={"key_id": key.key_id, "key_version": key.key_version, "rows": 0},
        )
    return await changing.retire(key, dry_run=dry_run)


def lifecycle(backend: SecretBackend) -> KeyLifecycle:
    """What changes the keys of a backend.

    Raises:
        CapabilityUnsupported: it offers nothing of the kind.
    """
    if isinstance(backend, KeyLifecycle):
        return backend
    raise CapabilityUnsupported(
        f"The keys of the secret backend {backend.id!r} cannot be changed from here.",
        hint="Change them where they are kept.",
    )


def _named(known: Sequence[KeyInfo], key_id: str, version: int | None) -> KeyInfo:
    found = [info for info in known if info.key.key_id == key_id and version in (None, info.key.key_version)]
    if len(found) == 1:
        return found[0]
    if found:
        versions = ", ".join(str(info.key.key_version) for info in found)
        raise BadInput(
            f"There are {len(found)} keys {key_id!r}.", hint=f"Name the version, one of {versions}.", field="version"
        )
    said = key_id if version is None else f"{key_id} version {version}"
    here = ", ".join(f"{info.key.key_id} version {info.key.key_version}" for info in known) or "none"
    raise KeyNotFound(f"The secret backend has no key {said}; it has {here}.", metadata={"key_id": key_id})


async def _unreadable(core: Core, *, limit: int | None) -> list[str]:
    """Ids of connections that are in use and whose credential could not be opened."""
    found: list[str] = []
    after: str | None = None
    while limit is None or len(found) < limit:
        page = await core.store.connections.list(secret_state="unreadable", after=after)
        found += [connection.id for connection in page.items if connection.status != "disconnected"]
        after = page.next
        if after is None:
            break
    return found[:limit]


def _warnings(
    primary: KeyRef | None, known: Sequence[KeyInfo], uses: Sequence[KeyUse], unreadable: Sequence[str]
) -> list[str]:
    found = [f"{_name(info.key)}: {warning}" for info in known for warning in info.warnings]
    rows: dict[KeyRef, int] = {}
    for use in uses:
        rows[use.key] = rows.get(use.key, 0) + use.rows
    states = {info.key: info.state for info in known}
    adopted = sum(count for key, count in rows.items() if not key.backend)
    lost = {key: count for key, count in rows.items() if known and key.backend and states.get(key) not in _USABLE}
    stale = sum(count for key, count in rows.items() if key.backend and key != primary and key not in lost)
    for key, count in lost.items():
        why = f"is {states[key]}" if key in states else "the backend does not have"
        found.append(f"{_rows(count)} under {_name(key)}, which {why}: make the key usable again.")
    if stale and primary is not None:
        found.append(f"{_rows(stale)} not under the primary key: `go-services secrets rewrap` changes that.")
    if adopted:
        found.append(f"{_rows(adopted)} in the format of the Go system: `go-services secrets reencrypt` changes that.")
    if unreadable:
        more = "at least " if len(unreadable) == LISTED else ""
        those = f"{more}{len(unreadable)} {'connection' if len(unreadable) == 1 else 'connections'}"
        found.append(
            f"The credential of {those} cannot be opened: `go-services connections list --secret-state unreadable` "
            "names them."
        )
    return found


def _rows(count: int) -> str:
    return f"{count} row is" if count == 1 else f"{count} rows are"


def _name(key: KeyRef) -> str:
    return f"Key {key.key_id} version {key.key_version}" if key.backend else f"key {key.key_id}"
