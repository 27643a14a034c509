"""AWS keys through a runtime, against a service that checks signatures with botocore. P83."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from go_services_core import HttpRequest, Runtime, Scope
from go_services_core.errors import (
    InvalidGrant,
    ProviderForbidden,
    ReauthRequired,
    RefreshBackingOff,
    TokenEndpointError,
)
from go_services_secrets_appkey.key import generate_key

from .aws_server import AwsServer, run_moto, run_server

pytestmark = pytest.mark.integration
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "connect-with-aws-keys.md"
ACME = Scope("org", "acme")
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TYPED = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": SECRET}
ROLE = {**TYPED, "role_arn": "arn:aws:iam::123456789012:role/reports", "external_id": "customer:acme"}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with run_moto() as url:
        yield url


@pytest.fixture
async def server(moto: str) -> AsyncIterator[AwsServer]:
    async with run_server(moto) as running:
        running.keys[TYPED["access_key_id"]] = SECRET, None
        yield running


@pytest.fixture
def config(server: AwsServer, tmp_path: Path) -> Path:
    """The page's configuration, with the server's address in it."""
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for address in ("https://acme-archive.s3.eu-central-1.amazonaws.com", "https://reports.example.com"):
        assert address in text
        text = text.replace(address, server.url)
    region = 'region = "eu-west-1"\n'
    assert region in text
    text = text.replace(region, f'{region}sts_url = "{server.url}/sts"\n')
    host = server.url.removeprefix("http://")
    rest = '[store]\nurl = "sqlite:///app.db"\n[secrets.appkey]\nkey = "file:app.key"\n'
    rest += f'[egress.allow]\narchive = ["{host}"]\nreports = ["{host}"]\n'
    (tmp_path / "app.key").write_text(generate_key().reveal(), "ascii")
    path = tmp_path / "go-services.toml"
    path.write_text(rest + text, "utf-8")
    return path


@pytest.fixture
async def runtime(config: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    monkeypatch.chdir(config.parent)
    async with Runtime.open(config, migrate=True) as opened:
        yield opened


async def executed(runtime: Runtime, connection_id: str, operation: str, params: dict[str, Any]) -> Any:
    return (await runtime.execute(connection_id, operation, params)).data


async def test_requests_with_typed_keys_are_signed_as_the_service_checks_them(
    runtime: Runtime, server: AwsServer
) -> None:
    connection = await runtime.establish("archive", scope=ACME, fields=TYPED)
    listed = await executed(runtime, connection.id, "list", {"prefix": "a b/ä+&=~"})
    assert TYPED["access_key_id"] in listed
    assert "/?list-type=2&prefix=a%20b%2F%C3%A4%2B%26%3D~" in listed
    written = await executed(runtime, connection.id, "write", {"key": "a:b (1)/..//c", "note": "ä"})
    assert '"service": "s3"' in written
    assert server.assumed == []


async def test_service_refuses_what_another_key_signed(runtime: Runtime, server: AwsServer) -> None:
    connection = await runtime.establish("archive", scope=ACME, fields={**TYPED, "secret_access_key": "wrong"})
    with pytest.raises(ProviderForbidden) as refused:
        await runtime.execute(connection.id, "list", {})
    assert "SignatureDoesNotMatch" in (refused.value.excerpt or "")


async def test_presigned_url_works_for_whoever_has_it(runtime: Runtime, server: AwsServer, config: Path) -> None:
    connection = await runtime.establish("archive", scope=ACME, fields=TYPED)
    _presigning(config)
    async with Runtime.open(config) as other:
        signed = await other.sign(connection.id, HttpRequest("GET", f"{server.url}/a%20b//..?x=1"))
    assert signed.headers == ()
    async with aiohttp.ClientSession() as session, session.get(URL(signed.url, encoded=True)) as answer:
        assert answer.status == 200
    other_url = signed.url.replace("a%20b", "b")
    async with aiohttp.ClientSession() as session, session.get(URL(other_url, encoded=True)) as answer:
        assert answer.status == 403


def _presigning(config: Path) -> None:
    text = config.read_text("utf-8").replace('service = "s3"', 'service = "s3"\nmode = "query"')
    config.write_text(text, "utf-8")


async def test_role_is_assumed_before_anything_is_kept_and_its_keys_sign(runtime: Runtime, server: AwsServer) -> None:
    page: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        exec(block, page)
    connection_id = await page["connect"](runtime, "acme", ROLE["role_arn"], TYPED)
    _, row = await runtime._core.store.connections.load(connection_id)
    assert row is not None
    assert row.refreshable
    (form,) = server.assumed
    assert form == {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": ROLE["role_arn"],
        "ExternalId": "customer:acme",
        "RoleSessionName": "acme-reports",
        "DurationSeconds": "3600",
    }
    reported = await page["report"](runtime, connection_id)
    assert reported["path"] == "/reports/sales?year=2026"
    report = await executed(runtime, connection_id, "report", {"name": "sales/2026: ä", "year": "2026"})
    assert report["service"] == "execute-api"
    assert report["key"] in server.keys
    assert report["key"] != TYPED["access_key_id"]
    secret, _ = server.keys[report["key"]]
    assert (await runtime.token(connection_id)).reveal() == secret


async def test_renewal_brings_new_keys_with_those_that_were_typed(
    runtime: Runtime, server: AwsServer, config: Path
) -> None:
    connection = await runtime.establish("reports", scope=ACME, fields=ROLE)
    old = (await executed(runtime, connection.id, "report", {"name": "a"}))["key"]
    await runtime.refresh(connection.id)
    assert server.assumed[1] == server.assumed[0]
    del server.keys[old]
    async with Runtime.open(config) as restarted:
        for one in (runtime, restarted):
            new = (await executed(one, connection.id, "report", {"name": "a"}))["key"]
            assert new in server.keys
            assert new not in (old, TYPED["access_key_id"])


async def test_keys_that_end_early_are_renewed_and_the_call_repeated(runtime: Runtime, server: AwsServer) -> None:
    """P82: AWS says 403, never 401; the role's keys are asked for once, and typed ones cannot be."""
    connection = await runtime.establish("reports", scope=ACME, fields=ROLE)
    old = (await executed(runtime, connection.id, "report", {"name": "a"}))["key"]
    server.over.add(old)
    result = await runtime.execute(connection.id, "report", {"name": "a"})
    assert (result.attempts, len(server.assumed)) == (2, 2)
    assert result.data["key"] != old
    server.sessions_end = True
    with pytest.raises(ProviderForbidden):
        await runtime.execute(connection.id, "report", {"name": "a"})
    assert len(server.assumed) == 3


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [({"secret_access_key": "wrong"}, TokenEndpointError), ({"access_key_id": "AKIAUNKNOWN"}, InvalidGrant)],
)
async def test_keys_that_sts_refuses_are_not_kept(
    runtime: Runtime, server: AwsServer, wrong: dict[str, str], kind: type[TokenEndpointError]
) -> None:
    with pytest.raises(TokenEndpointError) as refused:
        await runtime.establish("reports", scope=ACME, fields={**ROLE, **wrong})
    assert type(refused.value) is kind
    assert not (await runtime.connections()).items


