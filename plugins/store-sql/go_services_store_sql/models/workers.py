"""The processes that work on the queues."""

from __future__ import annotations

import peewee as pw

from .columns import Table, Time, json, text


class WorkerRow(Table):
    id = pw.TextField(primary_key=True)
    """The owner of its claims."""
    host = text()
    pid = pw.IntegerField()
    kinds = json("[]")
    counts = json()
    started_at = Time()
    beat_at = Time()
    expires_at = Time()
    """Until then it counts as alive."""

    class Meta:
        table_name = "service_workers"
