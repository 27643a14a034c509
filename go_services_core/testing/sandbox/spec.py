"""What an application needs to use the sandbox: its provider record and its configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import urlsplit

from ...auth_specs import OAuth2Code, Rotation
from ...secret import SecretStr
from ...specs import ApiSpec, Capability, Identity, Operation, Pagination, Param, ProviderSpec
from .authorize import SCOPES
from .channels import CHANNELS, SUBSCRIPTIONS
from .webhooks import WEBHOOK


class Registration(ABC):
    """A client that is registered at a running sandbox, here or in another process."""

    rotation: Rotation
    client_id: str
    client_secret: SecretStr
    webhook_secret: SecretStr
    """Its UTF-8 bytes are the HMAC key of webhooks."""
    api_key: SecretStr
    """What ``/private/key`` accepts."""
    basic_user: str
    """With ``basic_password`` what ``/private/basic`` accepts."""
    basic_password: SecretStr

    @property
    @abstractmethod
    def url(self) -> str:
        """``http://127.0.0.1:PORT``: the API's base URL and the issuer."""

    def spec(self, id: str = "sandbox") -> ProviderSpec:
        """The provider record that points at this sandbox."""
        url = self.url
        return ProviderSpec(
            id=id,
            name="Sandbox",
            auth=OAuth2Code(
                authorize_url=f"{url}/authorize",
                token_url=f"{url}/token",
                revocation_url=f"{url}/revoke",
                issuer=url,
                default_grants=tuple(SCOPES),
                rotation=self.rotation,
                revocation_scope="grant",
            ),
            api=ApiSpec(base_url=url),
            capabilities=(
                Capability("items.read", grants=("items.read",)),
                Capability("items.write", grants=("items.write",)),
            ),
            operations=(
                Operation("me", "GET", "/userinfo", summary="Whose account it is"),
                Operation(
                    "items.list",
                    "GET",
                    "/items",
                    capability="items.read",
                    params=(
                        Param("per_page", type="integer", help="Items on a page, 1 to 100; 30 without it"),
                        Param("page", type="integer", help="Number of the page, from 1"),
                    ),
                    pagination=Pagination("link"),
                    summary="All items, page by page",
                ),
                Operation(
                    "items.get",
                    "GET",
                    "/items/{id}",
                    capability="items.read",
                    params=Param("id", "path", "integer", required=True),
                    summary="One item",
                ),
                Operation(
                    "items.create",
                    "POST",
                    "/items",
                    capability="items.write",
                    params=Param("name", "body", required=True),
                    idempotency_header="Idempotency-Key",
                    summary="Add an item",
                ),
                Operation(
                    "channels.watch",
                    "POST",
                    "/channels/watch",
                    capability="items.read",
                    params=tuple(
                        Param(name, "body", required=name != "expiration")
                        for name in ("id", "address", "token", "resource", "expiration")
                    ),
                    summary="Open a channel for changes of items",
                ),
                Operation(
                    "channels.stop",
                    "POST",
                    "/channels/stop",
                    capability="items.read",
                    params=(Param("id", "body", required=True), Param("resourceId", "body", required=True)),
                    summary="End a channel",
                ),
                Operation(
                    "subscriptions.create",
                    "POST",
                    "/subscriptions",
                    capability="items.read",
                    params=tuple(
                        Param(name, "body", required=name != "changeType")
                        for name in ("notificationUrl", "resource", "expirationDateTime", "clientState", "changeType")
                    ),
                    summary="Subscribe to changes of a folder",
                ),
                Operation(
                    "subscriptions.renew",
                    "PATCH",
                    "/subscriptions/{id}",
                    capability="items.read",
                    params=(Param("id", "path", required=True), Param("expirationDateTime", "body", required=True)),
                    summary="Move the end of a subscription",
                ),
                Operation(
                    "subscriptions.end",
                    "DELETE",
                    "/subscriptions/{id}",
                    capability="items.read",
                    params=Param("id", "path", required=True),
                    summary="End a subscription",
                ),
            ),
            identity=Identity(url="/userinfo", account="id"),
            webhook=WEBHOOK,
            subscriptions=(CHANNELS, SUBSCRIPTIONS),
        )

    def config(self, id: str = "sandbox") -> dict[str, Any]:
        """Tables for the configuration, with secrets in clear: they are worth nothing outside this sandbox."""
        return {
            "runtime": {"allow_plaintext_secrets": True},
            "providers": {
                id: {
                    "client_id": self.client_id,
                    "client_secret": self.client_secret.reveal(),
                    "webhook_secrets": [self.webhook_secret.reveal()],
                }
            },
            "egress": {"allow": {id: [urlsplit(self.url).netloc]}},
        }
