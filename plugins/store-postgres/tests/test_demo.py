"""The whole runtime on PostgreSQL: the demo, whose last step reads every column of every table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from go_services_core.demo import run
from go_services_core.demo.steps import STEPS, Stage, Step


def outcome(url: str, keep: Path | None = None) -> tuple[int, dict[str, Any]]:
    lines: list[str] = []
    code = run(json=True, keep=keep, store=url, echo=lines.append)
    return code, json.loads("\n".join(lines))


def only(monkeypatch: pytest.MonkeyPatch, steps: list[Step]) -> None:
    monkeypatch.setattr(sys.modules["go_services_core.demo.run"], "STEPS", steps)


def test_demo_runs_unchanged_and_again(empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again without the steps that wait for leases."""
    slow = {"two-workers", "crash-after-rotation", "kill-worker"}
    for steps in (list(STEPS), [step for step in STEPS if step.id not in slow]):
        only(monkeypatch, steps)
        code, found = outcome(empty_url, tmp_path)
        assert (code, found["ok"]) == (0, True), found["steps"][-1]
        assert [step["id"] for step in found["steps"]] == [step.id for step in steps]
        assert found["database"].startswith("postgresql://")
        assert " tables (" in found["steps"][-1]["detail"]
    with psycopg.connect(empty_url, autocommit=True) as connection:
        cursor = connection.execute("SELECT DISTINCT status FROM service_connections")
        assert cursor.fetchall() == [("disconnected",)]


@pytest.mark.parametrize(
    "leak",
    [
        "INSERT INTO service_meta VALUES ('leak', convert_to(%s, 'UTF8'), now())",
        "UPDATE service_connections SET last_error = %s",
        """INSERT INTO service_lifecycle_outbox (id, event_id, event_name, provider_id, scope_type, scope_id, payload,
          status, occurred_at, created_at, updated_at) VALUES ('x', 'x', 'x', 'x', 'x', 'x',
          jsonb_build_object('deep', jsonb_build_array(%s::text)), 'delivered', now(), now(), now())""",
        "CREATE TABLE elsewhere AS SELECT encode(convert_to('Basic ' || %s, 'UTF8'), 'base64')::varchar AS header",
    ],
)
def test_secret_in_any_column_fails_the_last_step(empty_url: str, monkeypatch: pytest.MonkeyPatch, leak: str) -> None:
    (kept,) = (step for step in STEPS if step.id == "disconnect")

    async def leaking(stage: Stage) -> str:
        detail = await kept.run(stage)
        with psycopg.connect(empty_url, autocommit=True) as connection, psycopg.ClientCursor(connection) as cursor:
            cursor.execute(leak.encode(), [min(stage.sandbox.issued_secrets(), key=len)])
        return detail

    changed = Step(id=kept.id, name=kept.name, run=leaking, remedy=kept.remedy)
    needed = {"migrate", "connect", "consent", "callback", "webhook", "no-plaintext"}
    only(monkeypatch, [changed if step is kept else step for step in STEPS if step is kept or step.id in needed])
    code, found = outcome(empty_url)
    assert code == 1
    assert found["steps"][-1]["id"] == "no-plaintext"
    assert "holds a secret in clear" in found["steps"][-1]["detail"]


def test_database_with_another_key_fails_the_first_step(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, [step for step in STEPS if step.id in {"migrate", "connect", "consent", "callback"}])
    assert outcome(empty_url)[0] == 0
    code, found = outcome(empty_url)
    assert code == 1
    (step,) = found["steps"]
    assert (step["id"], step["ok"]) == ("migrate", False)
    assert "sealed with key" in step["detail"]


def test_password_of_the_url_is_neither_printed_nor_readable_by_others(tmp_path: Path) -> None:
    code, found = outcome("postgresql://app:s3cret-pw@127.0.0.1:1/shop", tmp_path)
    assert code == 1
    assert "s3cret-pw" not in json.dumps(found)
    assert (tmp_path / "go-services.toml").stat().st_mode & 0o077 == 0
