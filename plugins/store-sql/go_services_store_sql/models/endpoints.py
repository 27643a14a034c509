"""Endpoints of outgoing webhooks."""

from __future__ import annotations

import peewee as pw
from peewee import SQL

from .columns import Bytes, Table, Time, count, json, text


class EndpointRow(Table):
    id = pw.TextField(primary_key=True)
    url = text()
    scope_type = text(null=True)
    scope_id = text(null=True)
    events = json("[]")
    """Patterns."""
    description = text("")
    ordered = pw.BooleanField()
    status = text()
    """active, paused, disabled."""
    status_reason = text("")
    version = pw.IntegerField(constraints=[SQL("DEFAULT 1")])
    failures = count()
    """In a row."""
    failing_since = Time(null=True)
    open_until = Time(null=True)
    """Until when nothing is sent, or until when the one that may try is waited for."""
    secrets = Bytes()
    """Sealed."""
    encryption_backend = text()
    encryption_key_id = text()
    encryption_version = pw.IntegerField()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "service_webhook_endpoints"


EndpointRow.add_index(EndpointRow.scope_type, EndpointRow.scope_id, name="ix_service_webhook_endpoints_scope")
