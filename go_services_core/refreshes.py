"""The lease under which a credential is refreshed, and what is known of the attempts to refresh it."""

from __future__ import annotations

from attrs import frozen

from .model import Connection, SealedCredential


@frozen(kw_only=True)
class Lease:
    """The right to act on a resource until the database's clock passes the expiry."""

    resource: str
    owner: str
    fence: int


@frozen(kw_only=True)
class AbandonedRefresh:
    """An attempt to refresh of which its holder did not say how it ended: the oldest one, which alone sent a request.

    Whoever opens after it settles it before sending a request of its own.
    """

    intent_id: str
    age: float
    """Seconds since its request left, by the database's clock."""


@frozen(kw_only=True)
class LateToken:
    """A credential that came to a holder whose lease was taken over, kept in its intent."""

    intent_id: str
    credential: SealedCredential


@frozen(kw_only=True)
class RefreshOpen:
    """What opening a refresh brought: the lease and the credential to refresh from, read in the same unit."""

    lease: Lease
    connection: Connection
    credential: SealedCredential
    abandoned: AbandonedRefresh | None = None
    """Set where somebody else began with the same credential and never said how it ended."""


@frozen(kw_only=True)
class RefreshHistory:
    """What was tried with one version of a credential."""

    failed: int = 0
    """Attempts that failed without spending anything."""
    retry_in: float = 0.0
    """Seconds until the next attempt may be made, by the database's clock; 0 when it may be made now."""
    unknown: int = 0
    """Attempts of which nobody knows whether they spent the refresh token."""
    unknown_age: float = 0.0
    """Seconds since the request of the first of these left, by the database's clock."""
    late: LateToken | None = None
    """The token that came to a holder after its lease, if one did; the newest."""
