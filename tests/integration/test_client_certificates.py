"""Client certificates through a runtime, against TLS servers that want them: a connection's own, and those of an OAuth
client with tokens that are bound to them (RFC 8705)."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from aiohttp import web

from go_services_core import HttpRequest, Runtime, Scope
from go_services_core.errors import BadInput, ConfigError, SigningError, TransportError
from go_services_secrets_appkey.key import generate_key

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "connect-with-client-certificates.md"
ACME, BETA = Scope("org", "acme"), Scope("org", "beta")


class Bank:
    """Takes clients of one authority only, and tokens only with the certificate that they were issued to."""

    def __init__(self) -> None:
        self.forms: list[tuple[str, dict[str, str], str]] = []
        """Path, fields and the certificate's thumbprint of each request to the authorization server."""
        self.bound: dict[str, str] = {}
        self.connections: set[int] = set()
        self.url = ""

    async def balance(self, request: web.Request) -> web.Response:
        self.connections.add(id(request.transport))
        return web.json_response(
            {"client": _thumbprint(request), "authorization": request.headers.get("Authorization")}
        )

    async def token(self, request: web.Request) -> web.Response:
        form = await self._form(request)
        if form.get("client_id") != "acme" or "client_secret" in form or "Authorization" in request.headers:
            return web.json_response({"error": "invalid_client"}, status=401)
        token = f"at-{len(self.forms)}-{'x' * 20}"
        self.bound[token] = _thumbprint(request)  # the confirmation "cnf": {"x5t#S256": …} of RFC 8705 §3.1
        return web.json_response(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": 3600,
                "refresh_token": f"rt-{len(self.forms)}",
            }
        )

    async def revoke(self, request: web.Request) -> web.Response:
        form = await self._form(request)
        self.bound.pop(form["token"], None)
        return web.Response()

    async def accounts(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.bound.get(token) != _thumbprint(request):
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({"accounts": ["a"], "client": _thumbprint(request)})

    async def customer(self, request: web.Request) -> web.Response:
        """The token is bound from the first call on, which asks whose it is."""
        answer = await self.accounts(request)
        return answer if answer.status != 200 else web.json_response({"id": "customer-1"})

    async def _form(self, request: web.Request) -> dict[str, str]:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append((request.path, form, _thumbprint(request)))
        return form


def _thumbprint(request: web.Request) -> str:
    assert request.transport is not None
    return x5t(request.transport.get_extra_info("ssl_object").getpeercert(binary_form=True))


def x5t(der: bytes) -> str:
    """``x5t#S256`` (RFC 8705 §3.1)."""
    return urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def of(issued: trustme.LeafCert) -> str:
    return x5t(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode()))


