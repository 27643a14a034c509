"""Tokens that came too late: kept in the intent of a refresh, sealed, until somebody adopts them."""

from __future__ import annotations

from typing import Any

from go_services_core.model import KeyRef, Sealed, SealedCredential
from go_services_core.refreshes import LateToken, Lease
from go_services_core.states import RENEWED

from . import leases
from .dialect import Json, read_json, read_time, read_time_or_none, time_text
from .statement import Row, Statement, Steps
from .transitions import among

KEEP: Statement[Row] = Statement(
    among(
        RENEWED,
        """UPDATE service_refresh_intents SET payload = :payload, encryption_backend = :backend,
      encryption_key_id = :key_id, encryption_version = :key_version, details = :details
    WHERE resource = :resource AND fence = :fence
      AND EXISTS (SELECT 1 FROM service_connections
                  WHERE id = :connection_id AND status @before AND deleted_at IS NULL)
      AND EXISTS (SELECT 1 FROM service_credentials
                  WHERE connection_id = :connection_id AND status = 'active'
                    AND version = service_refresh_intents.version)
      AND version = :used
    RETURNING id""",
    )
)
NEWEST: Statement[Row] = Statement(
    """SELECT id, payload, encryption_backend, encryption_key_id, encryption_version, details, version
    FROM service_refresh_intents WHERE connection_id = :connection_id AND version = :version AND payload IS NOT NULL
    ORDER BY fence DESC LIMIT 1"""
)
ADOPTED: Statement[Row] = Statement(
    """UPDATE service_refresh_intents SET outcome = 'adopted', settled_at = @now, payload = NULL WHERE id = :id"""
)
DESTROY: Statement[Row] = Statement(
    """UPDATE service_refresh_intents SET payload = NULL
    WHERE connection_id = :connection_id AND payload IS NOT NULL"""
)


def keep(lease: Lease, new: SealedCredential) -> Steps[bool]:
    """Keep ``new`` in the intent of a lease that was taken over; False where nobody can use it."""
    sealed = new.sealed
    kept = yield from KEEP.first(
        payload=sealed.ciphertext,
        backend=sealed.key.backend,
        key_id=sealed.key.key_id,
        key_version=sealed.key.key_version,
        details=Json(_details(new)),
        resource=lease.resource,
        fence=lease.fence,
        connection_id=leases.connection_of(lease.resource),
        used=new.version - 1,
    )
    return kept is not None


def newest(connection_id: str, version: int) -> Steps[LateToken | None]:
    """The newest that follows that version of the credential."""
    found = yield from NEWEST.first(connection_id=connection_id, version=version)
    if found is None:
        return None
    id_, payload, backend, key_id, key_version, details, used = found
    sealed = Sealed(bytes(payload), KeyRef(backend, key_id, key_version))
    return LateToken(intent_id=id_, credential=_credential(connection_id, used + 1, sealed, read_json(details)))


def _details(new: SealedCredential) -> dict[str, Any]:
    return {
        "id": new.id,
        "payload_format": new.payload_format,
        "payload_version": new.payload_version,
        "token_type": new.token_type,
        "requested": new.requested,
        "granted": new.granted,
        "expires_at": None if new.expires_at is None else time_text(new.expires_at),
        "refresh_expires_at": None if new.refresh_expires_at is None else time_text(new.refresh_expires_at),
        "refreshable": new.refreshable,
        "created_at": time_text(new.created_at),
    }


def _credential(connection_id: str, version: int, sealed: Sealed, details: dict[str, Any]) -> SealedCredential:
    granted = details["granted"]
    return SealedCredential(
        id=details["id"],
        connection_id=connection_id,
        version=version,
        sealed=sealed,
        payload_format=details["payload_format"],
        payload_version=details["payload_version"],
        token_type=details["token_type"],
        requested=tuple(details["requested"]),
        granted=None if granted is None else tuple(granted),
        expires_at=read_time_or_none(details["expires_at"]),
        refresh_expires_at=read_time_or_none(details["refresh_expires_at"]),
        refreshable=details["refreshable"],
        created_at=read_time(details["created_at"]),
    )
