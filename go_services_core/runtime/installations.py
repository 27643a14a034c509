"""Installations: rows that move as ``INSTALLATION_MOVES`` says, each change with its event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from attrs import evolve, field, frozen

from ..clock import uuid7
from ..errors import BadInput, InvalidTransition, NotFound, VersionConflict
from ..lifecycle import event
from ..model import Connection, Disconnected, Event, Scope
from ..redaction import mask
from ..resources import INSTALLATION_MOVES, Installation, InstallationStatus
from .announce import proposed
from .core import Core
from .disconnect import disconnect as end_connection
from .subscription_making import resources_of

TRIES: Final = 5
"""How often a change is made that others were ahead of."""
_NAMES: Final[Mapping[str, str]] = {"suspended": "installation.suspended", "uninstalled": "installation.uninstalled"}
"""Statuses whose event has a name of its own; others are told as ``installation.updated``."""


@frozen(kw_only=True)
class Uninstalled:
    """How an installation ended."""

    installation: Installation
    disconnected: tuple[Disconnected, ...] = field(default=())
    """What became of the connections, where that was asked for."""


async def install(
    core: Core,
    provider_id: str,
    *,
    scope: Scope,
    install_type: str,
    metadata: Mapping[str, Any] | None,
    granted_at: datetime | None,
) -> Installation:
    """See ``Runtime.install``."""
    instance = core.instance(provider_id)
    kind = install_type.strip().lower()
    if not kind:
        raise BadInput("An installation needs a type.", field="install_type")
    if scope.type not in instance.spec.scope_types:
        raise BadInput(
            f"The provider {provider_id!r} is installed for {', '.join(instance.spec.scope_types)}, not {scope.type}.",
            field="scope.type",
        )
    for _ in range(TRIES):
        now = core.clock.now()
        live, before = await _known(core, provider_id, scope, kind)
        if live is not None:
            wanted = evolve(
                live,
                status="active",
                status_reason="",
                metadata=live.metadata if metadata is None else dict(metadata),
                granted_at=granted_at or live.granted_at,
                updated_at=now,
            )
            told = _told(core, wanted, "installation.updated", previous=live.status)
        else:
            wanted = Installation(
                id=uuid7(core.clock),
                provider_id=provider_id,
                scope=scope,
                install_type=kind,
                granted_at=granted_at or now,
                metadata=dict(metadata or {}),
                created_at=now,
                updated_at=now,
            )
            name = "installation.reinstalled" if before else "installation.created"
            told = await proposed(core, name, _payload(wanted, previous=None), provider_id=provider_id, scope=scope)
        try:
            return await resources_of(core).upsert_installation(wanted, live=live is not None, event=told)
        except VersionConflict:
            continue
    raise VersionConflict("The installation is being changed by many at once; try again.")


async def _known(core: Core, provider_id: str, scope: Scope, kind: str) -> tuple[Installation | None, bool]:
    """The installation that is not uninstalled, and whether one was before."""
    before, after = False, None
    while True:
        page = await resources_of(core).installations(
            provider_id=provider_id, scope=scope, install_type=kind, after=after
        )
        for one in page.items:
            if one.status != "uninstalled":
                return one, before
            before = True
        after = page.next
        if after is None:
            return None, before


async def get(core: Core, installation_id: str) -> Installation:
    """See ``Runtime.installation``."""
    found = await resources_of(core).installation(installation_id)
    if found is None:
        raise NotFound(f"There is no installation {installation_id!r}.", metadata={"id": installation_id})
    return found


async def move(core: Core, installation_id: str, status: InstallationStatus, *, reason: str) -> Installation:
    """Take the installation to another status; one that has it already is refused.

    Raises:
        NotFound: there is none.
        InvalidTransition: its status does not allow that.
        BadInput: the reason is blank and it becomes worse.
    """
    if status in ("suspended", "needs_reconsent") and not reason.strip():
        raise BadInput("Say why.", field="reason")
    reason = mask(reason)
    for _ in range(TRIES):
        found = await get(core, installation_id)
        if status not in INSTALLATION_MOVES[found.status]:
            raise InvalidTransition(
                f"This installation is {found.status} and does not become {status} now.",
                metadata={"id": found.id, "status": found.status},
            )
        name = _NAMES.get(status, "installation.updated")
        told = _told(core, evolve(found, status=status), name, previous=found.status, reason=reason)
        try:
            return await resources_of(core).set_installation_status(
                installation_id, expected=[found.status], status=status, reason=reason, event=told
            )
        except InvalidTransition:
            continue  # somebody moved it meanwhile
    raise VersionConflict("The installation is being changed by many at once; try again.")


async def uninstall(core: Core, installation_id: str, *, reason: str, disconnect: bool) -> Uninstalled:
    """See ``Runtime.uninstall``."""
    found = await get(core, installation_id)
    ended: list[Disconnected] = []
    if disconnect:
        reason = reason or "uninstalled"
        ended = [await end_connection(core, one.id, reason=reason) for one in await _connections(core, found)]
    if found.status != "uninstalled":
        try:
            found = await move(core, installation_id, "uninstalled", reason=reason)
        except InvalidTransition:  # somebody else uninstalled it
            found = await get(core, installation_id)
    return Uninstalled(installation=found, disconnected=tuple(ended))


async def _connections(core: Core, installation: Installation) -> list[Connection]:
    """Those of the installation's provider and scope that are not disconnected."""
    found: list[Connection] = []
    after: str | None = None
    while True:
        page = await core.store.connections.list(
            provider_id=installation.provider_id, scope=installation.scope, after=after
        )
        found += [one for one in page.items if one.status != "disconnected"]
        after = page.next
        if after is None:
            return found


def _payload(installation: Installation, *, previous: str | None, **more: str) -> dict[str, Any]:
    return {
        "installation_id": installation.id,
        "install_type": installation.install_type,
        "status": installation.status,
        "previous": previous,
        **more,
    }


def _told(core: Core, installation: Installation, name: str, *, previous: str, **more: str) -> Event:
    payload = _payload(installation, previous=previous, **more)
    return event(core.clock, name, payload, provider_id=installation.provider_id, scope=installation.scope)
