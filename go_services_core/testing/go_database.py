"""A database as the Go system (go-services 0.7) leaves it, with rows of every kind: to rehearse adoption on.

::

    import sqlite3
    from go_services_core.testing.go_database import statements

    with sqlite3.connect("old.db") as database:
        for text in statements("sqlite"):
            database.execute(text)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

GoDialect = Literal["sqlite", "postgres"]

GO_KEY: Final = "the passphrase of the Go system"
"""The application key that ``CIPHERTEXT`` is sealed with; its id is ``app-key``, its version 1."""
CIPHERTEXT: Final = (
    b'services.secret.v1:{"kid":"app-key","ver":1,"alg":"aes-256-gcm","nonce":"Z28tcmVoZWFyc2Fs",'
    b'"ciphertext":"c/q/x3ZwnQIaan1Bokx9fRHfgknzCHywvlxC2PiRY/AWZJuDpk2dBHrrjon24luIaUbwhZr8WFXPRRPHbUBOQu10'
    b'zksCKUQN9BvwTnGb0elG2uy4pj5uzWajhv3/20zg73sbXsFdx2ONIC0S9elqlnxC/1uNbwhmAiqjrvlv"}'
)
"""What stands in every credential that is not empty: one with access token and refresh token."""

_TYPES: Final[Mapping[GoDialect, Mapping[str, str]]] = {
    "sqlite": {
        "@ts": "DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP",
        "@moment": "DATETIME",
        "@list": "TEXT NOT NULL DEFAULT '[]'",
        "@map": "TEXT NOT NULL DEFAULT '{}'",
        "@bytes": "BLOB",
        "@flag": "INTEGER NOT NULL DEFAULT 0 CHECK (refreshable IN (0, 1))",
        "@big": "INTEGER",
        "@real": "REAL",
        "@trim": "trim",
        "@cipher": f"x'{CIPHERTEXT.hex()}'",
        "@body": "x'7b2261223a317d'",
        "@empty": "x''",
        "@yes": "1",
        "@no": "0",
    },
    "postgres": {
        "@ts": "TIMESTAMPTZ NOT NULL DEFAULT now()",
        "@moment": "TIMESTAMPTZ",
        "@list": "JSONB NOT NULL DEFAULT '[]'::jsonb",
        "@map": "JSONB NOT NULL DEFAULT '{}'::jsonb",
        "@bytes": "BYTEA",
        "@flag": "BOOLEAN NOT NULL DEFAULT FALSE",
        "@big": "BIGINT",
        "@real": "DOUBLE PRECISION",
        "@trim": "btrim",
        "@cipher": rf"'\x{CIPHERTEXT.hex()}'::bytea",
        "@body": r"'\x7b2261223a317d'::bytea",
        "@empty": "''::bytea",
        "@yes": "TRUE",
        "@no": "FALSE",
    },
}
BODY: Final = b'{"a":1}'
"""The body of every webhook delivery that has one."""

_SCOPE: Final = "provider_id TEXT NOT NULL, scope_type TEXT NOT NULL, scope_id TEXT NOT NULL"
_CONNECTION: Final = "connection_id TEXT NOT NULL REFERENCES service_connections(id) ON DELETE CASCADE"
_MAYBE: Final = "connection_id TEXT REFERENCES service_connections(id) ON DELETE SET NULL"
_BINDING: Final = "sync_binding_id TEXT NOT NULL REFERENCES service_sync_bindings(id) ON DELETE CASCADE"

_TABLES: Final = f"""
CREATE TABLE service_connections (id TEXT PRIMARY KEY, {_SCOPE}, external_account_id TEXT NOT NULL,
  status TEXT NOT NULL, inherits_from_connection_id TEXT REFERENCES service_connections(id) ON DELETE SET NULL,
  last_error TEXT NOT NULL DEFAULT '', created_at @ts, updated_at @ts, deleted_at @moment);
CREATE UNIQUE INDEX uq_service_connections_active_scope ON service_connections
  (provider_id, scope_type, scope_id, external_account_id) WHERE deleted_at IS NULL;
