"""Versioned rows beside connections: subscriptions, installations, cursors, budgets."""

from __future__ import annotations

import peewee as pw
from peewee import SQL

from .columns import Bytes, Table, Time, connection, count, json, text


class SubscriptionRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = connection()
    provider_id = text()
    resource_type = text()
    resource_id = text()
    channel_id = text()
    remote_subscription_id = text(null=True)
    callback_url = text()
    verification_token_ref = text("")
    status = text()
    """active, expired, cancelled, errored."""
    status_reason = text("")
    version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    expires_at = Time(null=True)
    metadata = json()
    last_notified_at = Time(null=True)
    created_at = Time()
    updated_at = Time()
    deleted_at = Time(null=True)
    """When a new subscription took the channel of this cancelled one."""
    verification_token = Bytes(null=True)
    """The sealed token that the provider sends back."""
    encryption_backend = text("")
    encryption_key_id = text("")
    encryption_version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    events = json("[]")
    remote_resource_id = text(null=True)
    confirmed_at = Time(null=True)
    renew_at = Time(null=True)
    attempts = count()
    replaces = text(null=True)
    replaced_by = text(null=True)

    class Meta:
        table_name = "service_subscriptions"


SubscriptionRow.add_index(
    SubscriptionRow.provider_id,
    SubscriptionRow.channel_id,
    unique=True,
    where=SQL("deleted_at IS NULL"),
    name="uq_service_subscriptions_active_channel",
)
SubscriptionRow.add_index(SubscriptionRow.connection_id, name="ix_service_subscriptions_connection")
SubscriptionRow.add_index(SubscriptionRow.status, SubscriptionRow.expires_at, name="ix_service_subscriptions_expiry")
SubscriptionRow.add_index(
    SubscriptionRow.provider_id,
    SubscriptionRow.renew_at,
    SubscriptionRow.id,
    where=SQL("status <> 'cancelled' AND deleted_at IS NULL"),
    name="ix_service_subscriptions_renewal",
)


class CursorRow(Table):
    id = pw.TextField(primary_key=True)
    connection_id = connection()
    provider_id = text()
    resource_type = text()
    resource_id = text()
    cursor = text()
    status = text()
    last_synced_at = Time(null=True)
    metadata = json()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_sync_cursors"


CursorRow.add_index(
    CursorRow.connection_id,
    CursorRow.provider_id,
    CursorRow.resource_type,
    CursorRow.resource_id,
    unique=True,
    name="uq_service_sync_cursors_resource",
)


class InstallationRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    install_type = text()
    status = text()
    """active, suspended, uninstalled, needs_reconsent."""
    status_reason = text("")
    version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    granted_at = Time(null=True)
    revoked_at = Time(null=True)
    metadata = json()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_installations"


InstallationRow.add_index(
    InstallationRow.provider_id,
    InstallationRow.scope_type,
    InstallationRow.scope_id,
    InstallationRow.install_type,
    unique=True,
    where=SQL("status <> 'uninstalled'"),
    name="uq_service_installations_active",
)
InstallationRow.add_index(InstallationRow.scope_type, InstallationRow.scope_id, name="ix_service_installations_scope")


class BudgetRow(Table):
    id = pw.TextField(primary_key=True)
    provider_id = text()
    scope_type = text()
    scope_id = text()
    bucket_key = text()
    limit = pw.DoubleField()
    remaining = pw.DoubleField()
    window_seconds = pw.DoubleField(constraints=[SQL("DEFAULT 0")])
    reset_at = Time(null=True)
    retry_after = pw.IntegerField(null=True)
    metadata = json()
    created_at = Time()
    updated_at = Time()
    granted = pw.DoubleField(constraints=[SQL("DEFAULT 0")])
    """What the last taker got; of a scope that waits, what it got in the window that ends at ``reset_at``."""
    period = pw.IntegerField(constraints=[SQL("DEFAULT 0")])
    """Counts the windows, so that nothing is given back to a later one."""
    paused_until = Time(null=True)
    waiting_until = Time(null=True)
    """Of a scope that waits for units of a shared budget: until when its share is kept for it."""

    class Meta:
        table_name = "service_rate_limit_state"


BudgetRow.add_index(
    BudgetRow.provider_id,
    BudgetRow.scope_type,
    BudgetRow.scope_id,
    BudgetRow.bucket_key,
    unique=True,
    name="uq_service_rate_limit_state_natural_key",
)
BudgetRow.add_index(
    BudgetRow.provider_id,
    BudgetRow.bucket_key,
    where=SQL("waiting_until IS NOT NULL"),
    name="ix_service_rate_limit_state_waiting",
)
