"""``go-services connections health``: what programs and people read, and the exit code for a monitor."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from go_services_core.testing.sandbox import SandboxProcess

from .conftest import Run
from .test_connect import connect


def test_health_says_when_what_ends_and_exits_with_1_when_somebody_is_needed(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    assert run("connections", "health").stdout == "There is no such connection.\n"
    made = connect()
    tokens = sandbox.requests()["token"]
    (found,) = json.loads(run("connections", "health", "--json").stdout)["connections"]
    assert (found["id"], found["verdict"], found["advice"], found["retry_at"]) == (made["id"], "ok", "", None)
    assert found["token_ends"] > found["next_renewal"] > made["created_at"]
    assert found["refresh_ends"] is None
    (alone,) = json.loads(run("connections", "health", made["id"], "--json").stdout)["connections"]
    assert alone == found
    shown = run("connections", "health").stdout
    assert shown.splitlines()[0].split()[:3] == ["ID", "VERDICT", "PROVIDER"]
    assert shown.splitlines()[1].split()[:3] == [made["id"], "ok", "sandbox"]
    lines = run("connections", "health", made["id"]).stdout.splitlines()
    assert {line.split("  ")[0] for line in lines} >= {"id", "verdict", "token ends", "refresh ends", "next renewal"}
    assert run("connections", "health", "--provider", "keyed").stdout == "There is no such connection.\n"
    assert run("connections", "health", "--scope", "user:other").stdout == "There is no such connection.\n"

    with closing(sqlite3.connect("go-services.db")) as database, database:
        database.execute("UPDATE service_credentials SET refresh_expires_at = datetime('now', '+3 days') || '.000000'")
    assert "reauth soon" in run("connections", "health").stdout
    assert (
        json.loads(run("connections", "health", "--within", "2d", "--json").stdout)["connections"][0]["verdict"] == "ok"
    )
    with closing(sqlite3.connect("go-services.db")) as database, database:
        database.execute("UPDATE service_connections SET status = 'pending_reauth', last_error = 'invalid_grant'")
    assert "action needed" in run("connections", "health", code=1).stdout
    told = json.loads(run("connections", "health", made["id"], "--json", code=1).stdout)["connections"][0]
    assert (told["verdict"], told["status"]) == ("action needed", "pending_reauth")
    assert sandbox.requests()["token"] == tokens


def test_wrong_times_and_ids_are_refused(ready: Path, run: Run) -> None:
    assert "7x" in run("connections", "health", "--within", "7x", code=2).stderr
    assert "36500d is the longest" in run("connections", "health", "--within", "99999999999999d", code=2).stderr
    assert "nobody" in run("connections", "health", "nobody", code=1).stderr


@pytest.mark.parametrize("option", [("--provider", "x"), ("--scope", "user:1"), ("--after", "x"), ("--limit", "5")])
def test_options_that_choose_among_all_do_not_go_with_one(ready: Path, run: Run, option: tuple[str, str]) -> None:
    assert option[0] in run("connections", "health", "some-id", *option, code=2).stderr


def test_pages_of_health_name_their_following_one(connected_config: Path, run: Run) -> None:
    made = connect()
    with closing(sqlite3.connect("go-services.db")) as database, database:
        database.execute(
            """INSERT INTO service_connections (id, provider_id, scope_type, scope_id, external_account_id, status,
            auth_kind, created_at, updated_at)
            SELECT 'z', provider_id, scope_type, 'two', external_account_id, 'active', auth_kind, created_at, updated_at
            FROM service_connections"""
        )
    first = json.loads(run("connections", "health", "--limit", "1", "--json").stdout)
    assert ([one["id"] for one in first["connections"]], first["next"]) == ([made["id"]], made["id"])
    assert "There are more: --after " in run("connections", "health", "--limit", "1").stdout
    last = json.loads(run("connections", "health", "--after", made["id"], "--json", code=1).stdout)
    assert [(one["id"], one["verdict"]) for one in last["connections"]] == [("z", "action needed")]