CREATE INDEX idx_service_connections_provider ON service_connections (provider_id);
CREATE TABLE service_credentials (id TEXT PRIMARY KEY, {_CONNECTION}, version INTEGER NOT NULL CHECK (version > 0),
  encrypted_payload @bytes NOT NULL, token_type TEXT NOT NULL, requested_scopes @list, granted_scopes @list,
  expires_at @moment, rotates_at @moment, refreshable @flag, status TEXT NOT NULL,
  grant_version INTEGER NOT NULL DEFAULT 1, encryption_key_id TEXT NOT NULL DEFAULT '',
  encryption_version INTEGER NOT NULL DEFAULT 1, revocation_reason TEXT NOT NULL DEFAULT '', created_at @ts,
  updated_at @ts, payload_format TEXT NOT NULL DEFAULT 'legacy_token', payload_version INTEGER NOT NULL DEFAULT 1,
  UNIQUE (connection_id, version));
CREATE UNIQUE INDEX uq_service_credentials_active ON service_credentials (connection_id) WHERE status = 'active';
CREATE TABLE service_events (id TEXT PRIMARY KEY, {_MAYBE}, {_SCOPE}, event_type TEXT NOT NULL, status TEXT NOT NULL,
  error TEXT NOT NULL DEFAULT '', metadata @map, created_at @ts);
CREATE TABLE service_activity_entries (id TEXT PRIMARY KEY, {_SCOPE}, {_MAYBE}, installation_id TEXT,
  subscription_id TEXT, sync_job_id TEXT, channel TEXT NOT NULL, action TEXT NOT NULL, object_type TEXT NOT NULL,
  object_id TEXT NOT NULL, actor TEXT NOT NULL, actor_type TEXT NOT NULL, status TEXT NOT NULL, metadata @map,
  created_at @ts);
CREATE INDEX idx_service_activity_entries_channel ON service_activity_entries (channel);
CREATE TABLE service_lifecycle_outbox (id TEXT PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, event_name TEXT NOT NULL,
  {_SCOPE}, {_MAYBE}, payload @map, metadata @map, status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_at @moment, last_error TEXT NOT NULL DEFAULT '', occurred_at @moment NOT NULL, created_at @ts,
  updated_at @ts);
CREATE TABLE service_notification_dispatches (id TEXT PRIMARY KEY, event_id TEXT NOT NULL, projector TEXT NOT NULL,
  definition_code TEXT NOT NULL, recipient_key TEXT NOT NULL, idempotency_key TEXT NOT NULL UNIQUE,
  status TEXT NOT NULL, error TEXT NOT NULL DEFAULT '', metadata @map, created_at @ts);
CREATE TABLE service_grant_events (id TEXT PRIMARY KEY, {_CONNECTION}, {_SCOPE}, event_type TEXT NOT NULL,
  requested_grants @list, granted_grants @list, added_grants @list, removed_grants @list, metadata @map,
  created_at @ts);
CREATE TABLE service_webhook_deliveries (id TEXT PRIMARY KEY, provider_id TEXT NOT NULL, delivery_id TEXT NOT NULL,
  status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, next_attempt_at @moment, payload @bytes, created_at @ts,
  updated_at @ts, UNIQUE (provider_id, delivery_id));
CREATE TABLE service_subscriptions (id TEXT PRIMARY KEY, {_CONNECTION}, provider_id TEXT NOT NULL,
  resource_type TEXT NOT NULL, resource_id TEXT NOT NULL, channel_id TEXT NOT NULL, remote_subscription_id TEXT,
  callback_url TEXT NOT NULL, verification_token_ref TEXT NOT NULL DEFAULT '', status TEXT NOT NULL,
  expires_at @moment, metadata @map, last_notified_at @moment, created_at @ts, updated_at @ts, deleted_at @moment);
CREATE UNIQUE INDEX uq_service_subscriptions_active_channel ON service_subscriptions (provider_id, channel_id)
  WHERE deleted_at IS NULL;
