"""Connections for client certificates: a context and a pool for each, made when first used and closed when not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import aiohttp
from attrs import define, field

from go_services_core.http import ClientCertificate

from .guard import Pool
from .tls import Presented, Refused, present


@define(eq=False)
class Identity:
    """One client certificate: no other request goes over its sessions."""

    digest: bytes
    loading: asyncio.Future[Presented | Refused]
    sessions: dict[Pool, aiohttp.ClientSession] = field(factory=dict)
    users: int = 0
    """Requests that hold it; it is not closed under them."""
    idle_since: float = 0.0


class Identities:
    """The client certificates in use, by their digest: a renewed one is another one, and the old becomes idle.

    Those without a request are closed after ``idle`` seconds, and the longest unused one when there are more than
    ``limit``.
    """

    def __init__(self, *, limit: int, idle: float, ca_file: Path | None, now: Callable[[], datetime]) -> None:
        self._limit = limit
        self._idle = idle
        self._ca_file = ca_file
        self._now = now
        self._known: dict[bytes, Identity] = {}  # the longest unused first
        self._closing: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def hold(self, certificate: ClientCertificate) -> tuple[Identity, Presented]:
        """The identity for a request, to be given back with ``release``.

        Raises:
            SigningError: certificate, key or passphrase cannot be used, or the certificate is not valid now.
        """
        digest = certificate.digest
        identity = self._known.pop(digest, None)
        if identity is None:
            loading = asyncio.ensure_future(asyncio.to_thread(present, certificate, self._ca_file))
            identity = Identity(digest, loading)
        self._known[digest] = identity
        identity.users += 1
        try:
            loaded = await asyncio.shield(identity.loading)
            refused = loaded if isinstance(loaded, Refused) else _not_now(loaded, self._now())
            if refused is not None:
                raise refused.error()
            assert isinstance(loaded, Presented)
        except BaseException:
            if identity.loading.done() and self._known.get(digest) is identity:
                del self._known[digest]  # a failure is not kept: a file that was missing may be there again
            self.release(identity)
            raise
        return identity, loaded

    def release(self, identity: Identity) -> None:
        """Give back what ``hold`` gave."""
        identity.users -= 1
        if identity.users:
            return
        identity.idle_since = asyncio.get_running_loop().time()
        if self._known.get(identity.digest) is not identity:
            self._close(identity)
            return
        unused = [each for each in self._known.values() if not each.users]
        for each in unused[: max(0, len(self._known) - self._limit)]:
            self._close(each)
        self._wake()

    async def aclose(self) -> None:
        """Close every connection; idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        known = list(self._known.values())
        for identity in known:
            self._close(identity)
        await asyncio.gather(*self._closing, *(each.loading for each in known), return_exceptions=True)

    def _close(self, identity: Identity) -> None:
        self._known.pop(identity.digest, None)
        while identity.sessions:
            _, session = identity.sessions.popitem()
            self._keep(session.close())

    def _keep(self, closing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _wake(self) -> None:
        """See to it that the identity that becomes idle next is closed in time."""
        unused = [each.idle_since for each in self._known.values() if not each.users]
        if self._timer is None and unused and not self._closed:
            self._timer = asyncio.get_running_loop().call_at(min(unused) + self._idle, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        over = asyncio.get_running_loop().time() - self._idle
        for identity in [each for each in self._known.values() if not each.users and each.idle_since <= over]:
            self._close(identity)
        self._wake()


def _not_now(loaded: Presented, now: datetime) -> Refused | None:
    if now > loaded.validity.not_after:
        return Refused(
            f"The client certificate ended on {loaded.validity.not_after:%Y-%m-%d}.",
            "certificate",
            "Put the renewed certificate in its place.",
        )
    if now < loaded.validity.not_before:
        return Refused(
            f"The client certificate begins only on {loaded.validity.not_before:%Y-%m-%d}.",
            "certificate",
            "Check this machine's clock.",
        )
    return None
