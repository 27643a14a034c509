"""The command and the blocking face against the same server; the test is the browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from go_services_core import BlockingRuntime

from .oidc.browser import Browser
from .oidc.site import ALICE, REDIRECT, Site, page_block

pytestmark = pytest.mark.integration
COMMAND = str(Path(sys.executable).with_name("go-services"))
CONNECT = (COMMAND, "connect", "oidc", "--scope", str(ALICE), "--no-browser")


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def run_json(*arguments: str) -> Any:
    code, out, err = await run(COMMAND, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@contextlib.asynccontextmanager
async def connecting(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The running ``connect`` and the address that it printed; ended if the test does not see it through."""
    process = await asyncio.create_subprocess_exec(
        *CONNECT, *options, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        line = (await process.stderr.readline()).decode()
        assert "http" in line, line
        yield process, line[line.index("http") :].strip()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def run_connect(*options: str, allow: bool = True) -> tuple[int, str, str, str]:
    """Run ``connect`` and be its browser; exit code, both outputs, and the page that the browser ends on."""
    async with connecting(*options) as (process, url), Browser() as browser:
        callback = await browser.consent(url, allow=allow)
        page = await browser.open(callback)
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode(), page


async def test_command_connects_calls_refreshes_and_disconnects(site: Site) -> None:
    code, _, err = await run(COMMAND, "store", "migrate")
    assert code == 0, err

    code, out, err, page = await run_connect("--json")
    assert code == 0, err
    assert "<h1>Connected</h1>" in page
    connected = json.loads(out)
    assert (connected["provider"], connected["scope"], connected["status"]) == ("oidc", "user:u1", "active")
    assert connected["account"] == "alice"

    id = connected["id"]
    listed = await run_json("connections", "list", "--provider", "oidc")
    assert [one["id"] for one in listed["connections"]] == [id]

    answer = await run_json("call", id, "userinfo")
    assert (answer["status"], answer["data"]["email"]) == (200, "alice@example.com")

    before = len(await site.server.refreshes())
    assert (await run_json("connections", "refresh", id))["status"] == "active"
    (refresh,) = (await site.server.refreshes())[before:]
    assert (await run_json("call", id, "userinfo"))["data"]["sub"] == "alice"

    ended = await run_json("connections", "disconnect", id, "--yes")
    assert (ended["revoked"], ended["connection"]["status"]) == (True, "disconnected")
    assert await site.server.userinfo(refresh["issued"]["access"]) == 401

    code, out, err = await run(COMMAND, "call", id, "userinfo")
    assert (code, out) == (1, "")
    assert "disconnected" in err


async def test_command_tells_terminal_and_browser_that_consent_was_denied(site: Site) -> None:
    await run(COMMAND, "store", "migrate")

    code, out, err, page = await run_connect(allow=False)

    assert (code, out) == (1, "")
    assert "access_denied" in err
    assert "<h1>Not connected</h1>" in page
    assert (await run_json("connections", "list"))["connections"] == []


async def test_command_asks_for_the_grants_that_were_named(site: Site) -> None:
    await run(COMMAND, "store", "migrate")

    async with connecting("--grant", "openid", "--grant", "email") as (_, url):
        assert parse_qs(urlsplit(url).query)["scope"] == ["openid email"]


def test_blocking_runtime_connects_renews_and_disconnects_and_the_page_s_program_runs_between(site: Site) -> None:
    async def consent(url: str) -> str:
        async with Browser() as browser:
            return await browser.consent(url)

    with BlockingRuntime.open(site.config, migrate=True) as runtime:
        start = runtime.connect("oidc", scope=ALICE, redirect_uri=REDIRECT)
        connection = runtime.complete(asyncio.run(consent(start.url)), binding=start.binding)
        runtime.refresh(connection.id)
        held = runtime.token(connection.id).reveal()

    program = subprocess.run([sys.executable, "-c", page_block("python")], capture_output=True, text=True, check=False)
    assert (program.returncode, program.stdout.strip()) == (0, "alice@example.com"), program.stderr

    with BlockingRuntime.open(site.config) as runtime:
        ended = runtime.disconnect(connection.id)
    assert (ended.connection.status, ended.revoked) == ("disconnected", True)
    assert asyncio.run(site.server.userinfo(held)) == 401


async def test_command_connects_by_a_consent_on_another_device(flows: Site) -> None:
    code, _, err = await run(COMMAND, "store", "migrate")
    assert code == 0, err
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "connect", "tv", "--scope", str(ALICE), "--no-browser", "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        page = (await process.stderr.readline()).decode().removeprefix("Consent on any device: ").strip()
        user_code = (await process.stderr.readline()).decode().removeprefix("with the code ").strip()
        async with Browser("alice") as browser:
            assert "Sign-in Success" in await browser.approve(f"{page}?user_code={user_code}")
        out, rest = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, rest.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert json.loads(out)["account"] == "alice"


async def test_command_connects_the_application_for_itself(flows: Site) -> None:
    code, _, err = await run(COMMAND, "store", "migrate")
    assert code == 0, err
    connected = await run_json("connect", "robot", "--scope", "org:acme")
    assert (connected["provider"], connected["status"]) == ("robot", "active")