CREATE TABLE service_sync_cursors (id TEXT PRIMARY KEY, {_CONNECTION}, provider_id TEXT NOT NULL,
  resource_type TEXT NOT NULL, resource_id TEXT NOT NULL, cursor TEXT NOT NULL, status TEXT NOT NULL,
  last_synced_at @moment, metadata @map, created_at @ts, updated_at @ts,
  UNIQUE (connection_id, provider_id, resource_type, resource_id));
CREATE TABLE service_installations (id TEXT PRIMARY KEY, {_SCOPE}, install_type TEXT NOT NULL, status TEXT NOT NULL,
  granted_at @moment, revoked_at @moment, metadata @map, created_at @ts, updated_at @ts);
CREATE UNIQUE INDEX uq_service_installations_active ON service_installations
  (provider_id, scope_type, scope_id, install_type) WHERE status = 'active';
CREATE TABLE service_rate_limit_state (id TEXT PRIMARY KEY, {_SCOPE}, bucket_key TEXT NOT NULL,
  "limit" INTEGER NOT NULL, remaining INTEGER NOT NULL, reset_at @moment, retry_after INTEGER, metadata @map,
  created_at @ts, updated_at @ts);
CREATE UNIQUE INDEX uq_service_rate_limit_state_natural_key ON service_rate_limit_state
  (provider_id, scope_type, scope_id, bucket_key);
CREATE TABLE service_sync_jobs (id TEXT PRIMARY KEY, {_CONNECTION}, provider_id TEXT NOT NULL, mode TEXT NOT NULL,
  checkpoint TEXT, status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, next_attempt_at @moment, metadata @map,
  created_at @ts, updated_at @ts);
CREATE TABLE service_grant_snapshots (id TEXT PRIMARY KEY, {_CONNECTION}, {_SCOPE},
  version INTEGER NOT NULL CHECK (version > 0), requested_grants @list, granted_grants @list, metadata @map,
  captured_at @ts, created_at @ts, updated_at @ts, UNIQUE (connection_id, version));
CREATE TABLE service_mapping_specs (id TEXT PRIMARY KEY, spec_id TEXT NOT NULL, {_SCOPE}, name TEXT NOT NULL,
  description TEXT NOT NULL DEFAULT '', source_object TEXT NOT NULL, target_model TEXT NOT NULL,
  schema_ref TEXT NOT NULL DEFAULT '', version INTEGER NOT NULL CHECK (version > 0), status TEXT NOT NULL,
  rules @list, metadata @map, published_at @moment, created_at @ts, updated_at @ts,
  UNIQUE (provider_id, scope_type, scope_id, spec_id, version));
CREATE UNIQUE INDEX uq_service_mapping_specs_published_spec ON service_mapping_specs
  (provider_id, scope_type, scope_id, spec_id) WHERE status = 'published';
CREATE TABLE service_sync_bindings (id TEXT PRIMARY KEY, {_SCOPE}, {_CONNECTION},
  mapping_spec_id TEXT NOT NULL REFERENCES service_mapping_specs(id) ON DELETE CASCADE, source_object TEXT NOT NULL,
  target_model TEXT NOT NULL, direction TEXT NOT NULL, status TEXT NOT NULL, metadata @map, created_at @ts,
  updated_at @ts, UNIQUE (connection_id, mapping_spec_id, direction));
CREATE TABLE service_sync_checkpoints (id TEXT PRIMARY KEY, {_SCOPE}, {_CONNECTION}, {_BINDING},
  direction TEXT NOT NULL, cursor TEXT NOT NULL DEFAULT '', sequence_num @big NOT NULL DEFAULT 0
  CHECK (sequence_num >= 0), source_version TEXT NOT NULL DEFAULT '', idempotency_seed TEXT NOT NULL DEFAULT '',
  metadata @map, last_event_at @moment, created_at @ts, updated_at @ts,
  UNIQUE (sync_binding_id, direction, sequence_num));
