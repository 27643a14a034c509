"""Which connection a delivery is for, and the secrets that it may be signed with: chosen before it is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field, frozen

from ..errors import ConnectionNotFound, SecretError
from ..protocols import Rejected, WebhookVerifier
from ..secret import SecretStr
from . import bindings
from .core import Core, logger

if TYPE_CHECKING:
    from ..http import InboundRequest
    from ..model import Connection
    from ..providers import ProviderInstance
    from ..resources import Subscription


@frozen(kw_only=True)
class Door:
    """Where a delivery comes in."""

    connection: Connection | None
    secrets: tuple[SecretStr, ...] = field(repr=False)
    unread: SecretError | None = None
    """Why a secret is missing that may be readable soon: a delivery that no other one fits may be authentic."""


async def find_door(
    core: Core,
    instance: ProviderInstance,
    verifier: WebhookVerifier,
    request: InboundRequest,
    connection_id: str | None,
) -> Door | Rejected:
    """The door of a delivery, by the channel that it claims to come on, else by the URL's connection.

    The subscription of a channel gives its connection and its token, and stands for no other connection's URL. The
    deliveries of a connection's own URL are signed with the token of one of its active subscriptions or with a secret
    of the provider's table, all others with a secret of that table. A connection that was disconnected has no door;
    one whose disconnect has not ended yet still has.
    """
    read = getattr(verifier, "channel", None)
    channel = None if read is None else read(request)
    if channel is not None:
        return await _of_channel(core, instance, channel, connection_id)
    if connection_id is None:
        return Door(connection=None, secrets=instance.webhook_secrets)
    return await _of_url(core, instance, connection_id)


async def _of_url(core: Core, instance: ProviderInstance, connection_id: str) -> Door | Rejected:
    connection = await receiving(core, instance.id, connection_id)
    tokens = _Tokens(core)
    after = None
    while True:
        page = await core.store.resources.subscriptions(connection_id=connection_id, status="active", after=after)
        if connection is not None:
            for one in page.items:
                await tokens.add(one, connection)
        if (after := page.next) is None:
            break
    if connection is None:
        return Rejected(reason="nobody has its connection, or it was disconnected")
    return Door(connection=connection, secrets=(*tokens.opened, *instance.webhook_secrets), unread=tokens.unread)


async def receiving(core: Core, provider_id: str, connection_id: str) -> Connection | None:
    """The connection, if it is the provider's and was not disconnected."""
    try:
        found = await core.store.connections.get(connection_id)
    except ConnectionNotFound:
        return None
    return found if found.provider_id == provider_id and found.status != "disconnected" else None


async def _of_channel(
    core: Core, instance: ProviderInstance, channel: str, connection_id: str | None
) -> Door | Rejected:
    subscription = await core.store.resources.subscription_by_channel(instance.id, channel)
    if subscription is None or subscription.status == "cancelled":
        return Rejected(reason="no subscription has its channel")
    if connection_id not in (None, subscription.connection_id):
        return Rejected(reason="its channel is another connection's")
    connection = await receiving(core, instance.id, subscription.connection_id)
    if connection is None:
        return Rejected(reason="the connection of its channel was disconnected")
    if subscription.verification is None:
        return Door(connection=connection, secrets=instance.webhook_secrets)
    tokens = _Tokens(core)
    await tokens.add(subscription, connection)
    return Door(connection=connection, secrets=tuple(tokens.opened), unread=tokens.unread)


@define
class _Tokens:
    """The verification tokens of subscriptions, as far as they can be opened."""

    core: Core
    opened: list[SecretStr] = field(factory=list, repr=False)
    unread: SecretError | None = None

    async def add(self, subscription: Subscription, connection: Connection) -> None:
        if subscription.verification is None:
            return
        binding = bindings.subscription(subscription.id, connection.provider_id, connection.scope)
        try:
            opened = await self.core.sealer.open(subscription.verification, binding)
        except SecretError as error:
            logger.warning("the token of subscription %s cannot be opened: %s", subscription.id, error)
            self.unread = self.unread or (error if error.retryable else None)
            return
        self.opened.append(SecretStr(opened.reveal().decode()))
