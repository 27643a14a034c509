"""``go-services activity``: pages, filters, and files that can be gone on with."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from go_services_core import Scope
from go_services_core.blocking import BlockingRuntime
from go_services_core.cli import activity as command
from go_services_core.cli.activity_file import ActivityFile
from go_services_core.resources import Activity

from .conftest import Run

START = datetime(2026, 1, 1, tzinfo=UTC)


def entry(number: int, **fields: Any) -> Activity:
    given: dict[str, Any] = {
        "id": f"e{number:03}",
        "provider_id": "github",
        "scope": Scope("user", f"u{number % 2}"),
        "action": "app.did",
        "object_id": "1",
        "metadata": {"number": number, "text": 'ü "quoted",\nline'},
        "created_at": START + timedelta(minutes=number // 2),
    }
    return Activity(**{**given, **fields})


@pytest.fixture
def log(ready: Path) -> Path:
    """Entries 0 to 24, two of the same time each, the last an error of an actor with a formula for a name."""
    with BlockingRuntime.open(ready / "go-services.toml") as runtime:
        runtime.record_activity(entry(number) for number in range(24))
        runtime.record_activity([entry(24, status="error", action="app.failed", actor="=1+1")])
    return ready


def test_entries_are_listed_newest_first_a_page_at_a_time(log: Path, run: Run) -> None:
    first = json.loads(run("activity", "list", "--limit", "20", "--json").stdout)
    rest = json.loads(run("activity", "list", "--limit", "20", "--json", "--after", first["next"]).stdout)
    assert [one["id"] for one in (*first["activity"], *rest["activity"])] == [f"e{n:03}" for n in range(24, -1, -1)]
    assert rest["next"] is None
    assert first["activity"][1]["metadata"]["number"] == 23
    shown = run("activity", "list", "--limit", "1").stdout
    assert "app.failed" in shown
    assert f"There are more: --after '{START + timedelta(minutes=12):%Y-%m-%dT%H:%M:%S}" in shown
    assert run("activity", "list", "--action", "app.none").stdout == "There is no such entry.\n"


def test_who_finds_nothing_is_told_that_the_log_is_off(ready: Path, run: Run) -> None:
    for words in (("list",), ("list", "--json"), ("export", "log.jsonl", "--dry-run")):
        assert "until [activity] enabled is true" in run("activity", *words).stderr
    with (ready / "go-services.toml").open("a") as config:
        config.write("\n[activity]\nenabled = true\n")
    shown = run("activity", "list")
    assert (shown.stdout, shown.stderr) == ("There is no such entry.\n", "")


def test_filters_choose_entries(log: Path, run: Run) -> None:
    def ids(*options: str) -> list[str]:
        return [one["id"] for one in json.loads(run("activity", "list", "--json", *options).stdout)["activity"]]

    assert ids("--status", "error") == ids("--action", "app.failed") == ["e024"]
    assert ids("--scope", "user:u1", "--until", "2026-01-01T00:02Z") == ["e003", "e001"]
    assert ids("--since", "2026-01-01T01:12+01:00") == ["e024"]
    assert run("activity", "list", "--since", "yesterday", code=2).stderr.count("is neither a time") == 1


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_export_has_every_entry_in_a_stable_order(
    log: Path, run: Run, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PAGE", 4)
    file = log / f"log.{form}"
    would = json.loads(run("activity", "export", str(file), "--format", form, "--dry-run", "--json").stdout)
    assert (would["entries"], file.exists()) == (25, False)
    done = run("activity", "export", str(file))  # the file's name tells the format
    assert done.stdout == f"Wrote 25 entries to {file}.\n"
    assert done.stderr.splitlines()[-1] == "25 entries"  # progress, page by page
    assert len(done.stderr.splitlines()) == 7
    rows = read(file, form)
    assert [row["id"] for row in rows] == [f"e{n:03}" for n in range(24, -1, -1)]
    assert rows[1]["metadata"] == entry(23).metadata
    assert (rows[1]["scope"], rows[1]["created_at"]) == ("user:u1", "2026-01-01T00:11:00+00:00")
    assert rows[0]["actor"] == ("'=1+1" if form == "csv" else "=1+1")
    assert file.stat().st_mode & 0o077 == 0
    assert not file.with_name(f"{file.name}.state").exists()
    again = run("activity", "export", str(file), "--format", form, code=2)
    assert "There is a file" in again.stderr
    assert [row["id"] for row in read(file, form)] == [row["id"] for row in rows]


def read(file: Path, form: str) -> list[dict[str, Any]]:
    if form == "jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    with file.open(encoding="utf-8", newline="") as opened:
        return [{**row, "metadata": json.loads(row["metadata"])} for row in csv.DictReader(opened)]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_export_that_was_interrupted_goes_on_where_it_was(
    log: Path, run: Run, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PAGE", 4)
    file, options = log / "log", ("--format", form, "--scope", "user:u1")
    add, pages = ActivityFile.add, []

    def dies(self: ActivityFile, entries: Any, after: Any) -> None:
        add(self, entries, after)
        pages.append(after)
        if len(pages) == 2:
            self._file.write(b'{"half a page')
            self._file.flush()
            raise OSError("the disk is full")

    monkeypatch.setattr(ActivityFile, "add", dies)
    assert "the disk is full" in run("activity", "export", str(file), *options, code=1).stderr
    monkeypatch.setattr(ActivityFile, "add", add)
    with BlockingRuntime.open(log / "go-services.toml") as runtime:  # came meanwhile: for the next export
        runtime.record_activity([entry(101, created_at=datetime.now(UTC))])
    assert "began with other options" in run("activity", "export", str(file), "--resume", code=2).stderr
    done = run("activity", "export", str(file), *options, "--resume")
    assert done.stdout == f"Wrote 12 entries to {file}.\n"
    assert [row["id"] for row in read(file, form)] == [f"e{n:03}" for n in range(23, -1, -2)]
    assert "to go on with" in run("activity", "export", str(file), *options, "--resume", code=2).stderr