CREATE TABLE service_identity_bindings (id TEXT PRIMARY KEY, {_SCOPE}, {_CONNECTION}, {_BINDING},
  source_object TEXT NOT NULL, external_id TEXT NOT NULL, internal_type TEXT NOT NULL, internal_id TEXT NOT NULL,
  match_kind TEXT NOT NULL, confidence @real NOT NULL DEFAULT 0 CHECK (confidence >= 0 AND confidence <= 1),
  metadata @map, created_at @ts, updated_at @ts, UNIQUE (sync_binding_id, external_id));
CREATE TABLE service_sync_conflicts (id TEXT PRIMARY KEY, {_SCOPE}, {_CONNECTION}, {_BINDING},
  checkpoint_id TEXT REFERENCES service_sync_checkpoints(id) ON DELETE SET NULL, source_object TEXT NOT NULL,
  external_id TEXT NOT NULL, source_version TEXT NOT NULL DEFAULT '', idempotency_key TEXT NOT NULL DEFAULT '',
  policy TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL, status TEXT NOT NULL, source_payload @map,
  target_payload @map, resolution @map, resolved_by TEXT NOT NULL DEFAULT '', resolved_at @moment, metadata @map,
  created_at @ts, updated_at @ts);
CREATE TABLE service_sync_change_log (id TEXT PRIMARY KEY, {_SCOPE}, {_CONNECTION}, {_BINDING},
  direction TEXT NOT NULL, source_object TEXT NOT NULL, external_id TEXT NOT NULL,
  source_version TEXT NOT NULL DEFAULT '', idempotency_key TEXT NOT NULL DEFAULT '', payload @map, metadata @map,
  occurred_at @moment NOT NULL, created_at @ts);
CREATE TABLE service_sync_job_idempotency (id TEXT PRIMARY KEY, scope_type TEXT NOT NULL, scope_id TEXT NOT NULL,
  provider_id TEXT NOT NULL, {_CONNECTION}, mode TEXT NOT NULL,
  idempotency_key TEXT NOT NULL CHECK (@trim(idempotency_key) <> ''),
  sync_job_id TEXT NOT NULL REFERENCES service_sync_jobs(id) ON DELETE CASCADE,
  requested_by TEXT NOT NULL DEFAULT '', created_at @ts, updated_at @ts);
CREATE UNIQUE INDEX uq_service_sync_job_idempotency_tuple ON service_sync_job_idempotency
  (scope_type, scope_id, provider_id, mode, idempotency_key)
"""

_ROWS: Final = """
INSERT INTO service_connections (id, provider_id, scope_type, scope_id, external_account_id, status, last_error,
  created_at, updated_at) VALUES
  ('c1', 'github', 'user', 'u1', '1001', 'active', '', '2026-01-02 03:04:05.123456+00:00', '2026-01-02T04:04:05Z'),
  ('c2', 'shopify', 'Org', 'o1', 'shop', 'errored', 'timeout', '2026-01-02 03:04:05', '2026-01-02 03:04:05'),
  ('c3', 'github', 'user', 'u2', '1002', 'disconnected', '', '2026-01-02 05:04:05+02:00', '2026-01-02 03:04:05');
UPDATE service_connections SET inherits_from_connection_id = 'c1' WHERE id = 'c3';
INSERT INTO service_credentials (id, connection_id, version, encrypted_payload, token_type, requested_scopes,
  granted_scopes, expires_at, refreshable, status, encryption_key_id, encryption_version, revocation_reason,
  created_at, updated_at, payload_format) VALUES
  ('k1', 'c1', 1, @cipher, 'bearer', '["repo"]', '["repo"]', NULL, @no, 'revoked', 'app-key', 1, 'rotated',
   '2026-01-02 03:04:05', '2026-01-02 03:04:05', 'legacy_token'),
  ('k2', 'c1', 2, @cipher, 'bearer', '["repo"]', '["repo"]', '2027-01-02 03:04:05', @yes, 'active', 'app-key', 2, '',
   '2026-01-02 03:04:06', '2026-01-02 03:04:06', 'active_credential_json'),
  ('k3', 'c2', 1, @cipher, 'api_key', 'null', 'null', NULL, @no, 'active', 'app-key', 1, '',
   '2026-01-02 03:04:05', '2026-01-02 03:04:05', 'active_credential_json'),
  ('k4', 'c3', 1, @empty, 'bearer', '[]', '[]', NULL, @no, 'expired', '', 1, '',
   '2026-01-02 03:04:05', '2026-01-02 03:04:05', 'legacy_token');
