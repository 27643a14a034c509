"""Nonces for DPoP proofs: what a server offers, asks for, and was remembered of it (RFC 9449 §8 and §9)."""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import urlsplit

from ..errors import BadInput, ResponseInvalid
from ..http import HttpResponse

Role = Literal["authorization", "resource"]
"""What a server is to the client. One origin may be both, and its nonces for one are not those for the other (§9)."""
MOST: Final = 1024
"""Servers whose nonces are remembered; the one that was heard of least recently is forgotten first."""
_NONCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,512}")
"""RFC 9449 §8.1."""
_ERROR: Final = "use_dpop_nonce"


def offered_nonce(response: HttpResponse) -> str | None:
    """The nonce for the next request to the same server, which any answer may bring (RFC 9449 §8.2)."""
    nonce = response.header("DPoP-Nonce")
    return nonce if nonce is not None and _NONCE.fullmatch(nonce) else None


def wanted_nonce(response: HttpResponse) -> str | None:
    """The nonce without which the server refused the request: try again with it, once.

    The authorization server says so with 400 (or 401) and the error ``use_dpop_nonce`` (RFC 9449 §8), a resource with
    401 and a ``DPoP`` challenge of that error (§9). None when the answer is anything else.
    """
    nonce = offered_nonce(response)
    if nonce is None or response.status not in (400, 401):
        return None
    if any(name.lower() == "www-authenticate" and _ERROR in value for name, value in response.headers):
        return nonce
    try:
        said = response.json()
    except ResponseInvalid:
        return None
    return nonce if isinstance(said, dict) and said.get("error") == _ERROR else None


class DpopNonces:
    """The nonce that each server offered last, for the process; bounded."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._last: dict[tuple[Role, str], str] = {}

    def get(self, role: Role, url: str) -> str | None:
        """The nonce for a request to ``url``."""
        return self._last.get((role, _origin(url)))

    def learn(self, role: Role, url: str, response: HttpResponse) -> None:
        """Remember the nonce that an answer from ``url`` offers, if it does; good answers do it too (§8.2)."""
        nonce = offered_nonce(response)
        if nonce is not None:
            self._keep((role, _origin(url)), nonce)

    def give(self, role: Role, url: str, nonce: str) -> None:
        """Remember a nonce that somebody else was offered.

        Raises:
            BadInput: it holds what no nonce may hold (§8.1).
        """
        if not _NONCE.fullmatch(nonce):
            raise BadInput("A DPoP nonce has 1 to 512 printable characters (RFC 9449 §8.1).", field="nonce")
        self._keep((role, _origin(url)), nonce)

    def _keep(self, key: tuple[Role, str], nonce: str) -> None:
        self._last.pop(key, None)
        self._last[key] = nonce
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]

    def __len__(self) -> int:
        return len(self._last)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
