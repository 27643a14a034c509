"""What each sealed value of the database is bound to. A value opens only under the binding that it was sealed under."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from ..model import Binding, Scope
from ..wrapping_keys import SealedRow

if TYPE_CHECKING:
    from ..resources import LedgerKind

MAX_RECORD_ID: Final = 512
"""Bytes of a record id; the hash of a longer one takes its place."""
KEY_CHECK: Final = Binding(purpose="key-check", provider_id="", scope=None, record_id="key-check")
"""Of the constant that tells whether the key is the database's."""


def credential(connection_id: str, version: int, provider_id: str, scope: Scope) -> Binding:
    """Of a credential: its connection and version."""
    return Binding(
        purpose="credential", provider_id=provider_id, scope=scope, record_id=connection_id, record_version=version
    )


def attempt(attempt_id: str, provider_id: str, scope: Scope) -> Binding:
    """Of what a consent must remember, such as the PKCE verifier."""
    return Binding(purpose="attempt", provider_id=provider_id, scope=scope, record_id=attempt_id)


def inbox(row_id: str, provider_id: str, scope: Scope | None) -> Binding:
    """Of a delivery: request line, headers and body."""
    return Binding(purpose="inbox", provider_id=provider_id, scope=scope, record_id=row_id)


def subscription(subscription_id: str, provider_id: str, scope: Scope) -> Binding:
    """Of a subscription's verification token; provider and scope are those of its connection."""
    return Binding(purpose="subscription", provider_id=provider_id, scope=scope, record_id=subscription_id)


def endpoint(endpoint_id: str, scope: Scope | None) -> Binding:
    """Of the secrets that an endpoint's messages are signed with."""
    return Binding(purpose="endpoint", provider_id="", scope=scope, record_id=endpoint_id)


def idempotency(kind: LedgerKind, key: str) -> Binding:
    """Of the result that a ledger keeps. A ledger's key is the caller's text, of any length."""
    return Binding(purpose="idempotency", provider_id="", scope=None, record_id=_bounded(f"{kind}:{key}"))


def resume(connection_id: str, provider_id: str, scope: Scope) -> Binding:
    """Of where a list goes on; no row holds it, its token does."""
    return Binding(purpose="resume", provider_id=provider_id, scope=scope, record_id=connection_id)


def binding_of(row: SealedRow) -> Binding:
    """Of a row as the store lists it: each kind of row is a purpose of its own.

    What an intent keeps is a credential, bound as the version that it becomes when it is adopted.
    """
    return Binding(
        purpose="credential" if row.kind == "intent" else row.kind,
        provider_id=row.provider_id,
        scope=row.scope,
        record_id=_bounded(row.record_id),
        record_version=row.record_version,
    )


def _bounded(record_id: str) -> str:
    raw = record_id.encode("utf-8", "surrogatepass")
    return record_id if len(raw) <= MAX_RECORD_ID else hashlib.sha256(raw).hexdigest()