INSERT INTO service_events (id, connection_id, provider_id, scope_type, scope_id, event_type, status, error, metadata,
  created_at) VALUES ('e1', 'c1', 'github', 'user', 'u1', 'refresh', 'failure', 'HTTP 500', '{"a": 1}',
  '2026-01-02 03:04:05');
INSERT INTO service_activity_entries (id, provider_id, scope_type, scope_id, connection_id, channel, action,
  object_type, object_id, actor, actor_type, status, metadata, created_at) VALUES ('a1', 'github', 'user', 'u1', 'c1',
  'services.lifecycle', 'connection.connected', 'connection', 'c1', 'system', 'system', 'ok', '{"b": 2}',
  '2026-01-03 03:04:05');
INSERT INTO service_lifecycle_outbox (id, event_id, event_name, provider_id, scope_type, scope_id, connection_id,
  payload, status, attempts, next_attempt_at, last_error, occurred_at) VALUES
  ('o1', 'ev1', 'connection.connected', 'github', 'user', 'u1', 'c1', '{"n": 1}', 'delivered', 1, NULL, '',
   '2026-01-02 03:04:05'),
  ('o2', 'ev2', 'connection.connected', 'github', 'user', 'u1', 'c1', '{"n": 2}', 'pending', 0, NULL, '',
   '2026-01-02 03:04:05'),
  ('o3', 'ev3', 'connection.connected', 'github', 'user', 'u1', 'c1', '{"n": 3}', 'processing', 1, NULL, '',
   '2026-01-02 03:04:05'),
  ('o4', 'ev4', 'connection.connected', 'github', 'user', 'u1', NULL, '{"n": 4}', 'failed', 8, NULL, 'gave up',
   '2026-01-02 03:04:05');
INSERT INTO service_notification_dispatches (id, event_id, projector, definition_code, recipient_key,
  idempotency_key, status, error) VALUES
  ('n1', 'ev1', 'mail', 'welcome', 'u1', 'key-1', 'sent', ''),
  ('n2', 'ev1', 'mail', 'welcome', 'u2', 'key-2', 'failed', 'bounced');
INSERT INTO service_grant_events (id, connection_id, provider_id, scope_type, scope_id, event_type, metadata) VALUES
  ('g1', 'c1', 'github', 'user', 'u1', 'snapshot', '{"snapshot_version": 1}');
INSERT INTO service_grant_snapshots (id, connection_id, provider_id, scope_type, scope_id, version, requested_grants,
  granted_grants) VALUES ('c1:1', 'c1', 'github', 'user', 'u1', 1, '["repo"]', '["repo"]');
INSERT INTO service_webhook_deliveries (id, provider_id, delivery_id, status, attempts, next_attempt_at, payload)
  VALUES ('w1', 'github', 'd1', 'processed', 1, NULL, @body),
  ('w2', 'github', 'd2', 'retry_ready', 2, '2026-01-02 03:04:05', @body),
  ('w3', 'github', 'd3', 'dead', 8, NULL, NULL);
INSERT INTO service_subscriptions (id, connection_id, provider_id, resource_type, resource_id, channel_id,
  callback_url, status, expires_at, metadata) VALUES
  ('s1', 'c1', 'github', 'repo', 'r1', 'ch1', 'https://app.example/hooks', 'active', '2027-01-02 03:04:05', '{}'),
  ('s2', 'c1', 'github', 'repo', 'r2', 'ch2', 'https://app.example/hooks', 'cancelled', NULL,
   '{"status_reason": "not needed"}');
