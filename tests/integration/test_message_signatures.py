"""HTTP Message Signatures through a runtime, against a server that checks them with another implementation.

The configuration and the code are those of docs/how-to/sign-with-http-message-signatures.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, InvalidSignature, algorithms
from multidict import CIMultiDict

from go_services_core import HttpRequest, Runtime, Scope
from go_services_core.cli.main import main
from go_services_core.errors import BadInput, ProviderForbidden
from go_services_secrets_appkey.key import generate_key

pytestmark = pytest.mark.integration
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "sign-with-http-message-signatures.md"
ACME = Scope("org", "acme")
KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


class Resolver(HTTPSignatureKeyResolver):  # type: ignore[misc, unused-ignore]
    def resolve_public_key(self, key_id: str) -> bytes:
        assert key_id == "ledger-1"
        return KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Message:
    def __init__(self, request: web.Request) -> None:
        self.method, self.headers = request.method, CIMultiDict(request.headers)
        self.url = f"http://{request.host}{request.raw_path}"


class Ledger:
    """Refuses what is not signed as it wants it, and what was sent before."""

    def __init__(self) -> None:
        self.nonces: set[str | None] = set()
        self.covered: list[list[str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=Resolver())
        components = ["@method", "@target-uri", "content-type", *(["content-digest", "content-length"] if body else [])]
        try:
            (result,) = verifier.verify(
                Message(request), expect_tag="acme-ledger", require_components=components, body=body
            )
        except InvalidSignature as why:
            return web.json_response({"error": {"code": "signature", "why": str(why)}}, status=403)
        if result.nonce is None or result.nonce in self.nonces:
            return web.json_response({"error": {"code": "replay"}}, status=403)
        self.nonces.add(result.nonce)
        self.covered.append(list(result.covered_components))
        return web.json_response({"body": body.decode()})


@pytest.fixture
async def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Ledger, str]]:
    """The server, and the page's configuration with its address in it."""
    made = Ledger()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert "https://ledger.example" in text
    rest = f'[store]\nurl = "sqlite:///app.db"\n[secrets.appkey]\nkey = "file:app.key"\n[egress.allow]\nledger = ["{url[7:]}"]\n'
    (tmp_path / "app.key").write_text(generate_key().reveal(), "ascii")
    (tmp_path / "go-services.toml").write_text(rest + text.replace("https://ledger.example", url), "utf-8")
    monkeypatch.chdir(tmp_path)
    yield made, url
    await runner.cleanup()


async def connected(runtime: Runtime, tmp_path: Path) -> str:
    """As the page does it."""
    page: dict[str, Any] = {}
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    exec(code, page)
    (tmp_path / "key.pem").write_text(pem(KEY))
    return str((await page["connect"](runtime, "ledger-1", tmp_path / "key.pem")).id)


async def test_requests_are_signed_as_the_server_checks_them(ledger: tuple[Ledger, str], tmp_path: Path) -> None:
    async with Runtime.open(migrate=True) as runtime:
        connection = await connected(runtime, tmp_path)
        assert (await runtime.execute(connection, "entries.list", {"account": "a b/ä&="})).data == {"body": ""}
        made = await runtime.execute(connection, "entries.create", {"amount": 7})
    assert json.loads(made.data["body"]) == {"amount": 7}
    assert ['"content-digest"' in covered for covered in ledger[0].covered] == [False, True]


async def test_a_request_of_the_callers_own_is_signed_and_a_changed_copy_of_it_refused(
    ledger: tuple[Ledger, str], tmp_path: Path
) -> None:
    async with Runtime.open(migrate=True) as runtime:
        connection = await connected(runtime, tmp_path)
        own = HttpRequest("POST", ledger[1] + "/x?b=%2f&a", (("Content-Type", "text/plain"),), b"one")
        signed = await runtime.sign(connection, own)
        transport = runtime._core.transport
        for changed in (signed.with_url(signed.url + "1"), signed.with_header("Content-Type", "text/html")):
            assert (await transport.send(changed, provider_id="ledger")).status == 403
        assert (await transport.send(signed, provider_id="ledger")).status == 200
        assert (await transport.send(signed, provider_id="ledger")).status == 403


async def test_key_that_the_server_does_not_know_is_its_to_refuse_and_another_kind_of_key_is_ours(
    ledger: tuple[Ledger, str],
) -> None:
    async with Runtime.open(migrate=True) as runtime:
        fields = {"key_id": "ledger-1", "private_key": pem(ed25519.Ed25519PrivateKey.generate())}
        wrong = await runtime.establish("ledger", scope=ACME, fields=fields)
        with pytest.raises(ProviderForbidden) as refused:
            await runtime.execute(wrong.id, "entries.list")
        assert refused.value.upstream_code == "signature"
        fields["private_key"] = pem(ec.generate_private_key(ec.SECP256R1()))
        with pytest.raises(BadInput, match="private_key"):
            await runtime.establish("ledger", scope=ACME, fields=fields)


def test_command_connects_with_a_key_that_was_pasted_into_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    rest = '[store]\nurl = "sqlite:///app.db"\n[secrets.appkey]\nkey = "file:app.key"\n'
    (tmp_path / "app.key").write_text(generate_key().reveal(), "ascii")
    (tmp_path / "go-services.toml").write_text(rest + text, "utf-8")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["store", "migrate"]).exit_code == 0
    line = pem(KEY).strip().replace("\n", "\\n")
    done = CliRunner().invoke(main, ["connect", "ledger", "--scope", "org:acme"], input=f"ledger-1\n{line}\n")
    assert done.exit_code == 0, done.output
    assert "Connected ledger" in done.output
    assert line not in done.output
