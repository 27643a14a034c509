"""Who signs in at a server that go_services did not write: its ID tokens, verified against its published keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from go_services_core import Runtime, Scope
from go_services_core.errors import AccountMismatch, JwtInvalid
from go_services_core.model import DevicePrompt
from go_services_core.runtime.jwks import KeySet
from go_services_core.runtime.load import load
from go_services_core.secret import SecretStr

from .oidc.browser import Browser
from .oidc.flows import configure_flows
from .oidc.process import OidcServer
from .oidc.site import ALICE, ShiftedClock, Site, connect

pytestmark = pytest.mark.integration
LIFE = 300


def with_keys(site: Site, *lines: str) -> None:
    """Say in each auth table whose ID tokens are verified."""
    text = site.config.read_text("utf-8")
    more = f'jwks_url = "{site.server.url}/jwks"\nuserinfo_url = "{site.server.url}/me"\n' + "".join(lines)
    for kind in ("oauth2_auth_code", "oauth2_device_code"):
        issuer = f'issuer = "{site.server.url}"\n' if kind == "oauth2_device_code" else ""
        text = text.replace(f'kind = "{kind}"\n', f'kind = "{kind}"\n{issuer}{more}')
    site.config.write_text(text, "utf-8")


@pytest.fixture
async def verifying(site: Site, clock: ShiftedClock) -> AsyncIterator[Runtime]:
    with_keys(site)
    async with Runtime.open(site.config, clock=clock, migrate=True) as opened:
        yield opened


async def id_token(runtime: Runtime, connection_id: str) -> SecretStr:
    held = (await load(runtime._core, connection_id)).credential.tokens.id_token
    assert held is not None
    return held


async def test_person_who_signs_in_is_known_by_the_verified_token(verifying: Runtime, oidc_server: OidcServer) -> None:
    asked = len(await oidc_server.requests("userinfo"))
    connection = await connect(verifying)
    assert connection.external_account_id == f"{oidc_server.url}|alice"
    assert len(await oidc_server.requests("userinfo")) == asked
    profile = await verifying.profile(connection.id)
    assert (profile.subject, profile.email) == ("alice", "alice@example.com")
    assert (await connect(verifying)).id == connection.id
    assert (await connect(verifying, Scope("user", "u2"), login="bob")).external_account_id == f"{oidc_server.url}|bob"


async def test_key_that_the_server_began_to_sign_with_is_fetched(verifying: Runtime, oidc_server: OidcServer) -> None:
    """The process knows the server's keys of yesterday."""
    url, now = f"{oidc_server.url}/jwks", verifying._core.clock.monotonic()
    verifying._core.key_sets.known[url] = KeySet({"keys": []}, now + 3600, now + 7200)
    assert (await connect(verifying)).external_account_id == f"{oidc_server.url}|alice"
    assert verifying._core.key_sets.known[url].document["keys"]


async def test_connection_of_before_the_keys_were_told_stays_the_accounts(site: Site, clock: ShiftedClock) -> None:
    async with Runtime.open(site.config, clock=clock, migrate=True) as runtime:
        before = await connect(runtime)
        assert before.external_account_id == "alice"
    with_keys(site)
    async with Runtime.open(site.config, clock=clock) as runtime:
        again = await connect(runtime)
        assert (again.id, again.external_account_id) == (before.id, "alice")


async def test_new_id_token_of_a_renewal_is_verified_and_kept(verifying: Runtime, clock: ShiftedClock) -> None:
    seen: list[Any] = []
    verifying.observe(seen.append, name="test", inline=True)
    connection = await connect(verifying)
    before = await id_token(verifying, connection.id)
    await asyncio.sleep(1.1)  # its times are in seconds
    clock.ahead = LIFE + 1
    await verifying.refresh(connection.id)
    assert await id_token(verifying, connection.id) != before
    assert "credential.id_token_refused" not in [one.name for one in seen]


async def test_signature_of_a_kind_that_the_record_does_not_allow_keeps_nothing(
    site: Site, clock: ShiftedClock
) -> None:
    with_keys(site, 'id_token_algorithms = ["ES256"]\n')
    async with Runtime.open(site.config, clock=clock, migrate=True) as runtime:
        with pytest.raises(JwtInvalid) as refused:
            await connect(runtime)
        assert refused.value.field == "alg"
        assert (await runtime.connections()).items == ()


async def test_another_person_cannot_consent_for_a_connection(verifying: Runtime) -> None:
    connection = await connect(verifying)
    start = await verifying.connect(
        "oidc", scope=ALICE, redirect_uri="http://127.0.0.1:8765/callback", connection_id=connection.id
    )
    async with Browser("mallory") as browser:
        callback = await browser.consent(start.url)
    with pytest.raises(AccountMismatch):
        await verifying.complete(callback, binding=start.binding)
    assert await verifying.connection(connection.id) == connection


async def test_person_on_another_device_is_known_by_the_verified_token(
    flow_server: OidcServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: ShiftedClock
) -> None:
    site = configure_flows(flow_server, tmp_path, monkeypatch)
    with_keys(site)
    shown: asyncio.Queue[DevicePrompt] = asyncio.Queue()
    async with Runtime.open(site.config, clock=clock, migrate=True) as runtime:
        connecting = asyncio.create_task(runtime.connect_device("tv", scope=ALICE, show=shown.put_nowait))
        prompt = await asyncio.wait_for(shown.get(), 20)
        async with Browser("alice") as browser:
            await browser.approve(prompt.url)
        connection = await asyncio.wait_for(connecting, 20)
        assert connection.external_account_id == f"{flow_server.url}|alice"
