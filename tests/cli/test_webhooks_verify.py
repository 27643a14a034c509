"""``go-services webhooks verify``: a captured request, a verdict, and nothing kept."""

from __future__ import annotations

import json
import os
import pty
import select
import sqlite3
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest

from go_services_core.cli.captured_request import read_request
from go_services_core.errors import BadInput
from go_services_core.secret import SecretStr
from go_services_core.testing.sandbox import SandboxProcess
from go_services_core.testing.sandbox.webhooks import sign as sandbox_sign
from go_services_core.webhooks.standard import sign

from .conftest import Run

SECRET = "whsec_" + b64encode(b"k" * 32).decode()
AT = datetime(2026, 1, 1, tzinfo=UTC)
BODY = b'{"type": "item.made", "n": 1.0}'


def captured(folder: Path, *, body: bytes = BODY, end: bytes = b"\r\n", tail: bytes = b"") -> Path:
    headers = sign(body, id="msg_1", timestamp=AT, secrets=[SecretStr(SECRET)])
    head = [b"POST /hooks?x=1 HTTP/1.1", b"Host: app.example.com", f"Content-Length: {len(BODY)}".encode()]
    head += [f"{name}: {value}".encode() for name, value in headers]
    path = folder / "delivery.http"
    path.write_bytes(end.join(head) + end + end + body + tail)
    (folder / "secret").write_text(SECRET + "\n")
    return path


DECLARED = """
[providers.shop]
auth = { kind = "api_key" }
webhook_secrets = ["file:hook.secret"]

[providers.shop.webhook]
scheme = "hmac"
signature_header = "webhook-signature"
encoding = "base64"
prefix = "v1,"
signed = ["id", "timestamp", "body"]
id_header = "webhook-id"
timestamp_header = "webhook-timestamp"
event_field = "type"
handshake = { where = "query", challenge = "challenge", token = "token", when = { mode = "subscribe" } }
"""
STANDARD = ("--scheme", "standard", "--secret-file", "secret", "--at", "2026-01-01T00:01:00Z")


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_an_authentic_delivery_is_said_to_be_verified(folder: Path, run: Run, end: bytes) -> None:
    path = captured(folder, end=end, tail=b"\n")  # what an editor puts at the end
    said = json.loads(run("webhooks", "verify", str(path), *STANDARD, "--json").stdout)
    assert said == {
        "verdict": "verified",
        "delivery_id": "msg_1",
        "event": "item.made",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "channel": "",
        "resource": "",
    }
    assert sorted(path.name for path in folder.iterdir()) == ["delivery.http", "secret"]


def test_the_request_may_come_from_standard_input(folder: Path, run: Run) -> None:
    text = captured(folder).read_bytes().decode()
    assert "msg_1" in run("webhooks", "verify", "-", *STANDARD, input=text).stdout


def test_unix_seconds_say_when_it_came(folder: Path, run: Run) -> None:
    at = ("--at", str(int(AT.timestamp())))
    assert "verified" in run("webhooks", "verify", str(captured(folder)), *STANDARD[:4], *at).stdout


def test_an_old_capture_is_rejected_with_the_reason(folder: Path, run: Run) -> None:
    path = captured(folder)
    said = run("webhooks", "verify", str(path), "--scheme", "standard", "--secret-file", "secret", code=1).stdout
    assert "rejected" in said
    assert "the timestamp is outside the tolerance" in said


def on_a_terminal(*args: str, typed: str) -> tuple[int, str]:
    """Exit code and everything that a person sees who types ``typed`` when asked."""
    primary, secondary = pty.openpty()
    command = [str(Path(sys.executable).with_name("go-services")), *args]
    shown = b""
    with subprocess.Popen(
        command, stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True
    ) as running:
        os.close(secondary)
        try:
            while b"Secret: " not in shown:
                shown += os.read(primary, 65_536)
            os.write(primary, typed.encode() + b"\n")
            while running.poll() is None or select.select([primary], [], [], 0)[0]:
                if select.select([primary], [], [], 0.1)[0]:
                    shown += os.read(primary, 65_536)
        except OSError:  # Linux's word for the end of what is shown
            pass
        finally:
            os.close(primary)
            code = running.wait(timeout=60)
    return code, shown.decode()


def test_a_secret_is_asked_for_and_not_shown(folder: Path) -> None:
    path = captured(folder)
    asked = ("webhooks", "verify", str(path), "--scheme", "standard", "--at", "2026-01-01T00:00:00Z")
    code, shown = on_a_terminal(*asked, typed=SECRET)
    assert (code, "verified" in shown, SECRET in shown, "Warning" in shown) == (0, True, False, False)
    wrong = "whsec_" + b64encode(b"w" * 32).decode()
    code, shown = on_a_terminal(*asked, typed=wrong)
    assert (code, "no signature matches" in shown, wrong in shown) == (1, True, False)


