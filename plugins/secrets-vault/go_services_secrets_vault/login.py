"""Having a token: logging in, renewing at two thirds of its life, and logging in again when it has died.

Everything here blocks and may be called from many threads: one of them logs in, the others wait for its token. Vendor
pages: https://openbao.org/docs/concepts/tokens/, https://openbao.org/docs/auth/approle/,
https://openbao.org/docs/auth/kubernetes/.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, frozen

from go_services_core.config.secrets import SourcedSecret
from go_services_core.errors import BackendUnavailable, ConfigError, KeyDenied, ServicesError
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr

from .failures import Refused, unavailable
from .settings import PLUGIN, VaultSettings, usable

if TYPE_CHECKING:
    from .client import Client

RENEW_AT: Final = 2 / 3
"""Part of its life after which a token is renewed, or replaced by a login."""
REFUSED_FOR: Final = 1.0
"""Seconds for which a refused login answers everybody."""
AGAIN_AFTER: Final = 5.0
"""Seconds between two logins that answers of 403 cause: a policy that forbids something must cause no storm of them."""
LATER: Final = 1 / 4
"""Part of what is left of a token's life after which a renewal that failed is tried again."""


@frozen(kw_only=True)
class Token:
    """A token, and when it needs something: by the clock's ``monotonic``."""

    value: SecretStr
    life: float = 0.0
    """Seconds that it was given; 0 when it does not end."""
    renewable: bool = False
    due: float = math.inf
    ends: float = math.inf


