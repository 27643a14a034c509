"""``go-services subscriptions`` and ``installations`` against a provider in a process of its own."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from go_services_core.blocking import BlockingRuntime
from go_services_core.model import Scope
from go_services_core.testing.sandbox import SandboxProcess

from .conftest import Run

SUBSCRIPTIONS = """
[[providers.sandbox.operations]]
id = "subscriptions.create"
method = "POST"
path = "/subscriptions"
params = [{name = "notificationUrl", where = "body"}, {name = "resource", where = "body"}, {name = "expirationDateTime", where = "body"}, {name = "clientState", where = "body"}]

[[providers.sandbox.operations]]
id = "subscriptions.renew"
method = "PATCH"
path = "/subscriptions/{id}"
params = [{name = "id", where = "path"}, {name = "expirationDateTime", where = "body"}]

[[providers.sandbox.operations]]
id = "subscriptions.end"
method = "DELETE"
path = "/subscriptions/{id}"
params = [{name = "id", where = "path"}]

[[providers.sandbox.subscriptions]]
resource_type = "folder"
create = "subscriptions.create"
renew = "subscriptions.renew"
cancel = "subscriptions.end"
channel = "remote"
remote_id = "id"
expires = "expirationDateTime"
lifetime = 3600.0
send = {callback_url = "notificationUrl", token = "clientState", expires = "expirationDateTime", resource = "resource", remote_id = "id"}

[webhooks]
url = "https://app.example/webhooks"
"""


@pytest.fixture
def subscribing(connected_config: Path) -> str:
    """The configuration with subscriptions, and the id of a connection."""
    with (connected_config / "go-services.toml").open("a") as file:
        file.write(dedent(SUBSCRIPTIONS))
    return connect()


def connect() -> str:
    """A connection of ``user:1``, by a consent without a browser."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: Any) -> None:
            return None

    with BlockingRuntime.open("go-services.toml") as runtime:
        start = runtime.connect("sandbox", scope=Scope("user", "1"), redirect_uri="http://127.0.0.1/callback")
        try:
            urllib.request.build_opener(Stay).open(start.url)
            raise AssertionError("the sandbox answers with a redirect")
        except urllib.error.HTTPError as answer:
            query = urllib.parse.urlsplit(answer.headers["Location"]).query
            answer.close()
        return runtime.complete(query, binding=start.binding).id


def shown(run: Run, *args: str, code: int = 0) -> Any:
    return json.loads(run(*args, "--json", code=code).stdout)


def test_subscription_is_made_renewed_and_cancelled(subscribing: str, run: Run, sandbox: SandboxProcess) -> None:
    what = ("subscriptions", "create", subscribing, "folder", "inbox")
    assert "Would subscribe" in run(*what, "--dry-run").stdout
    assert "subscriptions.create" not in sandbox.requests()
    made = shown(run, *what)
    assert (made["status"], made["resource"]) == ("active", "inbox")
    assert made["callback_url"] == f"https://app.example/webhooks/sandbox/{subscribing}"
    assert shown(run, "subscriptions", "show", made["id"]) == made
    assert "verification" not in made
    assert "Would renew" in run("subscriptions", "renew", made["id"], "--dry-run").stdout
    assert "subscriptions.renew" not in sandbox.requests()
    renewed = shown(run, "subscriptions", "renew", made["id"])
    assert renewed["id"] == made["id"]
    assert renewed["expires_at"] > made["expires_at"]
    assert shown(run, "subscriptions", "cancel", made["id"], "--dry-run")["dry_run"] is True
    assert run("subscriptions", "cancel", made["id"]).stdout.startswith("Cancelled sandbox folder inbox.")
    assert sandbox.requests()["subscriptions.end"] == 1
    assert "There is no subscription 'none'" in run("subscriptions", "renew", "none", code=1).stderr
    assert "was cancelled" in run("subscriptions", "renew", made["id"], code=1).stderr


def test_subscriptions_are_listed_by_page_and_by_end(subscribing: str, run: Run) -> None:
    for number in range(3):
        run("subscriptions", "create", subscribing, "folder", str(number))
    listed = ("subscriptions", "list")
    first = shown(run, *listed, "--limit", "2")
    assert len(first["subscriptions"]) == 2
    rest = shown(run, *listed, "--after", first["next"])
    assert (len(rest["subscriptions"]), rest["next"]) == (1, None)
    assert len(shown(run, *listed, "--expiring-within", "2h")["subscriptions"]) == 3
    assert shown(run, *listed, "--expiring-within", "30m")["subscriptions"] == []
    assert shown(run, *listed, "--status", "expired")["subscriptions"] == []
    assert run(*listed, "--type", "nothing").stdout == "There is no such subscription.\n"
    assert "folder 0" in run(*listed, "--connection", subscribing, "--provider", "sandbox").stdout
    run(*listed, "--expiring-within", "soon", code=2)


def test_subscription_that_cannot_be_made_says_what_to_do(subscribing: str, run: Run) -> None:
    error = run("subscriptions", "create", subscribing, "mailbox", "1", code=1).stderr
    assert "does not say how 'mailbox' is subscribed to" in error
    assert "subscriptions to folder" in error


def test_installations_are_listed_and_uninstalled(subscribing: str, run: Run) -> None:
    with BlockingRuntime.open("go-services.toml") as runtime:
        made = runtime.install("sandbox", scope=Scope("user", "1"))
        runtime.install("sandbox", scope=Scope("org", "o1"), install_type="bot")
    assert len(shown(run, "installations", "list")["installations"]) == 2
    (one,) = shown(run, "installations", "list", "--scope", "user:1", "--status", "active")["installations"]
    assert one == shown(run, "installations", "show", made.id)
    assert "bot" in run("installations", "list", "--type", "bot").stdout
    first = shown(run, "installations", "list", "--limit", "1")
    assert len(shown(run, "installations", "list", "--after", first["next"])["installations"]) == 1
    assert "Would uninstall" in run("installations", "uninstall", made.id, "--dry-run").stdout
    assert "Nothing was changed" in run("installations", "uninstall", made.id, input="n\n", code=1).stderr
    assert shown(run, "installations", "show", made.id)["status"] == "active"
    ended = shown(run, "installations", "uninstall", made.id, "--yes", "--disconnect", "--reason", "closed")
    assert (ended["installation"]["status"], ended["installation"]["reason"]) == ("uninstalled", "closed")
    assert ended["disconnected"] == [subscribing]
