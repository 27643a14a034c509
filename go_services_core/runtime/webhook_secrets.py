"""Which connection a delivery is for, and the secrets that it may be signed with: chosen before it is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from ..errors import BadInput
from ..protocols import Rejected, WebhookVerifier
from ..secret import SecretStr
from . import bindings
from .core import Core

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
    of the provider's table, all others with a secret of that table.

    Raises:
        ConnectionNotFound: there is no connection of that id.
        BadInput: the connection is another provider's.
    """
    read = getattr(verifier, "channel", None)
    channel = None if read is None else read(request)
    if channel is not None:
        return await _of_channel(core, instance, channel, connection_id)
    if connection_id is None:
        return Door(connection=None, secrets=instance.webhook_secrets)
    connection = await core.store.connections.get(connection_id)
    if connection.provider_id != instance.id:
        raise BadInput("The connection belongs to another provider.", field="connection_id")
    tokens = []
    after = None
    while True:
        page = await core.store.resources.subscriptions(connection_id=connection_id, status="active", after=after)
        tokens += [token for one in page.items if (token := await _token(core, one, connection)) is not None]
        if (after := page.next) is None:
            return Door(connection=connection, secrets=(*tokens, *instance.webhook_secrets))


async def _of_channel(
    core: Core, instance: ProviderInstance, channel: str, connection_id: str | None
) -> Door | Rejected:
    subscription = await core.store.resources.subscription_by_channel(instance.id, channel)
    if subscription is None or subscription.status == "cancelled":
        return Rejected(reason="no subscription has its channel")
    if connection_id not in (None, subscription.connection_id):
        return Rejected(reason="its channel is another connection's")
    connection = await core.store.connections.get(subscription.connection_id)
    token = await _token(core, subscription, connection)
    return Door(connection=connection, secrets=instance.webhook_secrets if token is None else (token,))


async def _token(core: Core, subscription: Subscription, connection: Connection) -> SecretStr | None:
    if subscription.verification is None:
        return None
    binding = bindings.subscription(subscription.id, connection.provider_id, connection.scope)
    return SecretStr((await core.sealer.open(subscription.verification, binding)).reveal().decode())