async def test_refusal_that_may_be_undone_leaves_the_connection_active(runtime: Runtime, server: AwsServer) -> None:
    connection = await runtime.establish("reports", scope=ACME, fields=ROLE)
    server.denied = True
    with pytest.raises(TokenEndpointError, match="AccessDenied"):
        await runtime.refresh(connection.id)
    assert (await runtime.connection(connection.id)).status == "active"
    assert (await runtime.execute(connection.id, "report", {"name": "a"})).status == 200
    server.denied = False
    with pytest.raises(RefreshBackingOff) as early:
        await runtime.refresh(connection.id)
    await asyncio.sleep(early.value.metadata["retry_in"])
    await runtime.refresh(connection.id)


async def test_deleted_key_asks_for_new_ones_and_they_keep_the_connection(runtime: Runtime, server: AwsServer) -> None:
    connection = await runtime.establish("reports", scope=ACME, fields=ROLE)
    del server.keys[TYPED["access_key_id"]]
    with pytest.raises(ReauthRequired):
        await runtime.refresh(connection.id)
    assert (await runtime.connection(connection.id)).status == "pending_reauth"
    server.keys["AKIASECOND"] = "second", None
    fields = {**ROLE, "access_key_id": "AKIASECOND", "secret_access_key": "second"}
    again = await runtime.establish("reports", scope=ACME, fields=fields)
    assert (again.id, again.status) == (connection.id, "active")


async def test_large_upload_is_signed_chunk_by_chunk_as_s3_checks_it(
    runtime: Runtime, server: AwsServer, tmp_path: Path
) -> None:
    """The page's function; the runtime's own transport sends the signed body as well."""
    page: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        exec(block, page)
    data = bytes(range(256)) * 800
    (tmp_path / "large").write_bytes(data)
    connection = await runtime.establish("archive", scope=ACME, fields=TYPED)
    url = f"{server.url}/a%20b//large"
    assert await page["upload"](runtime, connection.id, url, tmp_path / "large") == 200
    assert server.objects.popitem()[1] == data
    own = HttpRequest("PUT", url, (), page["FileBody"](tmp_path / "large"))
    signed = await runtime.sign(connection.id, own)
    assert (await runtime._core.transport.send(signed, provider_id="archive")).status == 200
    assert server.objects.popitem()[1] == data
    other = await runtime.establish("archive", scope=Scope("org", "b"), fields={**TYPED, "secret_access_key": "x" * 40})
    assert await page["upload"](runtime, other.id, url, tmp_path / "large") == 403
