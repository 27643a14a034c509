"""How long connections go on working by themselves: what ends, what is renewed, and who has to consent again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ..auth_specs import AuthSpec
from ..errors import BadInput, ConfigError, ProviderNotFound
from ..model import Page, Scope
from ..outlook import ConnectionHealth, CredentialFacts, Outlook, Verdict
from ..refreshes import RefreshHistory
from . import refresh_rules
from .core import Core
from .known_names import check as check_names

WITHIN: Final = timedelta(days=7)
_CONNECT_AGAIN: Final = "Connect it again."


async def health(core: Core, connection_id: str, *, within: timedelta) -> ConnectionHealth:
    """Of one connection; see ``Runtime.connection_health``."""
    facet = core.store.connections
    connection, row = await facet.load(connection_id)
    history = RefreshHistory()
    if row is not None and connection.refresh_state != "ok":
        history = await facet.refresh_history(connection_id, row.version)
    facts = None if row is None else CredentialFacts.of(row)
    return _judged(core, Outlook(connection=connection, credential=facts, history=history), _checked(within))


async def page(
    core: Core, *, provider_id: str | None, scope: Scope | None, within: timedelta, after: str | None, limit: int
) -> Page[ConnectionHealth]:
    """Of many; see ``Runtime.connections_health``."""
    within = _checked(within)
    found = await core.store.connections.outlooks(provider_id=provider_id, scope=scope, after=after, limit=limit)
    if not found.items:
        await check_names(core, provider_id=provider_id)
    return Page(tuple(_judged(core, outlook, within) for outlook in found.items), found.next)


def _checked(within: timedelta) -> timedelta:
    if within < timedelta(0):
        raise BadInput("The time to look ahead is not below 0.", field="within")
    return within


def _judged(core: Core, outlook: Outlook, within: timedelta) -> ConnectionHealth:
    connection = outlook.connection
    try:
        auth = core.instance(connection.provider_id).auth(connection.auth_kind)
    except (ProviderNotFound, ConfigError, BadInput) as unusable:
        return _Judge(None, outlook, core.clock.now(), within).health("action needed", unusable.message)
    return _Judge(auth, outlook, core.clock.now(), within).judged()


class _Judge:
    """What is known of one connection at one moment."""

    def __init__(self, auth: AuthSpec | None, outlook: Outlook, now: datetime, within: timedelta) -> None:
        self.outlook, self.now, self.horizon = outlook, now, now + within
        self.auth = auth
        self.facts = facts = outlook.credential if outlook.connection.status == "active" else None
        self.token_ends = facts.expires_at if facts is not None else None
        self.fixed_end, self.rest_ends = _ends(auth, facts)
        self.retry_at = now + timedelta(seconds=outlook.history.retry_in) if outlook.history.retry_in > 0 else None
        self.is_lost = (
            auth is not None
            and refresh_rules.rotates(auth)
            and outlook.connection.refresh_state == "unknown"
            and outlook.history.unknown > 1
        )
        self.next_renewal = None if self.is_lost else _next_renewal(auth, facts)

    def health(self, verdict: Verdict, advice: str = "") -> ConnectionHealth:
        return ConnectionHealth(
            connection=self.outlook.connection,
            verdict=verdict,
            advice=advice,
            token_ends=self.token_ends,
            refresh_ends=min((end for end in (self.fixed_end, self.rest_ends) if end is not None), default=None),
            next_renewal=self.next_renewal,
            retry_at=self.retry_at,
        )

    def judged(self) -> ConnectionHealth:
        broken = self._what_is_broken()
        if broken:
            return self.health("action needed", broken)
        ends = self._when_somebody_has_to_consent()
        if ends is not None and ends <= self.horizon:
            return self.health("reauth soon", f"Connect it again before {ends:%Y-%m-%d %H:%M} UTC.")
        state = self.outlook.connection.refresh_state
        if state == "backing_off":
            return self.health("renew soon", "Its last renewal failed, and is tried again by itself.")
        if state == "unknown":
            return self.health("renew soon", "Its last renewal ended without an answer; one more is tried by itself.")
        if self.next_renewal is not None and self.next_renewal <= self.now:
            return self.health("renew soon", "Its renewal is due; `run_due` of refresh.ahead or the next call does it.")
        return self.health("ok")

    def _what_is_broken(self) -> str:
        connection, facts = self.outlook.connection, self.facts
        if connection.status != "active":
            why = f" It was ended: {connection.last_error}" if connection.last_error else ""
            return _CONNECT_AGAIN + why
        if facts is None:
            return _CONNECT_AGAIN
        if connection.secret_state != "ok":
            return "Its credential cannot be opened; look at `go-services secrets status`."
        if self.is_lost:
            return f"{_CONNECT_AGAIN} Its tokens were lost: two renewals ended without a readable answer."
        ended = self.token_ends is not None and self.token_ends <= self.now
        if ended and not facts.refreshable:
            return f"{_CONNECT_AGAIN} Its token has ended and cannot be renewed."
        over = [end for end in (self.fixed_end, self.rest_ends) if end is not None and end <= self.now]
        if over and facts.refreshable:
            return f"{_CONNECT_AGAIN} Its refresh token has ended."
        return ""

    def _when_somebody_has_to_consent(self) -> datetime | None:
        assert self.facts is not None
        return self.fixed_end if self.facts.refreshable else self.token_ends


def _ends(auth: AuthSpec | None, facts: CredentialFacts | None) -> tuple[datetime | None, datetime | None]:
    """When the refresh token ends whatever happens, and when it ends unless it is used before."""
    if facts is None or not facts.refreshable:
        return None, None
    lifetime, inactivity = getattr(auth, "refresh_lifetime", None), getattr(auth, "refresh_inactivity", None)
    fixed, resting = facts.refresh_expires_at, None
    if fixed is None and lifetime is not None:
        fixed = facts.created_at + timedelta(seconds=lifetime)
    if inactivity is not None:
        resting = facts.created_at + timedelta(seconds=inactivity)
    return fixed, resting


def _next_renewal(auth: AuthSpec | None, facts: CredentialFacts | None) -> datetime | None:
    if auth is None or facts is None:
        return None
    times = (refresh_rules.ending_at(auth, facts), refresh_rules.resting_until(auth, facts))
    return min((time for time in times if time is not None), default=None)
