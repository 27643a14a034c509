"""Key sets of issuers (RFC 7517 §5): fetched through the guarded transport, kept in this process."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import Factory, define, frozen

from ..errors import EgressDenied, MetadataInvalid, ProviderUnavailable, RateLimited, ResponseInvalid, ServicesError
from ..http import USER_AGENT, HttpRequest, HttpResponse
from ..retry_after import retry_after

if TYPE_CHECKING:
    from .core import Core

logger = logging.getLogger("go_services.runtime")

LIFETIME: Final = 3600.0
"""Seconds that a key set is used where the issuer does not say."""
SHORTEST: Final = 300.0
LONGEST: Final = 86400.0
"""Seconds, whatever the issuer says in ``max-age``."""
STALE: Final = 86400.0
"""Seconds that a key set is used beyond its time while the issuer does not give another."""
PAUSE: Final = 60.0
"""Seconds between two fetches because a key was missing, and before a failing issuer is asked again while its former
keys are used: whoever sends tokens must not decide how often an issuer is asked."""
TIMEOUT: Final = 5.0
"""Seconds; a renewal waits for it before its own request."""
MOST: Final = 1 << 20
"""Bytes."""
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


@frozen
class KeySet:
    """A document, and by the monotonic clock until when it is used."""

    document: Mapping[str, Any]
    until: float
    stale_until: float


@define
class KeySets:
    """What is known of key sets, by URL."""

    known: dict[str, KeySet] = Factory(dict)
    fetched_again: dict[str, float] = Factory(dict)
    """When each was last fetched because it lacked a key."""
    flights: dict[str, asyncio.Task[KeySet]] = Factory(dict)


async def key_set(core: Core, url: str, *, again: bool, provider_id: str) -> Mapping[str, Any]:
    """The key set at ``url``; ``again`` says that the one it gave lacks a key.

    One that is over its time is used for up to a day more while the issuer cannot be asked.

    Raises:
        MetadataInvalid: there is no key set.
        RateLimited, ProviderUnavailable, TransportError: the issuer cannot be asked.
    """
    sets, now = core.key_sets, core.clock.monotonic()
    found = sets.known.get(url)
    if again:
        last = sets.fetched_again.get(url)
        if found is not None and last is not None and now < last + PAUSE:
            return found.document
        sets.fetched_again[url] = now
    elif found is not None and now < found.until:
        return found.document
    try:
        return (await asyncio.shield(_flight(core, url, provider_id))).document
    except EgressDenied:
        raise
    except ServicesError as error:
        if again or found is None or now >= found.stale_until:
            raise
        logger.warning("the key set at %s cannot be fetched, the former one is used: %s", url, error.message)
        sets.known[url] = KeySet(found.document, now + PAUSE, found.stale_until)
        return found.document


def _flight(core: Core, url: str, provider_id: str) -> asyncio.Task[KeySet]:
    """The running fetch of a URL, or a new one. It belongs to the runtime: who waits may be cancelled."""
    flights = core.key_sets.flights
    running = flights.get(url)
    if running is not None:
        return running
    task = flights[url] = asyncio.create_task(_fetch(core, url, provider_id), name=f"key set {url}")
    core.tasks.add(task)
    task.add_done_callback(lambda done: _landed(core, url, done))
    return task


def _landed(core: Core, url: str, task: asyncio.Task[KeySet]) -> None:
    core.tasks.discard(task)
    del core.key_sets.flights[url]
    if not task.cancelled() and task.exception() is None:
        core.key_sets.known[url] = task.result()


async def _fetch(core: Core, url: str, provider_id: str) -> KeySet:
    headers = (("Accept", "application/jwk-set+json, application/json"), USER_AGENT)
    request = HttpRequest("GET", url, headers, timeout=TIMEOUT, max_body=MOST)
    response = await core.transport.send(request, provider_id=provider_id)
    if response.status == 429:
        wait = retry_after(response, core.clock.now())
        raise RateLimited("The issuer asks to wait before its keys are read.", upstream_status=429, retry_after=wait)
    if response.status >= 500:
        raise ProviderUnavailable(
            f"The issuer fails to give its keys (status {response.status}).", upstream_status=response.status
        )
    try:
        document = response.json() if response.status == 200 else None
    except ResponseInvalid:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise MetadataInvalid(
            f"There is no key set (RFC 7517 §5) at {url} (status {response.status}).",
            hint="Is jwks_url the issuer's jwks_uri?",
            field="jwks_url",
            metadata={"provider_id": provider_id},
        )
    until = core.clock.monotonic() + _lifetime(response)
    return KeySet(document, until, until + STALE)


def _lifetime(response: HttpResponse) -> float:
    said = _MAX_AGE.search(response.header("cache-control") or "")
    return LIFETIME if said is None else min(max(float(said[1]), SHORTEST), LONGEST)
