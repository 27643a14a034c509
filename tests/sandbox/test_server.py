"""The life of a sandbox, what it publishes, and the process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.parse

import pytest

from go_services_core.auth_specs import OAuth2Code
from go_services_core.errors import BadInput, TransportError
from go_services_core.testing.sandbox import ENDPOINTS, Sandbox, SandboxProcess, serve


async def test_sandbox_listens_on_the_loopback_address_only_and_stops(client):
    async with Sandbox() as sandbox:
        assert {address[0] for address in sandbox._runner.addresses} == {"127.0.0.1"}
        url = urllib.parse.urlsplit(sandbox.url)
        socket.create_connection((url.hostname, url.port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port))
    with pytest.raises(BadInput, match="not running"):
        _ = sandbox.url


async def test_taken_port_is_a_typed_error(sandbox):
    port = urllib.parse.urlsplit(sandbox.url).port
    with pytest.raises(BadInput, match=f"127.0.0.1:{port}") as caught:
        async with Sandbox(port=port):
            pass
    assert caught.value.field == "port"


async def test_sandbox_that_starts_again_remembers_its_tokens(client, sandbox):
    async with Sandbox() as client.sandbox:
        tokens = await client.tokens()
    async with client.sandbox:
        assert await client.works(tokens["access_token"])


async def test_requests_are_counted_by_endpoint_refused_ones_too(client, sandbox):
    tokens = await client.tokens()
    await client.get("/items", tokens["access_token"])
    await client.get("/items")
    await client.get("/nowhere")
    assert sandbox.requests == {"authorize": 1, "token": 1, "items.list": 2}
    assert sandbox.requests["revoke"] == 0


async def test_secrets_do_not_print(sandbox):
    shown = f"{sandbox.client_secret!r} {sandbox.webhook_secret} {sandbox.api_key} {sandbox.basic_password}"
    for name in ("client_secret", "webhook_secret", "api_key", "basic_password"):
        assert getattr(sandbox, name).reveal() not in shown


async def test_consent_plays_the_browser(client, sandbox):
    query = urllib.parse.urlencode(
        {
            "response_type": "code",
            "client_id": sandbox.client_id,
            "redirect_uri": "http://127.0.0.1:9/callback",
            "state": "s",
            "code_challenge": "a" * 43,
            "code_challenge_method": "S256",
        }
    )
    params = await sandbox.consent(f"{sandbox.url}/authorize?{query}")
    assert (params["state"], params["iss"], params["code"][:9]) == ("s", sandbox.url, "sbx_code_")
    with pytest.raises(BadInput, match="status 400"):
        await sandbox.consent(f"{sandbox.url}/authorize")


async def test_control_endpoints_do_not_exist_without_a_token(client):
    assert (await client.send("POST", "/_control/requests", json={})).status == 404


async def test_record_points_at_endpoints_that_exist(client, sandbox):
    spec = sandbox.spec("elsewhere")
    assert (spec.id, spec.api.base_url) == ("elsewhere", sandbox.url)
    auth = spec.auth[0]
    assert isinstance(auth, OAuth2Code)
    assert (auth.issuer, auth.rotation, auth.revocation_scope) == (sandbox.url, "single-use", "grant")
    served = {(method, path.partition("{")[0]) for method, path, _ in ENDPOINTS.values()}
    for operation in spec.operations:
        assert (operation.method, operation.path.partition("{")[0]) in served
        assert operation.capability in {None, *(capability.name for capability in spec.capabilities)}
    operations = {operation.id: operation for operation in spec.operations}
    own = {"me", "items.list", "items.get", "items.create"}
    subscribing = {id for one in spec.subscriptions for id in (one.create, one.renew, one.cancel) if id is not None}
    assert operations.keys() == own | subscribing
    assert operations["items.list"].pagination.style == "link"
    assert operations["items.create"].idempotency_header == "Idempotency-Key"
    tokens = await client.tokens(scope=" ".join(auth.default_grants))
    assert (await client.get(spec.identity.url, tokens["access_token"])).json[spec.identity.account] == "1001"


async def test_configuration_lets_the_application_reach_the_sandbox_and_nothing_else(sandbox):
    config = sandbox.config()
    table = config["providers"]["sandbox"]
    assert table["client_id"] == sandbox.client_id
    assert table["client_secret"] == sandbox.client_secret.reveal()
    assert table["webhook_secrets"] == [sandbox.webhook_secret.reveal()]
    assert config["egress"]["allow"] == {"sandbox": [sandbox.url.removeprefix("http://")]}
    assert config["runtime"] == {"allow_plaintext_secrets": True}


async def test_serve_tells_when_it_is_ready_and_ends_when_cancelled():
    ready: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(on_ready=ready.set_result, auto_approve=False))
    sandbox = await ready
    url = urllib.parse.urlsplit(sandbox.url)
    assert sandbox.auto_approve is False
    socket.create_connection((url.hostname, url.port)).close()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port))


def test_core_does_not_import_aiohttp():
    code = "import sys, go_services_core, go_services_core.testing; assert 'aiohttp' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- in another process --------------------------------------------------------------------------------------------


async def test_sandbox_process_can_be_used_and_steered(client):
    with SandboxProcess(rotation="single-use", item_count=3, redirect_uris=["http://127.0.0.1/callback"]) as process:
        client.sandbox = process
        tokens = await client.tokens()
        assert len((await client.get("/items", tokens["access_token"])).json) == 3
        assert process.spec().auth[0].issuer == process.url
        assert process.config()["providers"]["sandbox"]["client_secret"] == process.client_secret.reveal()

        process.set_fault("items.list", "503", times=None, retry_after=1)
        assert (await client.get("/items", tokens["access_token"])).status == 503
        process.clear_faults()
        assert (await client.get("/items", tokens["access_token"])).status == 200

        process.expire_access_tokens()
        assert not await client.works(tokens["access_token"])
        process.set(deny_next=True, account={"id": "2002"})
        assert (await client.authorize()).params["error"] == "access_denied"
        bob = (await client.tokens())["access_token"]
        assert (await client.get("/userinfo", bob)).json["id"] == "2002"
        assert {tokens["access_token"], tokens["refresh_token"], bob} < process.issued_secrets()
        assert process.requests()["items.list"] == 3
        assert process.deliver(f"{process.url}/echo", delivery_id="msg_1") == 200
        process.set(rotation="none")
        assert process.spec().auth[0].rotation == "none"

        with pytest.raises(BadInput, match=r"items\.list"):
            process.set_fault("item.list", "503")
        for knobs in ({"port": 1}, {"rate_limit": "many"}, {"rate_limit": True}, {"token_answer": "xml"}):
            with pytest.raises(BadInput, match="knob"):
                process.set(deny_next=True, **knobs)
        assert "code" in (await client.authorize()).params
        with pytest.raises(BadInput, match="cannot be reached"):
            process.deliver("http://127.0.0.1:1/")

        pid = process.pid
    with pytest.raises(BadInput, match="not running"):
        _ = process.url
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_control_endpoints_need_the_token(client):
    with SandboxProcess() as client.sandbox:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = await client.send("POST", "/_control/issued-secrets", json={}, headers=headers)
            assert answer.status == 401
        token = client.sandbox._control_token
        as_basic = {"Authorization": f"Basic {token}"}
        assert (await client.send("POST", "/_control/requests", json={}, headers=as_basic)).status == 401
        right = {"Authorization": f"Bearer {token}"}
        assert (await client.send("POST", "/_control/no-such", json={}, headers=right)).status == 404
        assert (await client.send("POST", "/_control/set", json=[], headers=right)).status == 400
        assert (await client.send("POST", "/_control/set", data=b"{", headers=right)).status == 400


async def test_sandbox_process_that_cannot_listen_says_why(sandbox):
    port = urllib.parse.urlsplit(sandbox.url).port
    with pytest.raises(BadInput, match=f"127.0.0.1:{port}"), SandboxProcess(port=port):
        pass


def test_sandbox_process_that_takes_too_long_is_ended():
    with pytest.raises(TransportError, match="before it was ready"), SandboxProcess(ready_timeout=0.001):
        pass


def test_sandbox_process_ends_although_its_input_is_still_held_open():
    with SandboxProcess() as process:
        url = urllib.parse.urlsplit(process.url)
        held = os.dup(process._process.stdin.fileno())
    os.close(held)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port))


def test_sandbox_process_ends_with_its_parent():
    code = (
        "import os, sys\n"
        "from go_services_core.testing.sandbox import SandboxProcess\n"
        "process = SandboxProcess().__enter__()\n"
        "sys.stdout.write(process.url)\n"
        "sys.stdout.flush()\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    url = urllib.parse.urlsplit(done.stdout)
    for _ in range(200):  # the child notices the closed pipe in its own time
        try:
            socket.create_connection((url.hostname, url.port)).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    pytest.fail(f"still listening: {done.stdout}")
