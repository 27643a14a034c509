"""The sandbox's subscriptions, in two forms: channels that are replaced, and subscriptions whose end is moved.

Channels are as those of Google's APIs (https://developers.google.com/workspace/drive/api/guides/push): the client
chooses the id, times are in milliseconds, and ending one takes the provider's name of the resource. Subscriptions are
as those of Microsoft Graph (https://learn.microsoft.com/graph/api/resources/subscription): the provider chooses the
id, and times are ISO 8601.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web
from attrs import define

from ...subscription_specs import SubscriptionSpec
from .api import protected
from .refused import Refused

if TYPE_CHECKING:
    from .server import Sandbox
    from .state import AccessToken

CHANNELS: Final = SubscriptionSpec(
    resource_type="items",
    create="channels.watch",
    cancel="channels.stop",
    send={
        "channel": "id",
        "callback_url": "address",
        "token": "token",
        "expires": "expiration",
        "resource": "resource",
        "remote_resource": "resourceId",
    },
    remote_id="id",
    remote_resource="resourceId",
    expires="expiration",
    time="milliseconds",
    lifetime=604_800.0,
)
SUBSCRIPTIONS: Final = SubscriptionSpec(
    resource_type="folder",
    create="subscriptions.create",
    renew="subscriptions.renew",
    cancel="subscriptions.end",
    send={
        "callback_url": "notificationUrl",
        "token": "clientState",
        "expires": "expirationDateTime",
        "resource": "resource",
        "events": "changeType",
        "remote_id": "id",
    },
    channel="remote",
    remote_id="id",
    expires="expirationDateTime",
    lifetime=259_200.0,
    backfill=True,
)


@define
class Channel:
    """One live subscription of either form."""

    id: str
    form: str
    account: str
    address: str
    token: str
    resource: str
    resource_id: str
    expires_at: float
    events: str = ""
    number: int = 0


class Channels:
    """What is subscribed to. No method awaits, so each one is atomic on its loop."""

    def __init__(self) -> None:
        self.all: dict[str, Channel] = {}
        """By id; also those that have ended or expired."""
        self.ended: set[str] = set()

    def live(self, now: float) -> list[Channel]:
        """Those that get notifications."""
        return [one for one in self.all.values() if one.id not in self.ended and now < one.expires_at]

    def find(self, id: str, form: str, now: float) -> Channel:
        """The live one of that id.

        Raises:
            Refused: 404, it is unknown, was ended or has expired.
        """
        found = self.all.get(id)
        if found is None or found.form != form or found not in self.live(now):
            raise Refused("not_found", "There is no such subscription.", status=404)
        return found


async def _json(request: web.Request, *needed: str) -> dict[str, Any]:
    try:
        data = json.loads(await request.read())
    except ValueError:
        data = None
    if not isinstance(data, dict) or not all(isinstance(data.get(name), str) and data[name] for name in needed):
        raise Refused("invalid_request", f"The body is a JSON object with {', '.join(needed)}.")
    return data


def _end(sandbox: Sandbox, asked: float) -> float:
    now = sandbox.ledger.now
    if asked <= now:
        raise Refused("invalid_request", "The end must be ahead.")
    return min(asked, now + sandbox.subscription_lifetime)


async def _keep(sandbox: Sandbox, channel: Channel) -> None:
    sandbox.channels.all[channel.id] = channel
    if sandbox.announce:  # as Google does, before its answer
        await send(sandbox, channel, "sync")


@protected("items.read")
async def watch(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """Open a channel under the client's id, which nobody has used before."""
    data = await _json(request, "id", "address", "token", "resource")
    if data["id"] in sandbox.channels.all:
        raise Refused("channelIdNotUnique", "The channel's id was used before.")
    try:
        asked = float(data.get("expiration", sandbox.ledger.now * 1000 + 3_600_000)) / 1000
    except ValueError:
        raise Refused("invalid_request", "The expiration is in milliseconds.") from None
    channel = Channel(
        id=data["id"],
        form="channel",
        account=access.grant.account.id,
        address=data["address"],
        token=data["token"],
        resource=data["resource"],
        resource_id=f"resource-{data['resource']}",
        expires_at=_end(sandbox, asked),
    )
    await _keep(sandbox, channel)
    ends = str(int(channel.expires_at * 1000))
    return web.json_response({"id": channel.id, "resourceId": channel.resource_id, "expiration": ends})


@protected("items.read")
async def stop(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """End a channel, named by its id and that of its resource."""
    data = await _json(request, "id", "resourceId")
    found = sandbox.channels.find(data["id"], "channel", sandbox.ledger.now)
    if found.resource_id != data["resourceId"]:
        raise Refused("not_found", "The channel is of another resource.", status=404)
    sandbox.channels.ended.add(found.id)
    return web.Response(status=204)


@protected("items.read")
async def create(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """Open a subscription under an id of the sandbox's own."""
    data = await _json(request, "notificationUrl", "resource", "expirationDateTime", "clientState")
    channel = Channel(
        id=sandbox.ledger.mint("sub-"),
        form="subscription",
        account=access.grant.account.id,
        address=data["notificationUrl"],
        token=data["clientState"],
        resource=data["resource"],
        resource_id="",
        expires_at=_end(sandbox, _moment(data)),
        events=str(data.get("changeType", "")),
    )
    await _keep(sandbox, channel)
    return web.json_response(_shown(channel), status=201)


@protected("items.read")
async def renew(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """Move the end of a subscription."""
    data = await _json(request, "expirationDateTime")
    found = sandbox.channels.find(request.match_info["id"], "subscription", sandbox.ledger.now)
    found.expires_at = _end(sandbox, _moment(data))
    return web.json_response(_shown(found))


@protected("items.read")
async def end(sandbox: Sandbox, request: web.Request, access: AccessToken) -> web.Response:
    """End a subscription."""
    sandbox.channels.ended.add(sandbox.channels.find(request.match_info["id"], "subscription", sandbox.ledger.now).id)
    return web.Response(status=204)


def _moment(data: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(data["expirationDateTime"]).timestamp()
    except ValueError:
        raise Refused("invalid_request", "The expirationDateTime is not ISO 8601.") from None


def _shown(channel: Channel) -> dict[str, Any]:
    ends = datetime.fromtimestamp(channel.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")  # seven digits, as Graph
    return {"id": channel.id, "resource": channel.resource, "expirationDateTime": ends}


async def send(sandbox: Sandbox, channel: Channel, event: str) -> int:
    """POST one notification on a channel and give the status of the answer; 0 where nobody answers."""
    channel.number += 1
    headers, body = {}, b""
    if channel.form == "channel":
        headers = {
            "X-Goog-Channel-ID": channel.id,
            "X-Goog-Channel-Token": channel.token,
            "X-Goog-Message-Number": str(channel.number),
            "X-Goog-Resource-ID": channel.resource_id,
            "X-Goog-Resource-State": event,
        }
    else:
        value = {
            "subscriptionId": channel.id,
            "clientState": channel.token,
            "resource": channel.resource,
            "changeType": event,
        }
        headers, body = {"Content-Type": "application/json"}, json.dumps({"value": [value]}).encode()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), trust_env=False) as session,
            session.post(channel.address, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status
    except (TimeoutError, aiohttp.ClientError):
        return 0
