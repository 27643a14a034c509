"""What a transport with an egress guard may say of a URL before anything is sent to it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class EgressGuarded(Protocol):
    """A transport that can say at once what its guard would refuse; one that cannot leaves ``check_url`` out."""

    def check_url(self, url: str, *, provider_id: str) -> None:
        """Refuse what the URL alone shows to be out of bounds. No name is looked up: each request is checked besides.

        Raises:
            EgressDenied: its scheme, address or name is not one that the provider may reach.
        """
        ...