INSERT INTO service_sync_cursors (id, connection_id, provider_id, resource_type, resource_id, cursor, status,
  last_synced_at) VALUES ('y1', 'c1', 'github', 'issues', 'r1', 'AbC', 'active', '2026-01-02 03:04:05');
INSERT INTO service_installations (id, provider_id, scope_type, scope_id, install_type, status, granted_at,
  updated_at) VALUES
  ('i1', 'shopify', 'org', 'o1', 'app', 'suspended', '2026-01-01 00:00:00', '2026-01-02 00:00:00'),
  ('i2', 'shopify', 'org', 'o1', 'app', 'active', '2026-01-01 00:00:00', '2026-01-01 00:00:00');
INSERT INTO service_rate_limit_state (id, provider_id, scope_type, scope_id, bucket_key, "limit", remaining, reset_at,
  retry_after, metadata) VALUES ('r1', 'github', 'user', 'u1', 'core', 5000, 4999, '2036-01-02 03:04:05', 30,
  '{"_attempts": 1}');
INSERT INTO service_sync_jobs (id, connection_id, provider_id, mode, checkpoint, status, attempts, metadata) VALUES
  ('j1', 'c1', 'github', 'full', 'page-7', 'running', 1, '{"m": 1}'),
  ('j2', 'c1', 'github', 'delta', NULL, 'succeeded', 1, '{}');
INSERT INTO service_sync_job_idempotency (id, scope_type, scope_id, provider_id, connection_id, mode, idempotency_key,
  sync_job_id, requested_by) VALUES ('q1', 'user', 'u1', 'github', 'c1', 'full', 'once', 'j1', 'ops');
INSERT INTO service_mapping_specs (id, spec_id, provider_id, scope_type, scope_id, name, source_object, target_model,
  version, status, rules) VALUES ('m1', 'contacts', 'github', 'user', 'u1', 'Contacts', 'user', 'contact', 1,
  'published', '[{"from": "login"}]');
INSERT INTO service_sync_bindings (id, provider_id, scope_type, scope_id, connection_id, mapping_spec_id,
  source_object, target_model, direction, status) VALUES ('b1', 'github', 'user', 'u1', 'c1', 'm1', 'user', 'contact',
  'inbound', 'active');
INSERT INTO service_sync_checkpoints (id, provider_id, scope_type, scope_id, connection_id, sync_binding_id,
  direction, cursor, sequence_num) VALUES ('p1', 'github', 'user', 'u1', 'c1', 'b1', 'inbound', 'X', 3);
INSERT INTO service_identity_bindings (id, provider_id, scope_type, scope_id, connection_id, sync_binding_id,
  source_object, external_id, internal_type, internal_id, match_kind, confidence) VALUES ('t1', 'github', 'user', 'u1',
  'c1', 'b1', 'user', 'x1', 'contact', '7', 'exact', 0.5);
INSERT INTO service_sync_conflicts (id, provider_id, scope_type, scope_id, connection_id, sync_binding_id,
  checkpoint_id, source_object, external_id, reason, status, source_payload) VALUES ('f1', 'github', 'user', 'u1',
  'c1', 'b1', 'p1', 'user', 'x1', 'both changed', 'open', '{"login": "a"}');
INSERT INTO service_sync_change_log (id, provider_id, scope_type, scope_id, connection_id, sync_binding_id, direction,
  source_object, external_id, payload, occurred_at) VALUES ('l1', 'github', 'user', 'u1', 'c1', 'b1', 'inbound',
  'user', 'x1', '{"login": "a"}', '2026-01-02 03:04:05')
"""


def statements(dialect: GoDialect, *, rows: bool = True) -> list[str]:
    """SQL that makes the 21 tables in an empty database, and rows of every kind."""
    text = _TABLES + (";" + _ROWS if rows else "")
    for mark, meaning in _TYPES[dialect].items():
        text = text.replace(mark, meaning)
    return [part.strip() for part in text.split(";\n") if part.strip()]