class Login:
    """Keeps one token for all threads. ``deadline`` is everywhere until when a call may take, by ``time.monotonic``."""

    def __init__(self, settings: VaultSettings, env: PluginEnv) -> None:
        self._settings = settings
        self._resolve = env.resolve_secret
        self._logger = env.logger
        self._now = env.clock.monotonic
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._refused_until = -math.inf
        self._again_from = -math.inf

    def token(self, client: Client, deadline: float) -> SecretStr:
        """A token that lives; logs in or renews first where that is due.

        Raises:
            KeyDenied: the server refuses the login.
            ConfigError: the service account's token cannot be read.
            BackendUnavailable: the server does not answer.
        """
        token = self._token
        if token is not None and self._now() < token.due:
            return token.value
        with self._turn(deadline):
            token = self._token
            if token is None or self._now() >= token.ends:
                token = self._log_in(client, deadline)
            elif self._now() >= token.due:
                token = self._prolong(client, deadline, token)
            self._token = token
            return token.value

    def again(self, client: Client, deadline: float, refused: SecretStr) -> SecretStr | None:
        """Another token in the place of one that was answered with 403; None when another would not help.

        Raises:
            KeyDenied, ConfigError, BackendUnavailable: as ``token``.
        """
        with self._turn(deadline):
            if self._token is not None and self._token.value != refused:
                return self._token.value
            if self._now() < self._again_from:
                return None
            try:
                client.call(lambda at: at.look_up_token(), token=refused, deadline=deadline)
                return None  # it lives: a policy forbids what was asked
            except Refused:
                self._again_from = self._now() + AGAIN_AFTER
            self._token = self._log_in(client, deadline)
            return self._token.value if self._token.value != refused else None

    def due_in(self) -> float | None:
        """Seconds until the token should be renewed; None when there is none that will be."""
        token, now = self._token, self._now()
        if token is None or token.due == math.inf or now >= token.ends:
            return None
        return max(0.0, token.due - now)

    @contextmanager
    def _turn(self, deadline: float) -> Generator[None]:
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise unavailable("timeout")
        try:
            yield
        finally:
            self._lock.release()

    def _log_in(self, client: Client, deadline: float) -> Token:
        settings = self._settings
        if settings.auth == "token":
            return self._given(client, deadline)
        if self._now() < self._refused_until:
            raise self._denied()
        try:
            if settings.auth == "approle":
                role_id, secret_id = settings.role_id or "", self._read("secret_id", settings.secret_id)
                auth = client.call(
                    lambda at: at.login_approle(settings.login_mount, role_id, secret_id), token=None, deadline=deadline
                )
            else:
                role, jwt = settings.role or "", self._service_account()
                auth = client.call(
                    lambda at: at.login_kubernetes(settings.login_mount, role, jwt), token=None, deadline=deadline
                )
        except Refused:
            self._refused_until = self._now() + REFUSED_FOR
            raise self._denied() from None
        return self._made(SecretStr(str(auth.get("client_token"))), auth, "lease_duration")

    def _given(self, client: Client, deadline: float) -> Token:
        """The token of the settings, as its source has it now, with what the server says of its life."""
        value = self._read("token", self._settings.token)
        try:
            known = client.call(lambda at: at.look_up_token(), token=value, deadline=deadline)
        except Refused:  # its policy does not let it look at itself, or it has ended: the call itself will tell
            return Token(value=value)
        return self._made(value, known, "ttl")

    def _prolong(self, client: Client, deadline: float, token: Token) -> Token:
        """Renew, or log in anew where that does not make the life longer; keep the token while neither can be had."""
        try:
            renewed = self._renewed(client, deadline, token)
            if renewed is not None:
                return renewed
            if self._settings.auth != "token":
                return self._log_in(client, deadline)
        except (BackendUnavailable, KeyDenied):
            left = token.ends - self._now()
            if left <= 0:
                raise
            return evolve(token, due=self._now() + max(1.0, left * LATER))
        self._ending(token)
        return evolve(token, renewable=False, due=token.ends)

    def _renewed(self, client: Client, deadline: float, token: Token) -> Token | None:
        if not token.renewable:
            return None
        try:
            auth = client.call(lambda at: at.renew_token(), token=token.value, deadline=deadline)
        except Refused:
            return None
        # Near its longest life (max_ttl) the answer gives what is left of that, in whole seconds: perhaps 0.
        renewed = self._made(token.value, auth, "lease_duration")
        return renewed if renewed.life > token.life * RENEW_AT else None

    def _made(self, value: SecretStr, answer: Mapping[str, Any], life: str) -> Token:
        try:
            seconds, renewable = float(answer[life]), bool(answer.get("renewable"))
        except (KeyError, TypeError, ValueError):
            raise unavailable("answer") from None
        if seconds <= 0:
            return Token(value=value)  # it does not end
        now = self._now()
        token = Token(value=value, life=seconds, renewable=renewable, due=now + seconds * RENEW_AT, ends=now + seconds)
        if self._settings.auth == "token" and not renewable:
            self._ending(token)
            return evolve(token, due=token.ends)
        return token

    def _ending(self, token: Token) -> None:
        self._logger.warning(
            "The token of secrets.vault.token ends in %.0f seconds and cannot be renewed: give another one, "
            'or use auth = "approle" or "kubernetes".',
            token.ends - self._now(),
        )

    def _read(self, name: str, secret: SecretStr | None) -> SecretStr:
        if isinstance(secret, SourcedSecret):
            secret.read(again=True)
        return usable(secret or SecretStr(""), name)

    def _service_account(self) -> SecretStr:
        try:
            return self._read("jwt", self._resolve(self._settings.jwt))
        except ServicesError as error:
            if error.field == "secrets.vault.jwt":
                raise
            raise ConfigError(
                f"secrets.vault.jwt: {error.message}", hint=error.hint, plugin=PLUGIN, field="secrets.vault.jwt"
            ) from None

    def _denied(self) -> KeyDenied:
        needs = "role_id and secret_id" if self._settings.auth == "approle" else "role and the service account"
        return KeyDenied(
            f"Vault refuses the login of auth = {self._settings.auth!r}.",
            hint=f"Look at {needs} in secrets.vault, and at auth_mount ({self._settings.login_mount}) and namespace.",
            plugin=PLUGIN,
            field="secrets.vault.auth",
        )
