"""The endpoints of outgoing webhooks: adding, changing and ending them, and the secrets that sign for them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from attrs import evolve, frozen

from ..clock import uuid7
from ..egress import EgressGuarded
from ..endpoints import ENDPOINT_PROVIDER, Endpoint, NewEndpoint
from ..errors import BadInput, FacetMissing, NotFound, VersionConflict
from ..hosts import DEFAULT_PORTS, PLAIN_URL
from ..lifecycle import NOBODY, event
from ..model import Event, Scope
from ..secret import SecretStr
from ..webhooks.standard import new_secret, sign
from . import bindings
from .core import Core

if TYPE_CHECKING:
    from ..endpoint_facet import EndpointFacet
    from ..model import Sealed

_LONGEST_URL: Final = 2048
_MOST_PATTERNS: Final = 100
_RACES: Final = 16
"""How often a change begins anew because another one came first."""


@frozen
class SigningSecret:
    """One secret of an endpoint."""

    secret: SecretStr
    until: datetime | None = None
    """When it stops signing; None for the newest."""


def facet(core: Core) -> EndpointFacet:
    """The store's facet.

    Raises:
        FacetMissing: it has none.
    """
    found: EndpointFacet | None = getattr(core.store, "endpoints", None)
    if found is None:
        raise FacetMissing("The store has no facet endpoints, which outgoing webhooks need.")
    return found


async def new(
    core: Core,
    url: str,
    *,
    scope: Scope | None,
    events: tuple[str, ...],
    description: str,
    ordered: bool,
    secret: SecretStr | None,
) -> NewEndpoint:
    """A new endpoint, checked and not kept yet; see ``Runtime.add_endpoint``."""
    now, id = core.clock.now(), uuid7(core.clock)
    given = secret if secret is not None else new_secret(core.clock.random)
    _check_secret(core, given)
    endpoint = Endpoint(
        id=id,
        url=checked_url(core, url),
        scope=scope,
        events=_checked_events(events),
        description=description,
        ordered=ordered,
        secrets=await _sealed(core, id, scope, (SigningSecret(given),)),
        created_at=now,
        updated_at=now,
    )
    return NewEndpoint(endpoint=endpoint, secret=given)


async def add(core: Core, made: NewEndpoint) -> NewEndpoint:
    """Keep it."""
    told = event_of(core, made.endpoint, "created")
    return evolve(made, endpoint=await facet(core).save(made.endpoint, expected_version=None, event=told))


async def get(core: Core, endpoint_id: str) -> Endpoint:
    """The endpoint.

    Raises:
        NotFound: there is none.
    """
    found = await facet(core).get(endpoint_id)
    if found is None:
        raise NotFound(f"There is no endpoint {endpoint_id!r}.", metadata={"id": endpoint_id})
    return found


async def update(
    core: Core,
    endpoint_id: str,
    *,
    url: str | None,
    events: tuple[str, ...] | None,
    description: str | None,
    ordered: bool | None,
) -> Endpoint:
    """Change what is given; see ``Runtime.update_endpoint``."""
    changes: dict[str, Any] = {}
    if url is not None:
        changes["url"] = checked_url(core, url)
    if events is not None:
        changes["events"] = _checked_events(events)
    if description is not None:
        changes["description"] = description
    if ordered is not None:
        changes["ordered"] = ordered

    async def revised(found: Endpoint) -> Endpoint:
        return evolve(found, **changes)

    return await _change(core, endpoint_id, revised, "updated")


async def pause(core: Core, endpoint_id: str, *, reason: str) -> Endpoint:
    """Let its messages wait."""

    async def revised(found: Endpoint) -> Endpoint:
        return evolve(found, status="paused", status_reason=reason) if found.status != "paused" else found

    return await _change(core, endpoint_id, revised, "paused", reason=reason)


async def resume(core: Core, endpoint_id: str) -> Endpoint:
    """Send again."""

    async def revised(found: Endpoint) -> Endpoint:
        return evolve(found, status="active", status_reason="")

    return await _change(core, endpoint_id, revised, "resumed")


async def disable(core: Core, endpoint_id: str, *, reason: str) -> Endpoint:
    """Send nothing any more, until somebody resumes it; a message that was being sent meanwhile may say so as well."""

    async def revised(found: Endpoint) -> Endpoint:
        return evolve(found, status="disabled", status_reason=reason) if found.status != "disabled" else found

    return await _change(core, endpoint_id, revised, "disabled", reason=reason)


async def remove(core: Core, endpoint_id: str) -> None:
    """Delete it with its secrets.

    Raises:
        NotFound: there is none.
    """
    found = await get(core, endpoint_id)
    if not await facet(core).remove(endpoint_id, event=event_of(core, found, "removed")):
        await get(core, endpoint_id)  # raises: another caller was first


async def rotate_secret(core: Core, endpoint_id: str, *, overlap: float, secret: SecretStr | None) -> NewEndpoint:
    """Give it a new secret; see ``Runtime.rotate_endpoint_secret``."""
    if not 0 <= overlap <= 30 * 86_400:
        raise BadInput("Two secrets live together for 0 seconds to 30 days.", field="overlap")
    given = secret if secret is not None else new_secret(core.clock.random)
    _check_secret(core, given)

    async def revised(found: Endpoint) -> Endpoint:
        now = core.clock.now()
        newest = (await secrets_of(core, found))[0]
        kept = (SigningSecret(newest.secret, now + timedelta(seconds=overlap)),) if overlap else ()
        return evolve(found, secrets=await _sealed(core, found.id, found.scope, (SigningSecret(given), *kept)))

    changed = await _change(core, endpoint_id, revised, "secret_rotated", overlap=overlap)
    return NewEndpoint(endpoint=changed, secret=given)


async def secrets_of(core: Core, endpoint: Endpoint) -> tuple[SigningSecret, ...]:
    """The secrets that sign now, the newest first.

    Raises:
        SecretError: they cannot be opened.
    """
    opened = await core.sealer.open(endpoint.secrets, bindings.endpoint(endpoint.id, endpoint.scope))
    now = core.clock.now()
    kept = (
        SigningSecret(SecretStr(one["secret"]), None if one["until"] is None else datetime.fromisoformat(one["until"]))
        for one in json.loads(opened.reveal())
    )
    return tuple(one for one in kept if one.until is None or one.until > now)


def event_of(core: Core, endpoint: Endpoint, name: str, **payload: Any) -> Event:
    """An event of an endpoint, now."""
    return event(
        core.clock,
        f"endpoint.{name}",
        {"endpoint_id": endpoint.id, **payload},
        provider_id=ENDPOINT_PROVIDER,
        scope=endpoint.scope or NOBODY,
    )


def checked_url(core: Core, url: str) -> str:
    """``url``, where messages may be sent to it. The egress guard looks at its address at each attempt besides.

    Raises:
        BadInput: it is none for an endpoint.
        EgressDenied: its host is no public one, and ``[egress] allow`` does not list it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        raise BadInput("The endpoint's URL cannot be read.", field="url") from None
    if not PLAIN_URL.fullmatch(url) or len(url) > _LONGEST_URL or "\\" in url or not host:
        raise BadInput(
            f"An endpoint's URL is an absolute one of at most {_LONGEST_URL} printable ASCII characters.", field="url"
        )
    if "@" in parts.netloc or parts.fragment:
        raise BadInput("An endpoint's URL has no user, password or fragment in it.", field="url")
    allowed = {f"{host}:{port}", f"{host}:*", f"[{host}]:{port}"} & set(core.endpoint_hosts)
    if parts.scheme != "https" and not (parts.scheme == "http" and allowed):
        raise BadInput(
            "An endpoint's URL begins with https://.",
            hint=f"Plain http needs the host in the setting egress.allow.{ENDPOINT_PROVIDER}, such as "
            f'"{host}:{port or 80}".',
            field="url",
        )
    if isinstance(core.transport, EgressGuarded):
        core.transport.check_url(url, provider_id=ENDPOINT_PROVIDER)
    return url


