"""How vendors sign their deliveries, as records: ``ProviderSpec(webhook=STRIPE, …)``, changed with ``attrs.evolve``.

Each names the vendor's page that it was written from.
"""

from __future__ import annotations

from typing import Final

from ..webhook_specs import Ed25519Webhook, Handshake, HmacWebhook, TokenWebhook

GITHUB: Final = HmacWebhook(
    signature_header="X-Hub-Signature-256",
    prefix="sha256=",
    id_header="X-GitHub-Delivery",
    event_header="X-GitHub-Event",
    resource_field="repository.id|organization.id|installation.id",
)
"""https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""

GITLAB: Final = TokenWebhook(
    header="X-Gitlab-Token",
    id_header="Idempotency-Key",
    event_header="X-Gitlab-Event",
    resource_field="project.id|project_id",
)
"""https://docs.gitlab.com/user/project/integrations/webhooks/. ``Idempotency-Key`` is the same over repetitions."""

STRIPE: Final = HmacWebhook(
    signature_header="Stripe-Signature",
    signature_field="v1",
    timestamp_field="t",
    separator=",",
    signed=("timestamp", "body"),
    id_field="id",
    event_field="type",
    resource_field="data.object.id",
)
"""https://docs.stripe.com/webhooks#verify-manually"""

SLACK: Final = HmacWebhook(
    signature_header="X-Slack-Signature",
    prefix="v0=",
    timestamp_header="X-Slack-Request-Timestamp",
    signed=("text:v0", "timestamp", "body"),
    joiner=":",
    id_field="event_id|trigger_id",
    id_bucket=3600.0,
    event_field="event.type|command|type",
    resource_field="event.channel|channel_id",
    handshake=Handshake(where="body", challenge="challenge", when={"type": "url_verification"}),
)
"""https://docs.slack.dev/authentication/verifying-requests-from-slack and
https://docs.slack.dev/reference/events/url_verification"""

SHOPIFY: Final = HmacWebhook(
    signature_header="X-Shopify-Hmac-Sha256",
    encoding="base64",
    id_header="X-Shopify-Webhook-Id",
    event_header="X-Shopify-Topic",
    resource_field="admin_graphql_api_id|id",
)
"""https://shopify.dev/docs/apps/build/webhooks/subscribe/https. Deliveries may be a day late, and no time is signed."""

META: Final = HmacWebhook(
    signature_header="X-Hub-Signature-256",
    prefix="sha256=",
    id_bucket=259_200.0,
    event_field="entry.0.changes.0.field|object",
    resource_field="entry.0.id",
    handshake=Handshake(
        where="query", challenge="hub.challenge", token="hub.verify_token", when={"hub.mode": "subscribe"}
    ),
)
"""https://developers.facebook.com/docs/graph-api/webhooks/getting-started. Deliveries have no id; repetitions come for
36 hours."""

TIKTOK: Final = HmacWebhook(
    signature_header="TikTok-Signature",
    signature_field="s",
    timestamp_field="t",
    separator=",",
    signed=("timestamp", "body"),
    id_bucket=259_200.0,
    event_field="event",
    resource_field="user_openid",
)
"""https://developers.tiktok.com/doc/webhooks-verification. Deliveries have no id; repetitions come for 72 hours."""

TWILIO: Final = HmacWebhook(
    signature_header="X-Twilio-Signature",
    algorithm="sha1",
    encoding="base64",
    signed=("url", "form"),
    joiner="",
    public_url="{webhook_url}",
    body_digest_param="bodySHA256",
    id_bucket=86_400.0,
    event_field="EventType|CallStatus|MessageStatus|SmsStatus",
    resource_field="MessageSid|CallSid|SmsSid",
)
"""https://www.twilio.com/docs/usage/webhooks/webhooks-security. No time is signed. ``webhook_url`` of the provider's
table is the scheme and host that Twilio calls."""

DISCORD: Final = Ed25519Webhook(
    signature_header="X-Signature-Ed25519",
    timestamp_header="X-Signature-Timestamp",
    signed=("timestamp", "body"),
    joiner="",
    id_field="id",
    id_bucket=3600.0,
    event_field="event.type|type",
)
"""https://discord.com/developers/docs/interactions/overview#setting-up-an-endpoint-validating-security-request-headers.
The secret is the application's public key."""

GOOGLE_CHANNEL: Final = TokenWebhook(
    header="X-Goog-Channel-Token",
    id_header="X-Goog-Message-Number",
    id_per_channel=True,
    event_header="X-Goog-Resource-State",
    channel_header="X-Goog-Channel-ID",
    resource_header="X-Goog-Resource-ID",
)
"""https://developers.google.com/workspace/drive/api/guides/push. Message numbers begin anew in each channel. The event
``sync``, a channel's first message, only says that it was opened."""
