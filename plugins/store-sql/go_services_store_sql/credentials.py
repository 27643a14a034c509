"""Credential rows: at most one active version per connection, older ones superseded."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from go_services_core.model import REVOKE_JOB, KeyRef, Sealed, SealedCredential

from .dialect import Json, read_json, read_time, read_time_or_none
from .models import CredentialRow
from .statement import Param, Row, Statement, Steps, insert

COLUMNS = (
    CredentialRow.id,
    CredentialRow.connection_id,
    CredentialRow.version,
    CredentialRow.encrypted_payload,
    CredentialRow.encryption_backend,
    CredentialRow.encryption_key_id,
    CredentialRow.encryption_version,
    CredentialRow.payload_format,
    CredentialRow.payload_version,
    CredentialRow.token_type,
    CredentialRow.requested_scopes,
    CredentialRow.granted_scopes,
    CredentialRow.expires_at,
    CredentialRow.refresh_expires_at,
    CredentialRow.refreshable,
    CredentialRow.created_at,
)

Grants = tuple[tuple[str, ...], tuple[str, ...] | None]
"""What was requested and what was granted; None where the provider does not tell."""


def grants_of(requested: object, granted: object) -> Grants:
    """The grants in a pair of JSON columns."""
    given = read_json(granted)
    return tuple(read_json(requested)), None if given is None else tuple(given)


def credential_of(row: Row) -> SealedCredential:
    """The credential in a row of ``COLUMNS``."""
    requested, granted = grants_of(row[10], row[11])
    return SealedCredential(
        id=row[0],
        connection_id=row[1],
        version=row[2],
        sealed=Sealed(bytes(row[3]), KeyRef(row[4], row[5], row[6])),
        payload_format=row[7],
        payload_version=row[8],
        token_type=row[9],
        requested=requested,
        granted=granted,
        expires_at=read_time_or_none(row[12]),
        refresh_expires_at=read_time_or_none(row[13]),
        refreshable=bool(row[14]),
        created_at=read_time(row[15]),
    )


INSERT_CREDENTIAL: Statement[Row] = Statement(
    insert(CredentialRow), tail="ON CONFLICT (connection_id, version) DO NOTHING RETURNING id"
)

SUPERSEDE: Statement[Row] = Statement(
    """UPDATE service_credentials SET status = 'revoked', revocation_reason = 'rotated', updated_at = @now
    WHERE connection_id = :connection_id AND status = 'active'"""
)

KEPT: Final = f"""EXISTS (SELECT 1 FROM service_sync_jobs AS job WHERE job.id = service_credentials.id
      AND job.kind = '{REVOKE_JOB}' AND job.status IN ('queued', 'running'))"""  # noqa: S608
"""Whether a job has still to revoke the credential. The job has its id."""
WITH_CIPHERTEXT: Statement[SealedCredential] = Statement(
    CredentialRow.select(*COLUMNS)
    .where(CredentialRow.connection_id == Param("connection_id"), CredentialRow.destroyed_at.is_null())
    .order_by(CredentialRow.version.desc()),
    credential_of,
)


def insert_credential(new: SealedCredential, *, updated_at: datetime) -> Steps[bool]:
    """Insert ``new`` as the active version; False when that version is there already."""
    saved = yield from INSERT_CREDENTIAL.first(
        id=new.id,
        connection_id=new.connection_id,
        version=new.version,
        encrypted_payload=new.sealed.ciphertext,
        payload_format=new.payload_format,
        payload_version=new.payload_version,
        token_type=new.token_type,
        requested_scopes=Json(new.requested),
        granted_scopes=Json(new.granted),
        expires_at=new.expires_at,
        refresh_expires_at=new.refresh_expires_at,
        rotates_at=None,
        refreshable=new.refreshable,
        status="active",
        grant_version=new.version,
        encryption_backend=new.sealed.key.backend,
        encryption_key_id=new.sealed.key.key_id,
        encryption_version=new.sealed.key.key_version,
        revocation_reason="",
        destroyed_at=None,
        created_at=new.created_at,
        updated_at=updated_at,
    )
    return saved is not None
