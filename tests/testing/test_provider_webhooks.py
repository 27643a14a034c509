"""The checks of webhooks, inbox and subscriptions: each fails for the one mistake that it is there for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from go_services_core import Operation, Param
from go_services_core.delivery_specs import Burst, InboxPolicy, Schedule
from go_services_core.subscription_specs import SubscriptionSpec
from go_services_core.webhook_specs import (
    BasicWebhook,
    BearerWebhook,
    Handshake,
    HmacWebhook,
    MtlsWebhook,
    OidcWebhook,
    SnsWebhook,
    StandardWebhook,
    TokenWebhook,
)

from .test_provider_checks import GOOD, failures

STANDARD = StandardWebhook()
HOOK = HmacWebhook(signature_header="X-S", id_header="X-I", channel_header="X-C", resource_field="id")
WATCH = SubscriptionSpec(
    resource_type="contacts",
    create="contacts.watch",
    renew="contacts.extend",
    cancel="contacts.leave",
    send={"callback_url": "url", "remote_id": "watch"},
    remote_id="id",
    lifetime=3600.0,
    renew_early=600.0,
    docs_url="https://acme.example/docs",
)


def operation(id: str, *params: Param) -> Operation:
    return Operation(id, "POST", f"/{id}", capability="contacts.read", params=params)


WATCHED = attrs.evolve(
    GOOD,
    webhook=HOOK,
    inbox=InboxPolicy(order="channel", burst=Burst(mode="debounce")),
    subscriptions=WATCH,
    operations=(
        *GOOD.operations,
        operation("contacts.watch", Param("url", "body", help="Where to call")),
        operation("contacts.extend", Param("watch", "body", help="Which")),
        operation("contacts.leave", Param("watch", "body", help="Which")),
    ),
)


@pytest.mark.parametrize(
    "webhook",
    [
        HOOK,
        TokenWebhook(header="X-Token", id_header="X-I", channel_header="X-C", resource_header="X-R"),
        OidcWebhook(audience="https://app.example", email="push@acme.example", channel_header="X-C"),
        SnsWebhook(topics="arn:aws:sns:eu-west-1:1:orders"),
        MtlsWebhook(dns_names="push.acme.example", id_header="X-I", channel_header="X-C", resource_field="id"),
    ],
    ids=lambda webhook: webhook.scheme,
)
async def test_record_that_is_right_passes(webhook: Any) -> None:
    assert {id for id in await failures(attrs.evolve(WATCHED, webhook=webhook)) if id > "PRV-011"} <= {"PRV-038"}


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("PRV-012", {"webhook": TokenWebhook(header="X-Token")}),
        ("PRV-012", {"webhook": TokenWebhook(id_header="X-I")}),
        ("PRV-012", {"webhook": TokenWebhook(id_header="X-I", header="X-T", param="token")}),
        ("PRV-012", {"webhook": BearerWebhook(id_bucket=-1.0)}),
        ("PRV-012", {"webhook": BasicWebhook(id_field="id", id_per_channel=True)}),
        ("PRV-012", {"webhook": BearerWebhook(id_field="id", handshake=Handshake(where="query", challenge="c"))}),
        ("PRV-012", {"webhook": OidcWebhook(audience="", email="push@acme.example")}),
        ("PRV-012", {"webhook": OidcWebhook(audience="https://app.example", email="")}),
        ("PRV-012", {"webhook": OidcWebhook(audience="a", email="e", algorithms="HS256")}),
        ("PRV-012", {"webhook": OidcWebhook(audience="a", email="e", jwks_url="http://acme.example/keys")}),
        ("PRV-012", {"webhook": SnsWebhook(topics=())}),
        ("PRV-012", {"webhook": SnsWebhook(topics="orders")}),
        ("PRV-012", {"webhook": MtlsWebhook(id_header="X-I", fingerprints="ab")}),
        ("PRV-013", {"webhook": STANDARD, "inbox": InboxPolicy(order="channel")}),
        ("PRV-013", {"webhook": STANDARD, "inbox": InboxPolicy(burst=Burst(mode="coalesce"))}),
        ("PRV-013", {"webhook": HOOK, "inbox": InboxPolicy(burst=Burst(mode="debounce", window=9, longest=3))}),
        ("PRV-014", {"webhook": None}),
        ("PRV-014", {"subscriptions": attrs.evolve(WATCH, create="watch")}),
        ("PRV-014", {"subscriptions": (WATCH, WATCH)}),
        ("PRV-014", {"subscriptions": attrs.evolve(WATCH, send={"callback_url": "address"})}),
        ("PRV-014", {"subscriptions": attrs.evolve(WATCH, remote_id=None)}),
        ("PRV-014", {"subscriptions": attrs.evolve(WATCH, lifetime=None)}),
        ("PRV-014", {"subscriptions": attrs.evolve(WATCH, renew_early=4000.0)}),
        ("PRV-014", {"subscriptions": attrs.evolve(WATCH, gone=(40,))}),
        ("PRV-014", {"subscriptions": attrs.evolve(WATCH, docs_url="http://acme.example")}),
        ("PRV-013", {"webhook": None}),
        ("PRV-013", {"inbox": InboxPolicy(schedule=Schedule(delays=(1.0,) * 100))}),
    ],
)
async def test_mistake_in_the_record_fails_its_check(check: str, changes: Mapping[str, Any]) -> None:
    assert check in await failures(attrs.evolve(WATCHED, **changes))
