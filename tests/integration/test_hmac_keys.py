"""HMAC keys through a runtime, against a server that checks each signature from the raw request."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from go_services_core import HttpRequest, Runtime, Scope, SecretStr
from go_services_core.errors import BadInput, ProviderForbidden
from go_services_secrets_appkey.key import generate_key

pytestmark = pytest.mark.integration
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "connect-with-hmac-keys.md"
ACME = Scope("org", "acme")
SECRET = "shared-s3cret-of-the-warehouse"


class Warehouse:
    """Knows one key, and refuses what that key has not signed, is not signed now, or was sent before."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.targets: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        key_id, _, signature = given.partition(":")
        nonce, stamp = request.headers.get("X-Acme-Nonce", ""), request.headers.get("X-Acme-Time", "")
        lines = (stamp, nonce, request.method, request.raw_path, request.headers["Content-Type"])
        text = "\n".join((*lines, hashlib.sha256(body).hexdigest()))
        expected = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        right = (scheme, key_id) == ("ACME", "warehouse-1") and hmac.compare_digest(signature, expected)
        if not right or nonce in self.seen or len(nonce) != 32 or not stamp.isdigit():
            return web.json_response({"error": {"code": "signature"}}, status=403)
        self.seen.add(nonce)
        self.targets.append(request.raw_path)
        return web.json_response({"body": body.decode()})


@pytest.fixture
async def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Warehouse, str]]:
    """The server, and the page's configuration with its address in it."""
    made = Warehouse()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert "https://api.warehouse.example" in text
    rest = f'[store]\nurl = "sqlite:///app.db"\n[secrets.appkey]\nkey = "file:app.key"\n[egress.allow]\nwarehouse = ["{url[7:]}"]\n'
    (tmp_path / "app.key").write_text(generate_key().reveal(), "ascii")
    (tmp_path / "go-services.toml").write_text(rest + text.replace("https://api.warehouse.example", url), "utf-8")
    monkeypatch.chdir(tmp_path)
    yield made, url
    await runner.cleanup()


@pytest.fixture
async def runtime(warehouse: tuple[Warehouse, str]) -> AsyncIterator[Runtime]:
    async with Runtime.open(migrate=True) as opened:
        yield opened


async def connect(runtime: Runtime, **other: Any) -> str:
    fields = {"key_id": "warehouse-1", "secret": SecretStr(SECRET), **other}
    return (await runtime.establish("warehouse", scope=ACME, fields=fields)).id


async def test_requests_are_signed_as_the_server_checks_them(
    runtime: Runtime, warehouse: tuple[Warehouse, str]
) -> None:
    connection = await connect(runtime)
    for _ in range(2):  # another nonce each time
        answer = await runtime.execute(connection, "items.list", {"page": 2, "tag": "a b&c=ü/"})
        assert answer.data == {"body": ""}
    made = await runtime.execute(connection, "items.create", {"name": "lämp"})
    assert "mp" in made.data["body"]
    assert warehouse[0].targets[0].startswith("/items?page=2&tag=a")


async def test_a_request_of_the_callers_own_is_signed_and_its_copy_with_another_query_refused(
    runtime: Runtime, warehouse: tuple[Warehouse, str]
) -> None:
    connection = await connect(runtime)
    own = HttpRequest("GET", warehouse[1] + "/items?b=2&a=1&a=%2f", (("Content-Type", "text/plain"),))
    signed = await runtime.sign(connection, own)
    assert own.header("Authorization") is None
    transport = runtime._core.transport
    changed = signed.with_url(signed.url + "&c=3")
    assert (await transport.send(changed, provider_id="warehouse")).status == 403
    assert (await transport.send(signed, provider_id="warehouse")).status == 200
    assert (await transport.send(signed, provider_id="warehouse")).status == 403


async def test_wrong_secret_is_the_servers_to_refuse_and_a_missing_key_id_is_ours(runtime: Runtime) -> None:
    wrong = await connect(runtime, secret="another-secret-0123456789")
    with pytest.raises(ProviderForbidden) as refused:
        await runtime.execute(wrong, "items.list")
    assert refused.value.upstream_code == "signature"
    with pytest.raises(BadInput, match="key_id is missing"):
        await runtime.establish("warehouse", scope=ACME, fields={"secret": SECRET})
