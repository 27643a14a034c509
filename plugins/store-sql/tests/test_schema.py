"""The frozen migrations and the models describe one schema."""

from __future__ import annotations

import re
import sqlite3

from go_services_store_sql.dialect import SQLITE
from go_services_store_sql.migrations import migrations
from go_services_store_sql.models import MODELS
from go_services_store_sql.schema import ddl

Objects = dict[str, str]


def objects(statements: list[str]) -> Objects:
    connection = sqlite3.connect(":memory:")
    for text in statements:
        connection.execute(text)
    made = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: re.sub(r"\s+", " ", text) for name, text in made}


def test_migrations_make_what_the_models_declare() -> None:
    migrated = [text for migration in migrations("sqlite") for text in migration.statements]
    assert objects(migrated) == objects(ddl(SQLITE))


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [migration.number for migration in migrations("sqlite")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_released_migration_is_unchanged() -> None:
    checksums = {migration.number: migration.checksum for migration in migrations("sqlite")}
    assert checksums[1] == "3e3a97e24f55f7b51475f30ef14bba4d6ae4b01964eacfa4e2b59ea0d915a357"


def test_claims_find_what_is_due_by_an_index() -> None:
    from go_services_store_sql import fan_out, inbox, jobs, outbox

    connection = sqlite3.connect(":memory:")
    for text in ddl(SQLITE):
        connection.execute(text)
    for statement, index in (
        (inbox.CLAIM, "ix_service_webhook_deliveries_due"),
        (outbox.CLAIM, "ix_service_event_deliveries_due"),
        (fan_out.TAKE_PENDING, "sqlite_autoindex_service_pending_events_1"),
        (jobs.CLAIM, "ix_service_sync_jobs_due"),
    ):
        compiled = statement.compiled(SQLITE)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.places)).fetchall()
        assert index in " ".join(line[-1] for line in plan)
    connection.close()


def test_claims_walk_the_due_rows_in_order_and_look_up_earlier_ones_of_a_key() -> None:
    from go_services_store_sql import inbox, jobs, outbox

    connection = sqlite3.connect(":memory:")
    for text in ddl(SQLITE):
        connection.execute(text)
    for statement, table, key in (
        (inbox.CLAIM, "service_webhook_deliveries", "provider_id=? AND order_key=? AND id<?"),
        (outbox.CLAIM, "service_event_deliveries", "handler=? AND order_key=? AND event_id<?"),
        (outbox.CLAIM, "service_pending_events", "order_key=? AND event_id<?"),
        (jobs.CLAIM, "service_sync_jobs", "kind=? AND order_key=? AND id<?"),
    ):
        compiled = statement.compiled(SQLITE)
        lines = connection.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.places)).fetchall()
        plan = "\n".join(line[-1] for line in lines)
        assert f"INDEX ix_{table}_order ({key})" in plan
        assert "_due (next_attempt_at<?)" in plan
        assert "TEMP B-TREE" not in plan
        assert "SCAN service_" not in plan
    connection.close()


def test_every_table_has_the_prefix_of_the_system() -> None:
    assert {model._meta.table_name.partition("_")[0] for model in MODELS} == {"service"}


def test_unsettled_intent_is_found_by_an_index_of_the_unsettled_alone() -> None:
    from go_services_store_sql import refresh

    connection = sqlite3.connect(":memory:")
    for text in ddl(SQLITE):
        connection.execute(text)
    earlier = re.search(r"\((SELECT earlier\.id .*)\)", refresh.INSERT_INTENT.compiled(SQLITE).text, re.DOTALL)
    assert earlier is not None
    plan = connection.execute(f"EXPLAIN QUERY PLAN {earlier[1]}", [None] * earlier[1].count("?")).fetchall()
    assert "ix_service_refresh_intents_unsettled (resource=? AND fence<?)" in plan[0][-1]
    connection.close()


def test_connections_of_an_account_are_found_by_an_index() -> None:
    from go_services_store_sql import connections

    connection = sqlite3.connect(":memory:")
    for text in ddl(SQLITE):
        connection.execute(text)
    listing = connections._listing(frozenset(("provider_id", "external_account_id", "status"))).compiled(SQLITE)
    plan = connection.execute(f"EXPLAIN QUERY PLAN {listing.text}", [None] * len(listing.places)).fetchall()
    assert "ix_service_connections_account (provider_id=? AND external_account_id=?" in plan[0][-1]
    connection.close()


def test_credentials_that_are_due_are_walked_in_order_by_an_index() -> None:
    from go_services_store_sql import outlook

    connection = sqlite3.connect(":memory:")
    for text in ddl(SQLITE):
        connection.execute(text)
    for column, index in (("expires_at", "ending"), ("created_at", "unused")):
        compiled = outlook.DUE[column].compiled(SQLITE)
        lines = connection.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.places)).fetchall()
        plan = "\n".join(line[-1] for line in lines)
        assert plan.startswith(
            f"SEARCH credential USING INDEX ix_service_credentials_{index} (({column},connection_id)>"
        )
        assert "TEMP B-TREE" not in plan
        assert "SCAN" not in plan
    connection.close()


def test_dead_deliveries_are_found_by_the_indexes_of_what_is_dead() -> None:
    from go_services_store_sql import inbox_replay

    connection = sqlite3.connect(":memory:")
    for text in ddl(SQLITE):
        connection.execute(text)
    for names in (("dead",), ("provider_id", "dead")):
        compiled = inbox_replay.listing(names).compiled(SQLITE)
        lines = connection.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.places)).fetchall()
        plan = "\n".join(line[-1] for line in lines)
        assert "SEARCH service_webhook_deliveries USING INDEX ix_service_webhook_deliveries_dead (id>?)" in plan
        assert "SEARCH service_event_deliveries USING INDEX ix_service_event_deliveries_dead (event_id>?)" in plan
        assert "SEARCH item USING INDEX sqlite_autoindex_service_webhook_deliveries_1 (id=?)" in plan
    connection.close()
