"""What is known of a credential without opening it: when it is renewed, how long it can be, and what needs a person."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from attrs import frozen

from .model import Connection, SealedCredential
from .refreshes import RefreshHistory

Verdict = Literal["ok", "renew soon", "reauth soon", "action needed"]


@frozen(kw_only=True)
class CredentialFacts:
    """What stands beside the secret in the row of an active credential."""

    id: str
    version: int
    expires_at: datetime | None
    refresh_expires_at: datetime | None
    refreshable: bool
    created_at: datetime

    @classmethod
    def of(cls, row: SealedCredential) -> CredentialFacts:
        """Those of ``row``."""
        return cls(
            id=row.id,
            version=row.version,
            expires_at=row.expires_at,
            refresh_expires_at=row.refresh_expires_at,
            refreshable=row.refreshable,
            created_at=row.created_at,
        )


@frozen(kw_only=True)
class Outlook:
    """What decides when a connection is renewed."""

    connection: Connection
    credential: CredentialFacts | None
    """None where the connection has no active credential."""
    history: RefreshHistory


@frozen(kw_only=True)
class ConnectionHealth:
    """How long a connection goes on working by itself, as far as its provider's record and answers say."""

    connection: Connection
    verdict: Verdict
    """``ok``; ``renew soon``: a renewal is due, or is tried again; ``reauth soon``: a person has to consent again
    within the time that was asked about; ``action needed``: it does not work any more by itself."""
    advice: str
    """What to do, or what will happen by itself; empty where there is nothing to say."""
    token_ends: datetime | None
    """When the access token ends; None where it does not, or where there is none."""
    refresh_ends: datetime | None
    """When the refresh token ends, unless it is used before; None where nobody knows."""
    next_renewal: datetime | None
    """When ``refresh.ahead`` renews it at the earliest; None where it does not."""
    retry_at: datetime | None
    """When the renewal that failed is tried again; None where none failed."""
