"""TLS to a real listener: a CA of one's own, a certificate to show, and what does not fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from go_services_core.errors import ConfigError
from go_services_core.secret import SecretStr
from go_services_core.testing.openbao import OpenBaoServer, Tls, Unavailable, openbao_server
from go_services_secrets_vault.backend import VaultBackend, open_backend
from go_services_secrets_vault.settings import VaultSettings

from .conftest import REQUIRED, environment, outage

pytestmark = pytest.mark.integration


def written(folder: Path, name: str, authority: trustme.CA, *names: str) -> tuple[Path, Path]:
    leaf = authority.issue_cert(*names)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    leaf.cert_chain_pems[0].write_to_path(certificate)
    leaf.private_key_pem.write_to_path(key)
    return certificate, key


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def tls_server(files: Path) -> Iterator[OpenBaoServer]:
    """A server that wants a certificate from its clients."""
    authority = trustme.CA()
    ca, client = files / "ca.pem", files / "client-both.pem"
    authority.cert_pem.write_to_path(ca)
    client.write_bytes(b"".join(path.read_bytes() for path in written(files, "client", authority, "app@example.com")))
    written(files, "foreign", trustme.CA(), "app@example.com")
    trustme.CA().cert_pem.write_to_path(files / "other-ca.pem")
    certificate, key = written(files, "server", authority, "127.0.0.1")
    try:
        with openbao_server(files, tls=Tls(certificate=certificate, key=key, ca=ca, client=client)) as running:
            running.enable("transit", "transit")
            running.request("POST", "transit/keys/k", {"derived": True})
            yield running
    except Unavailable as reason:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, but {reason}")
        pytest.skip(str(reason))


def opened(server: OpenBaoServer, **changes: Any) -> VaultBackend:
    values: dict[str, Any] = {"address": server.address, "key": "k", "token": SecretStr(server.root_token)}
    return open_backend(VaultSettings(**{**values, "max_attempts": 1, **changes}), environment())


async def test_right_ca_and_certificate_are_let_in(tls_server: OpenBaoServer, files: Path) -> None:
    apart = {"client_cert": files / "client.pem", "client_key": files / "client.key"}
    for shown in (apart, {"client_cert": files / "client-both.pem"}):
        backend = opened(tls_server, ca_file=files / "ca.pem", **shown)
        assert (await backend.check()).key_id == "transit/k"
        await backend.aclose()


@pytest.mark.parametrize(
    ("ca", "client"),
    [
        (None, "client"),
        ("other-ca.pem", "client"),
        ("missing.pem", "client"),
        ("ca.pem", None),
        ("ca.pem", "foreign"),
        ("ca.pem", "missing"),
    ],
)
async def test_anything_else_is_an_outage_that_is_not_repeated(
    tls_server: OpenBaoServer, files: Path, monkeypatch: pytest.MonkeyPatch, ca: str | None, client: str | None
) -> None:
    """The environment's CA bundle does not count either."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files / "ca.pem"))
    changes: dict[str, Any] = {}
    if ca is not None:
        changes["ca_file"] = files / ca
    if client is not None:
        changes |= {"client_cert": files / f"{client}.pem", "client_key": files / f"{client}.key"}
    backend = opened(tls_server, **changes)
    error = await outage(backend.check(), "tls")
    assert "secrets.vault.ca_file" in str(error)
    await backend.aclose()


async def test_plain_http_to_a_tls_listener_does_not_work(tls_server: OpenBaoServer) -> None:
    backend = opened(tls_server, address=tls_server.address.replace("https://", "http://"))
    with pytest.raises(Exception, match=r"(?i)vault") as caught:
        await backend.check()
    assert tls_server.root_token not in str(caught.value)
    await backend.aclose()


def test_tls_files_need_an_https_address(files: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        VaultSettings(address="http://vault:8200", token=SecretStr("t"), ca_file=files / "ca.pem")
    assert caught.value.field == "ca_file"
