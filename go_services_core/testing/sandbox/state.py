"""What an authorization server remembers: consents, codes, grants and tokens, in memory."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

from attrs import define, field, frozen

from ...clock import Clock
from .refused import Refused

CODE_LIFETIME = 60.0
"""Seconds; RFC 6749 §4.1.2 allows ten minutes at most and asks for less."""
CONSENT_LIFETIME = 600.0
"""Seconds that the consent page may stay open."""


@frozen(kw_only=True)
class Account:
    """The person at the consent page."""

    id: str = "1001"
    login: str = "ada"
    name: str = "Ada Example"
    email: str = "ada@sandbox.example"


@frozen(kw_only=True)
class Consent:
    """An authorization request that was found valid."""

    redirect_uri: str
    state: str | None
    challenge: str
    scopes: tuple[str, ...]
    asked_at: float = 0.0


@define(eq=False, kw_only=True)
class Grant:
    """What one consent gave. All codes and tokens that descend from it are its family and end with it."""

    account: Account
    scopes: tuple[str, ...]
    revoked: bool = False


@define(eq=False, kw_only=True)
class Code:
    """An authorization code, bound to the redirect URI and the PKCE challenge of its request."""

    grant: Grant
    redirect_uri: str
    challenge: str
    expires_at: float
    used: bool = False


@define(eq=False, kw_only=True)
class AccessToken:
    """A bearer token."""

    grant: Grant
    scopes: tuple[str, ...]
    expires_at: float


@define(eq=False, kw_only=True)
class RefreshToken:
    """A refresh token; ``used_at`` is set once a successor was issued."""

    grant: Grant
    expires_at: float | None
    used_at: float | None = field(default=None)


class Ledger:
    """Issues, finds and ends codes and tokens. No method awaits, so each one is atomic on its loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._consents: dict[str, Consent] = {}
        self._codes: dict[str, Code] = {}
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, RefreshToken] = {}

    @property
    def now(self) -> float:
        """Unix time in seconds."""
        return self._clock.now().timestamp()

    def mint(self, prefix: str) -> str:
        """A new unguessable value."""
        return prefix + urlsafe_b64encode(self._clock.random(24)).decode()

    def issued(self) -> frozenset[str]:
        """Every code, access token and refresh token ever issued, in clear."""
        return frozenset((*self._codes, *self._access, *self._refresh))

    # --- consents and codes ----------------------------------------------------------------------------------------

    def keep_consent(self, consent: Consent) -> str:
        """Remember a request while its page is open; the key is what the page's form carries."""
        key = self.mint("sbx_consent_")
        self._consents[key] = consent
        return key

    def take_consent(self, key: str) -> Consent | None:
        """The request of that page, once; None when it is unknown, decided already, or too old."""
        consent = self._consents.pop(key, None)
        return consent if consent is not None and self.now < consent.asked_at + CONSENT_LIFETIME else None

    def issue_code(self, consent: Consent, account: Account, scopes: tuple[str, ...]) -> str:
        """A code that lives for ``CODE_LIFETIME`` seconds."""
        code = self.mint("sbx_code_")
        self._codes[code] = Code(
            grant=Grant(account=account, scopes=scopes),
            redirect_uri=consent.redirect_uri,
            challenge=consent.challenge,
            expires_at=self.now + CODE_LIFETIME,
        )
        return code

    def redeem(self, code: str, *, redirect_uri: str, verifier: str) -> Grant:
        """The grant behind a code. The first attempt spends the code, whether it succeeds or not.

        Raises:
            Refused: unknown, expired, or asked for with another redirect URI or verifier (RFC 7636 §4.6); or used
                before, which also ends every token that came from it (RFC 6749 §4.1.2).
        """
        known = self._codes.get(code)
        if known is None:
            raise Refused("invalid_grant", "The code is unknown.")
        if known.used:
            known.grant.revoked = True
            raise Refused("invalid_grant", "The code was used before; the tokens that came from it are revoked.")
        known.used = True
        if self.now >= known.expires_at:
            raise Refused("invalid_grant", "The code has expired.")
        if redirect_uri != known.redirect_uri:
            raise Refused("invalid_grant", "The redirect_uri is not that of the authorization request.")
        challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        if not hmac.compare_digest(challenge, known.challenge.encode()):
            raise Refused("invalid_grant", "The code_verifier does not fit the code_challenge.")
        return known.grant

    # --- tokens ----------------------------------------------------------------------------------------------------

    def issue_access(self, grant: Grant, scopes: tuple[str, ...], lifetime: float) -> str:
        """An access token for ``lifetime`` seconds."""
        token = self.mint("sbx_at_")
        self._access[token] = AccessToken(grant=grant, scopes=scopes, expires_at=self.now + lifetime)
        return token

    def issue_refresh(self, grant: Grant, lifetime: float | None) -> str:
        """A refresh token for ``lifetime`` seconds; None is for ever."""
        token = self.mint("sbx_rt_")
        expires_at = None if lifetime is None else self.now + lifetime
        self._refresh[token] = RefreshToken(grant=grant, expires_at=expires_at)
        return token

    def renew(
        self, token: str, *, asked: tuple[str, ...] | None, rotate: bool, grace: float
    ) -> tuple[Grant, list[str]]:
        """The grant behind a refresh token, and the scopes for the new access token.

        ``rotate`` spends the token. One that was spent more than ``grace`` seconds ago is proof of theft: its whole
        family ends (RFC 9700 §4.14.2).

        Raises:
            Refused: unknown, revoked, expired or spent token (``invalid_grant``); more scopes than granted
                (``invalid_scope``), which spends nothing.
        """
        known = self._refresh.get(token)
        if known is None:
            raise Refused("invalid_grant", "The refresh token is unknown.")
        if known.grant.revoked:
            raise Refused("invalid_grant", "The refresh token was revoked.")
        if known.used_at is not None and self.now >= known.used_at + grace:
            known.grant.revoked = True
            raise Refused("invalid_grant", "The refresh token was used before; its whole family is revoked.")
        if known.expires_at is not None and self.now >= known.expires_at:
            raise Refused("invalid_grant", "The refresh token has expired.")
        scopes = list(known.grant.scopes if asked is None else asked)
        if not set(scopes) <= set(known.grant.scopes):
            raise Refused("invalid_scope", "A refresh can narrow the scope, not widen it.")
        if rotate and known.used_at is None:
            known.used_at = self.now
        return known.grant, scopes

    def revoke(self, token: str) -> None:
        """End the family of an access or refresh token; nothing happens for an unknown one (RFC 7009 §2.2)."""
        known = self._access.get(token) or self._refresh.get(token)
        if known is not None:
            known.grant.revoked = True

    def find_access(self, token: str) -> AccessToken | None:
        """The access token, if it is known, not expired and not revoked."""
        known = self._access.get(token)
        return known if known is not None and not known.grant.revoked and self.now < known.expires_at else None

    def expire_access_tokens(self) -> None:
        """Every access token issued so far is expired from now on; refresh tokens stay."""
        for known in self._access.values():
            known.expires_at = min(known.expires_at, self.now)
