"""What a store must do for the endpoints of outgoing webhooks. The docstrings are the contract."""

from __future__ import annotations

from typing import Protocol

from .endpoints import Admission, Endpoint, EndpointStatus
from .model import Event, Page, Scope


class EndpointFacet(Protocol):
    """Endpoints: versioned rows with compare-and-set, and their health, which has no version."""

    async def save(self, endpoint: Endpoint, *, expected_version: int | None, event: Event | None = None) -> Endpoint:
        """Keep a new endpoint (``expected_version=None``), or replace the row of that version; with ``event``.

        A new one is active. A replaced row keeps id, scope and ``created_at``; its status follows the moves of
        ``ENDPOINT_MOVES``. What becomes active that was not has no failures any more; in all else the health stays.

        Raises:
            VersionConflict: the row has another version, or the new one's id is there already.
            InvalidTransition: a new one is not active, or the row's status may not become this one.
            NotFound: there is none to replace.
        """
        ...

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint."""
        ...

    async def list(
        self,
        *,
        scope: Scope | None = None,
        hearing: Scope | None = None,
        status: EndpointStatus | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Endpoint]:
        """Endpoints by id, a page at a time.

        ``scope`` is the endpoint's own; ``hearing`` gives those that get events of a scope: its own and those of no
        scope, unless they are disabled.
        """
        ...

    async def remove(self, endpoint_id: str, *, event: Event | None = None) -> bool:
        """Delete the endpoint with its secrets, with ``event``; False, and no event, where there is none."""
        ...

    async def admit(self, endpoint_id: str, *, seconds: float) -> Admission:
        """Ask for leave to send a message, by the database's clock.

        While the circuit is open nobody gets it. Once its time is over, one caller does, and the others wait
        ``seconds`` more, or until it reports.
        """
        ...

    async def report(self, endpoint_id: str, *, failed: bool, threshold: int, pause: float) -> float:
        """Say how an attempt ended; gives the seconds for which all attempts have failed, 0 after a success.

        A success closes the circuit and ends the row of failures. From ``threshold`` failures in a row on, each one
        opens the circuit for ``pause`` seconds. Of an endpoint that was removed it does nothing and gives 0.
        """
        ...
