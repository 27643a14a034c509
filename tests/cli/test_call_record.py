"""``go-services call --record``: what was asked and answered, as a file without secrets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from go_services_core.http import HttpRequest
from go_services_core.testing.replay import ReplayTransport
from go_services_core.testing.sandbox import SandboxProcess

from .conftest import Run
from .test_connect import connect


def test_recording_of_a_call_can_be_played_and_holds_no_token(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    """P47"""
    id, path = connect()["id"], connected_config / "recordings" / "items.json"
    shown = json.loads(run("call", id, "items.list", "--param", "per_page=2", "--record", str(path)).stdout)
    text = path.read_text("utf-8")
    (exchange,) = json.loads(text)["exchanges"]
    assert dict(exchange["request"]["headers"])["Authorization"] == "Bearer REDACTED-1"
    assert "sbx_" not in text
    assert exchange["response"]["json"] == shown
    request = HttpRequest("GET", f"{sandbox.url}/items?per_page=2")
    answer = asyncio.run(ReplayTransport(path).send(request, provider_id="sandbox"))
    assert json.loads(answer.body) == shown


def test_call_that_fails_is_recorded_too_and_every_page_of_a_list(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    id = connect()["id"]
    run("call", id, "items.list", "--param", "per_page=50", "--all-pages", "--record", "pages.json")
    pages = json.loads(Path("pages.json").read_text("utf-8"))["exchanges"]
    assert len(pages) > 1
    run("call", id, "items.create", "--param", "name=", "--record", "refused.json", code=1)
    (refused,) = json.loads(Path("refused.json").read_text("utf-8"))["exchanges"]
    assert refused["request"]["json"] == {"name": ""}
    assert 400 <= refused["response"]["status"] < 500


def test_dry_run_and_a_call_that_is_wrong_write_no_recording(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    id = connect()["id"]
    run("call", id, "items.list", "--dry-run", "--record", "none.json")
    run("call", id, "items.lost", "--record", "none.json", code=1)
    assert not Path("none.json").exists()


def test_recording_that_cannot_be_written_is_told(connected_config: Path, sandbox: SandboxProcess, run: Run) -> None:
    id = connect()["id"]
    Path("file").write_text("in the way")
    failed = run("call", id, "items.list", "--record", "file/items.json", code=2)
    assert "cannot be written" in failed.stderr