def test_without_a_terminal_the_secret_must_be_in_a_file_or_variable(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, at = captured(folder), ("--at", "2026-01-01T00:00:00Z")
    for file, given in ((str(path), SECRET + "\n"), ("-", path.read_bytes().decode())):
        refused = run("webhooks", "verify", file, "--scheme", "standard", *at, input=given, code=2)
        assert "--secret-file or --secret-env" in refused.stderr
        assert "Warning" not in refused.stderr
    named = ("webhooks", "verify", str(path), "--scheme", "standard", *at, "--secret-env", "HOOK_SECRET")
    assert "HOOK_SECRET is not set" in run(*named, code=2).stderr
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    said = run(*named)
    assert "verified" in said.stdout
    assert SECRET not in said.stdout + said.stderr


def test_a_vendors_record_and_its_fields_can_be_given(folder: Path, run: Run) -> None:
    """docs.github.com: Validating webhook deliveries, "Testing the webhook payload validation"."""
    request = (
        b"POST /hooks HTTP/1.1\r\nX-GitHub-Delivery: d-1\r\nX-GitHub-Event: ping\r\nX-Hub-Signature-256: "
        b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\r\n\r\nHello, World!"
    )
    (folder / "github.http").write_bytes(request)
    (folder / "secret").write_text("It's a Secret to Everybody")
    with_secret = ("--secret-file", "secret", "--json")
    said = json.loads(run("webhooks", "verify", "github.http", "--scheme", "github", *with_secret).stdout)
    assert (said["delivery_id"], said["event"]) == ("d-1", "ping")
    given = ("--option", "event_header=X-GitHub-Delivery")
    said = json.loads(run("webhooks", "verify", "github.http", "--scheme", "github", *given, *with_secret).stdout)
    assert said["event"] == "d-1"
    options = ("signature_header=X-Hub-Signature-256", "prefix=sha256=", "id_header=X-GitHub-Delivery", "signed=body")
    stated = [part for option in options for part in ("--option", option)]
    said = json.loads(run("webhooks", "verify", "github.http", "--scheme", "hmac", *stated, *with_secret).stdout)
    assert said["event"] == "unknown"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "--provider or --scheme"),
        (("--scheme", "standard", "--provider", "x"), 2, "--provider or --scheme"),
        (("--provider", "x", "--option", "a=b"), 2, "--option belongs to --scheme"),
        (("--scheme", "nonsense"), 4, "stripe"),
        (("--scheme", "hmac", "--option", "prefix=a"), 2, "signature_header"),
        (("--scheme", "hmac", "--option", "signature_heder=a"), 2, "signature_header"),
        (("--scheme", "stripe", "--option", "tolerance=soon"), 2, "number"),
        (("--scheme", "stripe", "--option", "tolerance=nan"), 2, "tolerance"),
        (("--scheme", "stripe", "--option", "nonsense=1"), 2, "no such setting"),
        (("--scheme", "stripe", "--option", "nonsense"), 2, "FIELD=VALUE"),
        (("--scheme", "twilio"), 2, "public_url"),
        (("--scheme", "stripe", "--at", "soon"), 2, "not a time"),
        (("--scheme", "stripe", "--at", "2026-01-01T00:00:00"), 2, "not a time"),
    ],
)
def test_what_cannot_be_used_is_named(folder: Path, run: Run, arguments: tuple[str, ...], code: int, says: str) -> None:
    path = captured(folder)
    result = run("webhooks", "verify", str(path), *arguments, "--secret-file", "secret", code=code)
    assert says in result.stderr


def test_a_scheme_that_asks_another_server_wants_a_provider(folder: Path, run: Run) -> None:
    (folder / "push.http").write_bytes(b"POST /push HTTP/1.1\r\nAuthorization: Bearer a.b.c\r\n\r\n{}")
    options = ("--option", "audience=https://a.example", "--option", "email=a@b.example")
    result = run("webhooks", "verify", "push.http", "--scheme", "oidc", *options, code=2)
    assert "--provider" in result.stderr


def test_a_providers_record_and_secrets_are_used_and_nothing_is_stored(
    connected_config: Path, sandbox: SandboxProcess, run: Run
) -> None:
    (connected_config / "hook.secret").write_text(sandbox.webhook_secret.reveal())
    with (connected_config / "go-services.toml").open("a") as file:
        file.write(DECLARED)
    stamp = int(datetime.now(UTC).timestamp())
    signature = sandbox_sign(sandbox.webhook_secret, "d-1", stamp, BODY)
    head = (
        f"POST /webhooks/sandbox HTTP/1.1\nwebhook-id: d-1\nwebhook-timestamp: {stamp}\nwebhook-signature: {signature}"
    )
    Path("delivery.http").write_bytes(head.encode() + b"\n\n" + BODY)
    said = json.loads(run("webhooks", "verify", "delivery.http", "--provider", "shop", "--json").stdout)
    assert (said["verdict"], said["event"]) == ("verified", "item.made")
    Path("other").write_text("another-webhook-secret")
    other = ("--secret-file", "other")
    assert "no signature" in run("webhooks", "verify", "delivery.http", "--provider", "shop", *other, code=1).stdout
    Path("changed.http").write_bytes(head.encode() + b"\n\n" + BODY + b" ")
    run("webhooks", "verify", "changed.http", "--provider", "shop", code=1)
    assert "no webhooks" in run("webhooks", "verify", "delivery.http", "--provider", "sandbox", code=2).stderr
    (database,) = connected_config.glob("*.db")
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM service_webhook_deliveries").fetchone() == (0,)


# --- the file ------------------------------------------------------------------------------------------------------


def test_the_body_is_kept_byte_for_byte() -> None:
    body = b"\r\n\r\na\nb\xff\x00\n"
    for end in (b"\r\n", b"\n"):
        made = read_request(end.join([b"PUT /a?b=%2F", b"X-A:  one ", b"x-a: two"]) + end + end + body)
        assert (made.method, made.target, made.body) == ("PUT", "/a?b=%2F", body)
        assert made.headers == (("X-A", "one"), ("x-a", "two"))
    assert read_request(b"GET /x HTTP/1.1\r\n").body == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff",
        b"{}",
        b"POST\r\n\r\n",
        b"POST / HTTP/1.1\r\nno header\r\n\r\n",
        b"POST / HTTP/1.1\r\n folded: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\nab",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ],
)
def test_a_file_that_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        read_request(data)
    assert refused.value.field == "file"
