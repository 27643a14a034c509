"""Leases: the right to act on a resource, with a fence that survives release and never repeats.

A lease that ran out but was not taken over is still its holder's: nobody else has acted in between.
"""

from __future__ import annotations

from typing import Final

from go_services_core.errors import LeaseLost
from go_services_core.refreshes import Lease

from .statement import Row, Statement, Steps

_REFRESH: Final = "refresh:"

TAKE: Statement[Row] = Statement(
    """INSERT INTO service_leases (resource, owner, fence, expires_at) VALUES (:resource, :owner, 1, @later(seconds))
    ON CONFLICT (resource) DO UPDATE
      SET owner = excluded.owner, fence = service_leases.fence + 1, expires_at = excluded.expires_at
      WHERE service_leases.owner IS NULL OR service_leases.expires_at <= @now
    RETURNING fence"""
)
LEFT: Statement[Row] = Statement("SELECT @remaining(expires_at) FROM service_leases WHERE resource = :resource")
HELD: Statement[Row] = Statement(
    "SELECT fence FROM service_leases WHERE resource = :resource AND owner = :owner AND fence = :fence"
)
RENEW: Statement[Row] = Statement(
    """UPDATE service_leases SET expires_at = @later(seconds)
    WHERE resource = :resource AND owner = :owner AND fence = :fence RETURNING fence"""
)
RELEASE: Statement[Row] = Statement(
    """UPDATE service_leases SET owner = NULL, expires_at = NULL
    WHERE resource = :resource AND owner = :owner AND fence = :fence RETURNING fence"""
)
BREAK: Statement[Row] = Statement(
    """UPDATE service_leases SET owner = NULL, expires_at = NULL
    WHERE resource = :resource AND owner IS NOT NULL RETURNING fence"""
)
BREAK_INTENT: Statement[Row] = Statement(
    """UPDATE service_refresh_intents SET outcome = 'broken', settled_at = @now
    WHERE resource = :resource AND fence = :fence AND settled_at IS NULL"""
)


def refresh_of(connection_id: str) -> str:
    """The resource that a refresh of the connection holds."""
    return f"{_REFRESH}{connection_id}"


def connection_of(resource: str) -> str:
    """The connection whose refresh holds the resource."""
    return resource.removeprefix(_REFRESH)


def take(resource: str, *, owner: str, seconds: float) -> Steps[Lease | None]:
    """Take the lease by the database's clock; None while it is somebody's."""
    taken = yield from TAKE.first(resource=resource, owner=owner, seconds=seconds)
    return None if taken is None else Lease(resource=resource, owner=owner, fence=taken[0])


def remaining(resource: str) -> Steps[float]:
    """Seconds that the present holder has left."""
    left = yield from LEFT.first(resource=resource)
    return max(0.0, float(left[0])) if left is not None and left[0] is not None else 0.0


def holds(lease: Lease) -> Steps[bool]:
    """Whether nobody has taken or broken the lease."""
    return (yield from HELD.first(resource=lease.resource, owner=lease.owner, fence=lease.fence)) is not None


def renew(lease: Lease, *, seconds: float) -> Steps[None]:
    """Extend the lease. Raises LeaseLost."""
    held = {"resource": lease.resource, "owner": lease.owner, "fence": lease.fence}
    if (yield from RENEW.first(**held, seconds=seconds)) is None:
        raise LeaseLost(metadata={"resource": lease.resource})


def release(lease: Lease) -> Steps[None]:
    """Give the lease back. Raises LeaseLost."""
    if (yield from RELEASE.first(resource=lease.resource, owner=lease.owner, fence=lease.fence)) is None:
        raise LeaseLost(metadata={"resource": lease.resource})


def break_lease(resource: str) -> Steps[None]:
    """Take the lease from its holder, who can do nothing under its fence any more."""
    broken = yield from BREAK.first(resource=resource)
    if broken is not None:
        yield from BREAK_INTENT(resource=resource, fence=broken[0])
