"""``go-services webhooks``: what was accepted, what became of it, and having it handled once more."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from pathlib import Path

import pytest

from go_services_core import InboundRequest, Runtime
from go_services_core.testing.sandbox import SandboxProcess
from go_services_core.testing.sandbox.webhooks import sign

from .conftest import Run

WEBHOOK = """
[providers.sandbox.webhook]
scheme = "hmac"
signature_header = "webhook-signature"
encoding = "base64"
prefix = "v1,"
signed = ["id", "timestamp", "body"]
id_header = "webhook-id"
timestamp_header = "webhook-timestamp"
event_field = "type"
"""


def request(sandbox: SandboxProcess, id: str, body: bytes) -> InboundRequest:
    stamp = int(time.time())
    headers = {
        "User-Agent": "sandbox/1",
        "Authorization": "Bearer not-for-your-eyes",
        "webhook-id": id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": sign(sandbox.webhook_secret, id, stamp, body),
    }
    return InboundRequest("POST", "/hooks?key=not-for-your-eyes", tuple(headers.items()), body)


@pytest.fixture
def ids(connected_config: Path, sandbox: SandboxProcess) -> list[str]:
    """Three deliveries: one dead at its handler, one delivered, one in quarantine."""

    folder, file = connected_config, connected_config / "go-services.toml"
    (folder / "webhook.secret").write_text(sandbox.webhook_secret.reveal())
    (folder / "webhook.secret").chmod(0o600)
    text = file.read_text()
    assert "[providers.sandbox]\n" in text
    secrets = '[providers.sandbox]\nwebhook_secrets = ["file:webhook.secret"]\n'
    file.write_text(text.replace("[providers.sandbox]\n", secrets) + WEBHOOK)

    async def fill() -> list[str]:
        async with Runtime.open("go-services.toml") as runtime:

            async def handler(event: object, context: object) -> None: ...

            await runtime.on("webhook.*", handler, name="app.book")
            made = [
                await runtime.accept_webhook("sandbox", request(sandbox, id, body))
                for id, body in (
                    ("d-1", b'{"type": "paid"}'),
                    ("d-2", b'{"type": "sent"}'),
                    ("d-2", b'{"type": "else"}'),
                )
            ]
            await runtime.run_due("inbox")
            queues = runtime._core.store.queues
            for claim in await queues.claim("outbox", owner="x", lease=60, limit=9, handlers=["app.book"]):
                assert claim.event is not None
                dead = claim.event.name == "webhook.paid"
                await queues.settle(claim, "dead" if dead else "done", error="It broke." if dead else "")
            return [one.id for one in made]

    return asyncio.run(fill())


def test_deliveries_are_listed_in_pages_and_by_what_became_of_them(ids: list[str], run: Run) -> None:
    def listed(*options: str) -> list[str]:
        return [one["id"] for one in json.loads(run("webhooks", *options, "--json").stdout)["deliveries"]]

    assert listed("list") == ids
    assert listed("list", "--status", "quarantined") == ids[2:]
    assert listed("list", "--event", "sent") == [ids[1]]
    assert listed("list", "--provider", "keyed") == []
    assert listed("list", "--since", "1h") == ids
    assert listed("list", "--until", "1h") == []
    assert listed("list", "--since", "2020-01-01T00:00Z", "--until", "2020-01-02T00:00Z") == []
    assert listed("dead") == [ids[0]]
    first = run("webhooks", "list", "--limit", "2").stdout
    assert f"--after {ids[1]}" in first
    assert listed("list", "--after", ids[1]) == ids[2:]
    assert "1 dead" in run("webhooks", "dead").stdout


@pytest.mark.parametrize("value", ["yesterday", "2026-07-01T12:00", "99999999999d"])
def test_time_that_cannot_be_read_is_refused(ready: Path, run: Run, value: str) -> None:
    assert "--since" in run("webhooks", "list", "--since", value, code=2).stderr


def test_show_tells_all_but_secrets_and_writes_the_body(ids: list[str], run: Run, folder: Path) -> None:
    told = run("webhooks", "show", ids[0], "--body", "body.json")
    assert "It broke." in told.stdout
    assert "POST /hooks?…" in told.stdout
    assert "sandbox/1" in told.stdout
    found = json.loads(run("webhooks", "show", ids[0], "--json").stdout)
    assert (found["delivery_id"], found["body_bytes"], found["status"]) == ("d-1", 16, "processed")
    assert [(row["handler"], row["status"], row["attempts"]) for row in found["handlers"]] == [("app.book", "dead", 1)]
    assert ["webhook-signature", "********"] in found["headers"]
    assert "not-for-your-eyes" not in told.stdout + json.dumps(found)
    body = folder / "body.json"
    assert body.read_bytes() == b'{"type": "paid"}'
    assert stat.S_IMODE(body.stat().st_mode) == 0o600
    assert run("webhooks", "show", ids[0], "--body", "-").stdout == '{"type": "paid"}'
    assert run("webhooks", "show", ids[0], "--body", "body.json", code=1).stderr.startswith("error:")
    assert "nobody" in run("webhooks", "show", "nobody", code=1).stderr


def test_replay_counts_and_happens_once(ids: list[str], run: Run) -> None:
    def replayed(*options: str) -> tuple[int, int]:
        found = json.loads(run("webhooks", "replay", *options, "--json").stdout)
        return found["seen"], found["handlers"]

    assert replayed("--all", "--dry-run") == (1, 1)
    assert (
        "Would replay 1 handler and 0 deliveries of 1 that was looked at."
        in run("webhooks", "replay", ids[0], "--dry-run").stdout
    )
    assert replayed(ids[1]) == (1, 0)
    assert "Nothing of it is dead; --again" in run("webhooks", "replay", ids[1]).stdout
    assert "other" in run("webhooks", "replay", "--since", "1h", "--handler", "other", code=1).stderr
    assert replayed("--since", "1h") == (1, 1)
    assert replayed("--all") == (0, 0)
    assert replayed(ids[1], "--again") == (1, 1)


@pytest.mark.parametrize("options", [(), ("some-id", "--all"), ("some-id", "--since", "1h"), ("--all", "--again")])
def test_replay_wants_to_know_of_what(ready: Path, run: Run, options: tuple[str, ...]) -> None:
    assert "error:" in run("webhooks", "replay", *options, code=2).stderr


def test_quarantine_ends_by_release_or_drop(ids: list[str], run: Run) -> None:
    assert "Would be dropped" in run("webhooks", "release", ids[2], "--drop", "--dry-run").stdout
    assert json.loads(run("webhooks", "release", ids[2], "--json").stdout)["released"] is True
    assert "not quarantined" in run("webhooks", "release", ids[2], code=1).stdout
    assert "not quarantined" in run("webhooks", "release", ids[0], "--drop", code=1).stdout
