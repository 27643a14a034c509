"""KMS off the loop: own threads, a time limit over everything, and the next Region while one does not answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from attrs import frozen

from go_services_core.clock import Clock
from go_services_core.errors import BackendUnavailable, KeyNotFound, ServicesError

from . import failures
from .aws import Endpoint, Session, ask, attempt
from .settings import KmsSettings

REST: Final = 30.0
"""Seconds for which an endpoint that did not answer is asked last."""
_FIELDS: Final = {
    "generate_data_key": ("KeyId", "Plaintext", "CiphertextBlob"),
    "encrypt": ("KeyId", "CiphertextBlob"),
    "decrypt": ("Plaintext",),
    "re_encrypt": ("KeyId", "CiphertextBlob"),
    "describe_key": ("KeyMetadata",),
    "rotate_key_on_demand": ("KeyId",),
}
"""What the answer to each operation must hold."""
Arguments = Callable[[str, bool], Mapping[str, Any] | None]
"""Arguments for the endpoint of a Region, and whether that is the first one; None when it cannot serve this."""


@frozen(kw_only=True)
class Answer:
    """What one endpoint answered."""

    fields: Mapping[str, Any]
    region: str
    home: bool
    """Whether it is the first endpoint."""


class Endpoints:
    """The endpoints of the settings, the first Region's first."""

    def __init__(self, settings: KmsSettings, clock: Clock) -> None:
        further = (entry.partition("=") for entry in settings.endpoints)
        self._endpoints = (
            Endpoint(settings.home_region, settings.endpoint_url),
            *(Endpoint(region, url or None) for region, _, url in further),
        )
        self._session = Session(settings)
        self._timeout = settings.timeout
        self._clock = clock
        self._resting: dict[Endpoint, float] = {}
        self._clients: dict[Endpoint, Any] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._threads = ThreadPoolExecutor(settings.max_concurrency, thread_name_prefix="go-services-kms")

    async def call(self, operation: str, arguments: Arguments, *, subject: str) -> Answer:
        """The answer of the first endpoint that gives one.

        A caller that is cancelled, or whose time is over, does not end the call itself: its thread goes on until
        boto3 gives up, and what it brings is dropped.

        Args:
            operation: as boto3 calls it, such as ``generate_data_key``.
            arguments: its arguments for one endpoint; called in a thread.
            subject: the key, for messages.

        Raises:
            ServicesError: the typed error of :mod:`.failures`. Only BackendUnavailable makes the next endpoint asked.
            KeyNotFound: no endpoint is in the key's Region; ``metadata["reason"]`` is ``region``.
        """
        if self._closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        now = self._clock.monotonic()
        order = sorted(self._endpoints, key=lambda endpoint: self._resting.get(endpoint, now) > now)
        failure: ServicesError | None = None
        for at, endpoint in enumerate(order):
            share = max(0.0, deadline - loop.time()) / (len(order) - at)
            running = loop.run_in_executor(
                self._threads, partial(self._ask, endpoint, operation, arguments, subject=subject)
            )
            outcome: Answer | ServicesError | None
            try:
                outcome = await asyncio.wait_for(running, share)
            except TimeoutError:
                outcome = failures.unavailable(
                    f"AWS did not answer {operation} within {share:.3g} s.", "timeout", {"region": endpoint.region}
                )
            if isinstance(outcome, Answer):
                self._resting.pop(endpoint, None)
                return outcome
            if outcome is not None and not isinstance(outcome, BackendUnavailable):
                raise outcome
            if outcome is not None:
                self._resting[endpoint] = self._clock.monotonic() + REST
                failure = outcome
        if failure is not None:
            raise failure
        raise KeyNotFound(
            f"No endpoint of secrets.kms is in the Region of {subject}.",
            hint="Add its Region to secrets.kms.endpoints.",
            plugin=failures.PLUGIN,
            field="secrets.kms.endpoints",
            metadata={"reason": "region"},
        )

    async def aclose(self) -> None:
        """Close the connections; what still runs is not waited for. Idempotent."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            clients = list(self._clients.values())
            self._clients.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in clients:
            client.close()

    def _ask(
        self, endpoint: Endpoint, operation: str, arguments: Arguments, *, subject: str
    ) -> Answer | ServicesError | None:
        home = endpoint is self._endpoints[0]

        def work() -> Answer | None:
            client = self._client(endpoint)
            region = str(client.meta.region_name)
            given = arguments(region, home)
            if given is None:
                return None
            fields = ask(client, operation, given)
            if any(name not in fields for name in _FIELDS[operation]):
                raise failures.unavailable(f"What answered {operation} is not KMS.", "answer", {"region": region})
            return Answer(fields=fields, region=region, home=home)

        return attempt(work, subject=subject, region=endpoint.region)

    def _client(self, endpoint: Endpoint) -> Any:
        with self._lock:
            if self._closed:
                raise _closed()
            if endpoint not in self._clients:
                self._clients[endpoint] = self._session.client("kms", endpoint)
            return self._clients[endpoint]


def _closed() -> BackendUnavailable:
    return BackendUnavailable("The secret backend 'kms' is closed.", plugin=failures.PLUGIN)
