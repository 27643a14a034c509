"""What may be done in which state of a refresh: pure decisions, without store or provider.

The table of ``docs/explanation/refresh.md`` says the same; the tests read it.
"""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from ..errors import (
    ProviderUnavailable,
    RateLimited,
    RefreshBackingOff,
    RefreshUnknown,
    ServicesError,
    TokenResponseInvalid,
    TransportError,
)

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..model import SealedCredential, TokenSet
    from ..outlook import CredentialFacts
    from ..protocols import AuthFlow
    from ..refreshes import RefreshHistory

MARGIN: Final = timedelta(minutes=5)
"""A token is renewed this long before it ends, or a tenth of its life if that is shorter."""
SHORTEST: Final = timedelta(seconds=5)
"""No token is renewed sooner than this after it came, however soon it ends."""
REST: Final = 0.8
"""The part of the time that a refresh token may rest, after which it is used."""
FIRST_PAUSE: Final = 2.0
"""Seconds after the first failure; doubled by each further one."""
LONGEST_PAUSE: Final = 300.0
ANSWERED: Final = (500, 501, 503)
"""What a token endpoint itself answers when it fails. Any other 5xx is a gateway's, and says nothing of what stood
behind it."""


def rotates(auth: AuthSpec) -> bool:
    """Whether using a refresh token spends it."""
    return getattr(auth, "rotation", "none") != "none"


def renewable(flow: AuthFlow, auth: AuthSpec, tokens: TokenSet) -> bool:
    """Whether ``flow`` can renew these tokens; without a word of its own, if there is a refresh token."""
    says = getattr(flow, "renewable", None)
    if says is not None:
        return bool(says(auth, tokens))
    return tokens.refresh_token is not None and bool(getattr(auth, "refreshable", False))


def renew_at(auth: AuthSpec, row: SealedCredential | CredentialFacts, expires_at: datetime) -> datetime:
    """When a token is renewed: its margin before it ends, and up to a fifth of the margin earlier.

    How much earlier differs from one credential to the next, so that many that came together do not end together, and
    is the same in every process.
    """
    declared = getattr(auth, "refresh_margin", None)
    life = expires_at - row.created_at
    margin = min(MARGIN, life / 10) if declared is None else timedelta(seconds=declared)
    return max(expires_at - margin * (1 + _chance(row.id) / 5), row.created_at + SHORTEST)


def longest_margin(auth: AuthSpec) -> timedelta:
    """No token of that record is renewed earlier than this before its end."""
    declared = getattr(auth, "refresh_margin", None)
    return (MARGIN if declared is None else timedelta(seconds=declared)) * 1.2


def ending_at(auth: AuthSpec, facts: CredentialFacts) -> datetime | None:
    """When the end of the access token is a reason to renew; None where it has none, or cannot be renewed."""
    if facts.expires_at is None or not facts.refreshable:
        return None
    return renew_at(auth, facts, facts.expires_at)


def resting_until(auth: AuthSpec, facts: CredentialFacts) -> datetime | None:
    """When the refresh token has to be used, lest it dies of inactivity: after four fifths of the time that it may
    rest, and up to a tenth of those earlier, by the same chance as in ``renew_at``."""
    inactivity = getattr(auth, "refresh_inactivity", None)
    if inactivity is None or not facts.refreshable:
        return None
    return facts.created_at + timedelta(seconds=inactivity * REST * (1 - _chance(facts.id) / 10))


def shortest_rest(auth: AuthSpec) -> timedelta | None:
    """No refresh token of that record has to be used sooner than this after it was."""
    inactivity = getattr(auth, "refresh_inactivity", None)
    return None if inactivity is None else timedelta(seconds=inactivity * REST * 0.9)


def _chance(credential_id: str) -> float:
    """From 0 to 1, by the credential: the same in every process."""
    return zlib.crc32(credential_id.encode()) / 2**32


def outcome(error: BaseException, auth: AuthSpec) -> Literal["backing_off", "unknown"]:
    """Whether an attempt that ended with ``error`` may have spent the refresh token (protocols, Refresh 3)."""
    return "unknown" if rotates(auth) and _may_have_renewed(error) else "backing_off"


def _may_have_renewed(error: BaseException) -> bool:
    if isinstance(error, TransportError):
        return error.sent
    if isinstance(error, ProviderUnavailable):
        return error.upstream_status not in ANSWERED
    return isinstance(error, TokenResponseInvalid) or not isinstance(error, ServicesError)


def pause(failed: int, error: BaseException, random: bytes) -> float:
    """Seconds to wait after the ``failed``-th failure: doubled each time, up to a limit; half of it is chance.

    A provider that names a longer time is obeyed, up to the same limit.
    """
    whole: float = min(FIRST_PAUSE * 2 ** min(failed - 1, 30), LONGEST_PAUSE)
    chosen = whole * (0.5 + int.from_bytes(random, "big") / (2 << 8 * len(random)))
    asked = error.retry_after if isinstance(error, RateLimited) else None
    return max(chosen, min(asked or 0.0, LONGEST_PAUSE))


def permit(history: RefreshHistory, auth: AuthSpec, *, connection_id: str, ended: bool) -> None:
    """Refuse a request for which it is not the time; ``ended`` says that the access token is of no use any more.

    Raises:
        RefreshUnknown: nobody knows whether the refresh token was spent, and the attempt to recover was made or waits.
        RefreshBackingOff: the last attempt failed a moment ago.
    """
    named = {"connection_id": connection_id}
    if rotates(auth) and history.unknown:
        if history.unknown > 1:
            raise RefreshUnknown(
                f"The tokens of connection {connection_id} were lost: two renewals ended without a readable answer.",
                hint="Connect it again.",
                metadata=named,
            )
        if not ended and history.unknown_age > _grace(auth):
            raise RefreshUnknown(
                f"The last renewal of connection {connection_id} ended without a readable answer.",
                hint="It is tried once more when the access token has ended; until then that is used.",
                metadata=named,
            )
    if history.retry_in > 0:
        raise RefreshBackingOff(
            f"The last renewal of connection {connection_id} failed; the next is tried in {history.retry_in:.0f} s.",
            metadata={**named, "retry_in": history.retry_in},
        )


def _grace(auth: AuthSpec) -> float:
    grace: float | None = getattr(auth, "rotation_grace", None)
    return grace if grace is not None and getattr(auth, "rotation", "") == "single-use-grace" else -1.0
