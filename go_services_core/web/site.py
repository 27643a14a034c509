"""What a face serves and how: its routes, its limits, and what only the application knows."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from ..errors import BadInput, nearest
from ..model import Observation, Scope
from ..runtime.inbound import MAX_BODY
from .readiness import Readiness

Route: TypeAlias = Literal["connect", "callback", "webhooks", "surfaces", "health", "metrics", "status"]
ScopeOf: TypeAlias = Callable[[Any], Scope | Awaitable[Scope | None] | None]
PUBLIC: Final[tuple[Route, ...]] = ("connect", "callback", "webhooks", "surfaces", "health")
"""What providers, browsers and load balancers ask for."""
INTERNAL: Final[tuple[Route, ...]] = ("health", "metrics", "status")
"""What operators ask for: not for the public."""
FAILURES: Final = 20
_ORIGIN: Final = re.compile(r"https?://[^/?#@\s]+")


def _routes(value: Iterable[str]) -> frozenset[str]:
    known = get_args(Route)
    chosen = frozenset((value,) if isinstance(value, str) else value)
    for name in sorted(chosen.difference(known)):
        near = nearest(name, known)
        hint = f"Did you mean {near!r}?" if near else f"There are {', '.join(known)}."
        raise BadInput(f"There is no route {name!r}.", hint=hint, field="routes")
    return chosen


def _public_url(record: object, attribute: Any, value: str | None) -> None:
    if value is None:
        return
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in value:
        raise BadInput(
            f"The public URL is one such as https://app.example/integrations, not {value!r}.", field="public_url"
        )


def _origins(record: object, attribute: Any, value: tuple[str, ...]) -> None:
    for origin in value:
        if not _ORIGIN.fullmatch(origin):
            raise BadInput(f"An origin is one such as https://app.example, not {origin!r}.", field="trusted_origins")


def _positive(record: object, attribute: Any, value: float) -> None:
    if not 0 < value < float("inf"):
        raise BadInput(f"{attribute.name} must be above 0, not {value!r}.", field=attribute.name)


class Failures:
    """The newest failures of this process: an observer."""

    def __init__(self) -> None:
        self.newest: deque[Observation] = deque(maxlen=FAILURES)

    def __call__(self, event: Observation) -> None:
        if not event.ok and event.phase == "end":
            self.newest.append(event)


@frozen(kw_only=True)
class Site:
    """The options of every face.

    Raises:
        BadInput: an option cannot be used; it names the option.
    """

    routes: frozenset[str] = field(default=PUBLIC, converter=_routes)
    """Which of the routes there are; ``metrics`` and ``status`` are there only where they are named."""
    scope_of: ScopeOf | None = None
    """Whose connection a consent will be: gets the framework's own request; None when nobody is signed in. Without it
    there is no route to begin a consent."""
    public_url: str | None = field(default=None, validator=_public_url)
    """The URL of the place where the face is mounted, as browsers and providers see it. Needed behind a proxy: no
    ``Forwarded`` or ``X-Forwarded-…`` header is believed."""
    trusted_origins: tuple[str, ...] = field(default=(), converter=tuple, validator=_origins)
    """Other origins whose pages may begin a consent, such as that of a front end."""
    body_limit: int = field(default=MAX_BODY, validator=_positive)
    """Bytes of a request's body."""
    body_seconds: float = field(default=30.0, validator=_positive)
    """Seconds in which a body must have come."""
    readiness: Readiness = field(factory=Readiness, init=False, eq=False, repr=False)
    failures: Failures = field(factory=Failures, init=False, eq=False, repr=False)

    def for_scope(self, scope: Scope | None) -> Site:
        """The same for one request, of which it is known already whose connection it will be."""
        return evolve(self, scope_of=lambda _: scope)