def _checked_events(events: tuple[str, ...]) -> tuple[str, ...]:
    if not events or len(events) > _MOST_PATTERNS:
        raise BadInput(f"An endpoint hears 1 to {_MOST_PATTERNS} events or patterns.", field="events")
    if not all(one and len(one) <= 200 and one.isprintable() and " " not in one for one in events):
        raise BadInput("An event or pattern is a name such as connection.established or connection.*.", field="events")
    return tuple(dict.fromkeys(events))


def _check_secret(core: Core, secret: SecretStr) -> None:
    """Raises KeyInvalid where nothing can be signed with it."""
    sign(b"", id="check", timestamp=core.clock.now(), secrets=(secret,), jose=core.jose)


async def _sealed(core: Core, endpoint_id: str, scope: Scope | None, secrets: tuple[SigningSecret, ...]) -> Sealed:
    kept = [{"secret": one.secret.reveal(), "until": one.until and one.until.isoformat()} for one in secrets]
    return await core.sealer.seal(json.dumps(kept).encode(), bindings.endpoint(endpoint_id, scope))


async def _change(
    core: Core, endpoint_id: str, revised: Callable[[Endpoint], Awaitable[Endpoint]], name: str, **payload: Any
) -> Endpoint:
    """Replace the row by what ``revised`` makes of it, with the event ``name``; neither where that is the same."""
    for _ in range(_RACES):
        found = await get(core, endpoint_id)
        wanted = await revised(found)
        if wanted == found:
            return found
        try:
            return await facet(core).save(
                evolve(wanted, updated_at=core.clock.now()),
                expected_version=found.version,
                event=event_of(core, wanted, name, **payload),
            )
        except VersionConflict:
            continue
    raise VersionConflict("The endpoint is changed by others all the time; try again.", metadata={"id": endpoint_id})
