"""Calls of the server from threads: a client each, a token, repetitions and a time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from go_services_core.errors import BackendUnavailable
from go_services_core.protocols import PluginEnv

from .failures import TRANSIENT, Refused, unavailable
from .login import Login
from .settings import VaultSettings

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")
PAUSE: Final = 0.1
"""Seconds before the first repetition, doubled for each further one and then shortened by up to a half at random."""


class Session:
    """Everything here blocks. Clients that are not in use wait, connected, for the next call of any thread."""

    def __init__(self, settings: VaultSettings, env: PluginEnv) -> None:
        self._settings = settings
        self._random = env.clock.random
        self._login = Login(settings, env)
        self._idle: list[Client] = []
        self._closed = threading.Event()

    def call(self, do: Callable[[Client], T], repeat: bool = True) -> T:
        """``do`` with a client that has a token.

        An answer of 403 leads to one login, if the token has died, and one repetition. ``repeat`` allows more after an
        outage.

        Raises:
            Refused: the server's error.
            KeyDenied, ConfigError: the login is refused, or lacks something.
            BackendUnavailable: the server does not answer, or the session is closed.
        """
        deadline = time.monotonic() + self._settings.timeout
        client = self._borrow()
        try:
            attempt = 1
            while True:
                try:
                    return self._authenticated(client, do, deadline)
                except BackendUnavailable as error:
                    pause = PAUSE * 2 ** (attempt - 1) * (1 - self._random(1)[0] / 512)
                    late = time.monotonic() + pause >= deadline
                    reason = error.metadata.get("reason")
                    if not repeat or reason not in TRANSIENT or late or attempt >= self._settings.max_attempts:
                        raise
                attempt += 1
                if self._closed.wait(pause):
                    raise unavailable("closed")
        finally:
            self._give_back(client)

    def keep(self) -> None:
        """Renew the token if that is due.

        Raises:
            KeyDenied, ConfigError, BackendUnavailable: as ``call``.
        """
        client = self._borrow()
        try:
            self._login.token(client, time.monotonic() + self._settings.timeout)
        finally:
            self._give_back(client)

    def due_in(self) -> float | None:
        """Seconds until ``keep`` has something to do; None when it will have nothing."""
        return self._login.due_in()

    def close(self) -> None:
        """Close the connections, those in use after their call; idempotent."""
        self._closed.set()
        while self._idle:
            self._idle.pop().close()

    def _authenticated(self, client: Client, do: Callable[[Client], T], deadline: float) -> T:
        token = self._login.token(client, deadline)
        try:
            return client.call(do, token=token, deadline=deadline)
        except Refused as refused:
            if refused.status != 403:
                raise
            other = self._login.again(client, deadline, token)
            if other is None:
                raise
        return client.call(do, token=other, deadline=deadline)

    def _borrow(self) -> Client:
        from .client import Client  # imports hvac and requests, which takes a while: here, off the loop

        if self._closed.is_set():
            raise unavailable("closed")
        try:
            return self._idle.pop()
        except IndexError:
            return Client(self._settings)

    def _give_back(self, client: Client) -> None:
        self._idle.append(client)
        if self._closed.is_set():
            self.close()
