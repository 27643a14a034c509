"""moto's server and stubs of KMS on loopback, and backends that ask them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from go_services_core.clock import Clock, SystemClock
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_secrets_kms.backend import KmsBackend, open_backend
from go_services_secrets_kms.settings import KmsSettings

from .kms_stub import ACCESS_KEY, SECRET_KEY, KmsStub, serving

HOME, AWAY = "eu-west-1", "us-east-1"
CREDENTIALS: dict[str, Any] = {"access_key_id": SecretStr(ACCESS_KEY), "secret_access_key": SecretStr(SECRET_KEY)}

Opener = Callable[..., KmsBackend]


@pytest.fixture(autouse=True)
def no_aws_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that stands in this machine's environment or files reaches boto3, and it asks no metadata service."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        assert server._server is not None
        server._server.server_close()


class Moto:
    """The administrator's side of moto."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str = "kms", region: str = HOME) -> Any:
        if (service, region) not in self._clients:
            self._clients[service, region] = boto3.session.Session("admin", "admin", region_name=region).client(
                service, endpoint_url=self.url
            )
        return self._clients[service, region]

    def key(self, *, alias: str | None = None, region: str = HOME, **options: Any) -> str:
        """The ARN of a new key."""
        made = self.client(region=region).create_key(**options)["KeyMetadata"]
        if alias is not None:
            self.client(region=region).create_alias(AliasName=alias, TargetKeyId=made["KeyId"])
        return str(made["Arn"])

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture
def moto(moto_url: str) -> Iterator[Moto]:
    admin = Moto(moto_url)
    yield admin
    admin.close()


@pytest.fixture
def home() -> Iterator[KmsStub]:
    with serving(KmsStub(HOME)) as stub:
        yield stub


@pytest.fixture
def away() -> Iterator[KmsStub]:
    with serving(KmsStub(AWAY)) as stub:
        yield stub


@pytest.fixture
async def open_kms() -> AsyncIterator[Opener]:
    """Makes backends, and closes them."""
    made: list[KmsBackend] = []

    def make(clock: Clock | None = None, **options: Any) -> KmsBackend:
        env = PluginEnv(clock=clock or SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
        made.append(open_backend(KmsSettings(**{**CREDENTIALS, "region": HOME, **options}), env))
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()