def fields(issued: trustme.LeafCert) -> dict[str, str]:
    return {
        "certificate": b"".join(pem.bytes() for pem in issued.cert_chain_pems).decode(),
        "private_key": issued.private_key_pem.bytes().decode(),
    }


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def bank(authority: trustme.CA) -> AsyncIterator[Bank]:
    server, app = Bank(), web.Application()
    app.add_routes(
        [
            web.get("/balance", server.balance),
            web.get("/accounts", server.accounts),
            web.get("/customer", server.customer),
            web.post("/mtls/token", server.token),
            web.post("/revoke", server.revoke),
        ]
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    server.url = f"https://localhost:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
def application(authority: trustme.CA, tmp_path: Path) -> trustme.LeafCert:
    """The certificate of the application, in the files that the page names."""
    return install(authority, tmp_path)


def install(authority: trustme.CA, folder: Path) -> trustme.LeafCert:
    issued = authority.issue_cert("app@acme.example")
    (folder / "client.pem").write_text(fields(issued)["certificate"])
    (folder / "client.key").write_text(fields(issued)["private_key"])
    return issued


@pytest.fixture
def config(
    bank: Bank, authority: trustme.CA, application: trustme.LeafCert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The page's configuration, with the server's address in it."""
    text = "\n".join(re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE))
    for address in ("https://payments.example.com", "https://bank.example.com"):
        assert address in text
        text = text.replace(address, bank.url)
    host = bank.url.removeprefix("https://")
    rest = (
        '[store]\nurl = "sqlite:///app.db"\n[secrets.appkey]\nkey = "file:app.key"\n[transport]\nca_file = "ca.pem"\n'
    )
    rest += f'[egress.allow]\npayments = ["{host}"]\nbank = ["{host}"]\n'
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "app.key").write_text(generate_key().reveal(), "ascii")
    path = tmp_path / "go-services.toml"
    path.write_text(rest + text, "utf-8")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
async def runtime(config: Path) -> AsyncIterator[Runtime]:
    async with Runtime.open(config, migrate=True) as opened:
        yield opened


def stored_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("app.db*"))


def without_certificate(config: Path) -> None:
    text = config.read_text("utf-8")
    config.write_text(re.sub(r"(?m)^client_(certificate|private_key) = .*\n", "", text), "utf-8")


async def balance(runtime: Runtime, connection_id: str) -> Any:
    return (await runtime.execute(connection_id, "balance", {})).data


async def consent(runtime: Runtime) -> str:
    start = await runtime.connect("bank", scope=ACME, redirect_uri="http://127.0.0.1/callback")
    (state,) = parse_qs(urlsplit(start.url).query)["state"]
    return (await runtime.complete({"code": "c0de-1234", "state": state}, binding=start.binding)).id


async def test_each_connection_presents_its_own_certificate_and_nothing_else(
    runtime: Runtime, bank: Bank, authority: trustme.CA, tmp_path: Path
) -> None:
    one, two = authority.issue_cert("one@acme.example"), authority.issue_cert("two@beta.example")
    folder = tmp_path / "one"
    folder.mkdir()
    for name, text in fields(one).items():
        (folder / f"{name}.pem").write_text(text)
    page: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        exec(block, page)
    first = await page["connect"](runtime, "acme", folder)
    second = (await runtime.establish("payments", scope=BETA, fields=fields(two))).id
    answers = await asyncio.gather(*(balance(runtime, each) for each in (first, second) * 4))
    assert [answer["client"] for answer in answers] == [of(one), of(two)] * 4
    assert {answer["authorization"] for answer in answers} == {None}
    signed = await runtime.sign(first, HttpRequest("GET", f"{bank.url}/balance"))
    assert signed.headers == ()
    assert signed.client_certificate is not None
    assert fields(one)["private_key"].splitlines()[1].encode() not in stored_bytes(tmp_path)


async def test_renewed_certificate_keeps_the_connection_and_is_used_at_once(
    runtime: Runtime, authority: trustme.CA
) -> None:
    old, new = authority.issue_cert("one@acme.example"), authority.issue_cert("one@acme.example")
    connection = await runtime.establish("payments", scope=ACME, fields=fields(old))
    assert (await balance(runtime, connection.id))["client"] == of(old)
    again = await runtime.establish("payments", scope=ACME, fields=fields(new))
    assert again.id == connection.id
    assert (await balance(runtime, connection.id))["client"] == of(new)


async def test_certificate_of_another_authority_reaches_nobody(runtime: Runtime, bank: Bank) -> None:
    foreign = trustme.CA().issue_cert("one@acme.example")
    connection = await runtime.establish("payments", scope=ACME, fields=fields(foreign))
    with pytest.raises(TransportError):
        await balance(runtime, connection.id)
    assert bank.connections == set()


async def test_what_does_not_belong_together_is_told_at_the_first_call(runtime: Runtime, authority: trustme.CA) -> None:
    one, two = authority.issue_cert("one@acme.example"), authority.issue_cert("two@acme.example")
    mixed = {**fields(one), "private_key": fields(two)["private_key"]}
    connection = await runtime.establish("payments", scope=ACME, fields=mixed)
    with pytest.raises(SigningError, match="is not that of the client certificate"):
        await balance(runtime, connection.id)


async def test_certificate_that_is_over_connects_nothing(runtime: Runtime, authority: trustme.CA) -> None:
    now = datetime.now(UTC)
    ended = authority.issue_cert("a@b.example", not_before=now - timedelta(9), not_after=now - timedelta(1))
    with pytest.raises(BadInput, match="The certificate ended on"):
        await runtime.establish("payments", scope=ACME, fields=fields(ended))
    assert (await runtime.connections()).items == ()


async def test_oauth_client_is_known_by_its_certificate_and_its_tokens_are_bound_to_it(
    runtime: Runtime, bank: Bank, application: trustme.LeafCert
) -> None:
    connection_id = await consent(runtime)
    ((path, form, client),) = bank.forms
    assert (path, client) == ("/mtls/token", of(application))
    assert (form["grant_type"], form["client_id"]) == ("authorization_code", "acme")
    assert (await runtime.execute(connection_id, "accounts", {})).data["client"] == of(application)
    await runtime.refresh(connection_id)
    assert bank.forms[1][1]["grant_type"] == "refresh_token"
    assert (await runtime.execute(connection_id, "accounts", {})).data["client"] == of(application)
    done = await runtime.disconnect(connection_id)
    assert done.revoked
    assert [(path, client) for path, _, client in bank.forms[2:]] == [("/revoke", of(application))] * 2


async def test_token_stays_with_its_certificate_when_the_application_gets_a_new_one(
    runtime: Runtime, bank: Bank, application: trustme.LeafCert, authority: trustme.CA, config: Path
) -> None:
    connection_id = await consent(runtime)
    renewed = install(authority, config.parent)
    async with Runtime.open(config) as restarted:
        assert (await restarted.execute(connection_id, "accounts", {})).data["client"] == of(application)
        await restarted.refresh(connection_id)
        assert bank.forms[-1][2] == of(renewed)
        assert (await restarted.execute(connection_id, "accounts", {})).data["client"] == of(renewed)


async def test_oauth_client_without_its_certificate_is_told_which_setting_is_missing(
    runtime: Runtime, bank: Bank, config: Path
) -> None:
    without_certificate(config)
    async with Runtime.open(config) as other:
        with pytest.raises(ConfigError) as caught:
            await consent(other)
    assert caught.value.field == "providers.bank.client_certificate"
    assert bank.forms == []
