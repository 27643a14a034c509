"""Clients with a certificate (RFC 8705), through a runtime, against a server that go_services did not write."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from attrs import evolve, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from go_services_auth_jwt.jwk import Jwk
from go_services_core import Runtime
from go_services_core.errors import TokenEndpointError
from go_services_core.http import ClientCertificate, HttpRequest
from go_services_core.secret import SecretStr

from .conftest import served
from .oidc.bound_clients import ACME, BoundClient, connect
from .oidc.process import OidcServer

pytestmark = pytest.mark.integration
PAR = 'par_url = "{url}/request"\n'
TRUSTED = 'ca_file = "ca.pem"'
SETTINGS = 'client_certificate = "file:client.pem"\nclient_private_key = "file:client.key"\n'
BOUND: dict[str, Any] = {"tls_client_certificate_bound_access_tokens": True}


@frozen
class Secured:
    """The server that speaks TLS, its authority, and its clients by their way of authentication."""

    server: OidcServer
    authority: trustme.CA
    clients: dict[str, BoundClient]


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    clients = {"tls_client_auth": _of_authority(authority), "self_signed_tls_client_auth": _self_signed()}
    tls = {
        "key": issued.private_key_pem.bytes().decode(),
        "cert": "".join(pem.bytes().decode() for pem in issued.cert_chain_pems),
        "ca": authority.cert_pem.bytes().decode(),
    }
    registered = [client.registered() for client in clients.values()]
    for server in served(access_token_seconds=300, clients=registered, tls=tls):
        yield Secured(server, authority, clients)


def _client(client_id: str, certificate: str, key: str, **metadata: Any) -> BoundClient:
    return BoundClient(
        client_id,
        {**metadata, **BOUND},
        settings=SETTINGS,
        auth='client_auth = "tls"\ncertificate_bound_tokens = true\n',
        files={"client.pem": certificate.strip(), "client.key": key.strip()},
    )


def _of_authority(authority: trustme.CA, email: str = "app@acme.example") -> BoundClient:
    issued = authority.issue_cert(email)
    certificate = "".join(pem.bytes().decode() for pem in issued.cert_chain_pems)
    return _client(
        "of-authority",
        certificate,
        issued.private_key_pem.bytes().decode(),
        token_endpoint_auth_method="tls_client_auth",
        tls_client_auth_san_email="app@acme.example",
    )


def _self_signed() -> BoundClient:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "app")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    certificate = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1)).sign(key, SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    text = certificate.public_bytes(Encoding.PEM).decode()
    x5c = "".join(text.splitlines()[1:-1])
    return _client(
        "self-signed",
        text,
        pem,
        token_endpoint_auth_method="self_signed_tls_client_auth",
        jwks={"keys": [{**Jwk.from_text(SecretStr(pem)).public_members(), "x5c": [x5c]}]},
    )


@pytest.fixture(autouse=True)
def here(secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secured.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
@pytest.mark.parametrize("auth", ["", PAR], ids=["code", "pushed"])
async def test_certificate_authenticates_and_binds_from_the_consent_to_the_end(
    secured: Secured, method: str, auth: str, tmp_path: Path
) -> None:
    server, client = secured.server, secured.clients[method]
    before = len(await server.requests(None))
    async with Runtime.open(client.write(server, tmp_path, auth=auth, transport=TRUSTED), migrate=True) as runtime:
        connection = await connect(runtime, server)
        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"
        held = await runtime.token(connection.id)
        assert await server.userinfo(held.reveal()) == 401, "without the certificate it is worth nothing"
        await runtime.refresh(connection.id)
        assert (await runtime.execute(connection.id, "userinfo")).data["sub"] == "alice"
        assert (await runtime.disconnect(connection.id)).revoked
    asked = [(one["route"], one.get("client_auth")) for one in (await server.requests(None))[before:]]
    expected = ["token", "token", "revocation"]
    if auth:
        expected.insert(0, "pushed_authorization_request")
    assert [one for one in asked if one[0] != "userinfo"] == [(route, method) for route in expected]


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
async def test_application_with_a_certificate_acts_for_itself(secured: Secured, method: str, tmp_path: Path) -> None:
    config = secured.clients[method].write(
        secured.server, tmp_path, kind="oauth2_client_credentials", transport=TRUSTED
    )
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await runtime.establish("login", scope=ACME, fields={})
        first = await runtime.token(connection.id)
        await runtime.refresh(connection.id)
        assert await runtime.token(connection.id) != first
        signed = await runtime.sign(connection.id, HttpRequest("GET", f"{secured.server.url}/me"))
    files = secured.clients[method].files
    assert signed.client_certificate == ClientCertificate(
        certificate=files["client.pem"], private_key=SecretStr(files["client.key"])
    )


@pytest.mark.parametrize(
    ("method", "email"),
    [
        ("tls_client_auth", "mallory@acme.example"),
        ("tls_client_auth", None),
        ("self_signed_tls_client_auth", "app@acme.example"),
    ],
    ids=["another name", "another authority", "another certificate"],
)
async def test_server_refuses_another_certificate(
    secured: Secured, method: str, email: str | None, tmp_path: Path
) -> None:
    """The server looks at the certificate, so that the tests above prove something."""
    other = _of_authority(secured.authority, email) if email else _of_authority(trustme.CA())
    thief = evolve(secured.clients[method], files=other.files)
    config = thief.write(secured.server, tmp_path, kind="oauth2_client_credentials", transport=TRUSTED)
    async with Runtime.open(config, migrate=True) as runtime:
        with pytest.raises(TokenEndpointError) as refused:
            await runtime.establish("login", scope=ACME, fields={})
    assert refused.value.error == "invalid_client"


async def test_renewed_certificate_of_the_same_name_serves_new_tokens_and_old_ones_stay_with_theirs(
    secured: Secured, tmp_path: Path
) -> None:
    """Refresh tokens of this server are bound to the client, tokens to the certificate that they were issued to."""
    client = secured.clients["tls_client_auth"]
    config = client.write(secured.server, tmp_path, kind="oauth2_client_credentials", transport=TRUSTED)
    async with Runtime.open(config, migrate=True) as runtime:
        connection = await runtime.establish("login", scope=ACME, fields={})
    renewed = _of_authority(secured.authority)
    for name, text in renewed.files.items():
        (tmp_path / name).write_text(text)
    request = HttpRequest("GET", f"{secured.server.url}/me")
    async with Runtime.open(config) as runtime:
        used = [(await runtime.sign(connection.id, request)).client_certificate]
        await runtime.refresh(connection.id)
        used.append((await runtime.sign(connection.id, request)).client_certificate)
    assert [one.certificate if one else None for one in used] == [
        client.files["client.pem"],
        renewed.files["client.pem"],
    ]
