"""Secrets beside credentials, attempts and deliveries that stand in rows of their own, sealed for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotFound
from ..secret import SecretBytes, SecretStr
from . import bindings

if TYPE_CHECKING:
    from ..model import Scope, Sealed
    from ..resources import LedgerKind, Subscription
    from ..sealing import Sealer


async def seal_verification(
    sealer: Sealer, token: SecretStr, *, subscription_id: str, provider_id: str, scope: Scope
) -> Sealed:
    """A subscription's verification token for ``Subscription.verification``; ``scope`` is its connection's."""
    binding = bindings.subscription(subscription_id, provider_id, scope)
    return await sealer.seal(token.reveal().encode(), binding)


async def open_verification(sealer: Sealer, subscription: Subscription, scope: Scope) -> SecretStr:
    """The token that the provider sends back.

    Raises:
        NotFound: the runtime does not keep it.
        SecretError: it cannot be opened.
    """
    if subscription.verification is None:
        raise NotFound(f"The subscription {subscription.id} has no verification token here.")
    binding = bindings.subscription(subscription.id, subscription.provider_id, scope)
    return SecretStr((await sealer.open(subscription.verification, binding)).reveal().decode())


async def seal_result(sealer: Sealer, result: SecretBytes, *, kind: LedgerKind, key: str) -> Sealed:
    """What ``OnceFacet.finish`` keeps for all that ask later."""
    return await sealer.seal(result.reveal(), bindings.idempotency(kind, key))


async def open_result(sealer: Sealer, sealed: Sealed, *, kind: LedgerKind, key: str) -> SecretBytes:
    """What ``OnceFacet.begin`` gave.

    Raises:
        SecretError: it cannot be opened.
    """
    return await sealer.open(sealed, bindings.idempotency(kind, key))
