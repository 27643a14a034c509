"""The tables, declared once. The Go system's tables keep its names and columns; what is ours follows them."""

from __future__ import annotations

from .columns import Table
from .connections import (
    AttemptRow,
    ConnectionRow,
    CredentialRow,
    GrantEventRow,
    GrantSnapshotRow,
    RefreshIntentRow,
)
from .endpoints import EndpointRow
from .ledgers import ActivityRow, DispatchRow, IdempotencyRow, LeaseRow, MetaRow, MigrationRow, ReplayRow
from .queues import (
    TRIGGERS,
    EventDeliveryRow,
    HandlerRow,
    InboxRow,
    JobKeyRow,
    JobRow,
    OutboxRow,
    PendingEventRow,
    PositionRow,
)
from .resources import BudgetRow, CursorRow, InstallationRow, SubscriptionRow
from .sync import (
    IdentityBindingRow,
    MappingSpecRow,
    SyncBindingRow,
    SyncChangeRow,
    SyncCheckpointRow,
    SyncConflictRow,
)
from .workers import WorkerRow

__all__ = [
    "MODELS",
    "TRIGGERS",
    "ActivityRow",
    "AttemptRow",
    "BudgetRow",
    "ConnectionRow",
    "CredentialRow",
    "CursorRow",
    "DispatchRow",
    "EndpointRow",
    "EventDeliveryRow",
    "GrantEventRow",
    "GrantSnapshotRow",
    "HandlerRow",
    "IdempotencyRow",
    "InboxRow",
    "InstallationRow",
    "JobKeyRow",
    "JobRow",
    "LeaseRow",
    "MetaRow",
    "MigrationRow",
    "OutboxRow",
    "PendingEventRow",
    "PositionRow",
    "RefreshIntentRow",
    "ReplayRow",
    "SubscriptionRow",
    "Table",
    "WorkerRow",
]

MODELS: tuple[type[Table], ...] = (
    ConnectionRow,
    CredentialRow,
    GrantSnapshotRow,
    GrantEventRow,
    OutboxRow,
    InboxRow,
    AttemptRow,
    RefreshIntentRow,
    LeaseRow,
    HandlerRow,
    EventDeliveryRow,
    ReplayRow,
    MetaRow,
    MigrationRow,
    # with migration 0002
    SubscriptionRow,
    CursorRow,
    InstallationRow,
    BudgetRow,
    JobRow,
    JobKeyRow,
    IdempotencyRow,
    DispatchRow,
    ActivityRow,
    MappingSpecRow,
    SyncBindingRow,
    SyncCheckpointRow,
    IdentityBindingRow,
    SyncConflictRow,
    SyncChangeRow,
    # with migration 0008
    PositionRow,
    # with migration 0010
    EndpointRow,
    # with migration 0011
    WorkerRow,
    # with migration 0012
    PendingEventRow,
)
"""All tables, each after those that it refers to."""
