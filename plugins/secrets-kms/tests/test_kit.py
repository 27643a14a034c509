"""The conformance kit against moto's server."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from go_services_core.clock import SystemClock
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_core.testing.pytest_kit import PluginKit, SecretBackendKit
from go_services_secrets_kms.backend import KmsBackend, open_backend
from go_services_secrets_kms.settings import KmsSettings

from .conftest import CREDENTIALS, HOME, Moto


class TestKmsByAlias(SecretBackendKit):
    @pytest.fixture(autouse=True)
    def key(self, moto: Moto) -> Iterator[None]:
        self.settings = KmsSettings(key="alias/kit", region=HOME, endpoint_url=moto.url, **CREDENTIALS)
        moto.key(alias="alias/kit")
        yield
        moto.client().delete_alias(AliasName="alias/kit")

    @asynccontextmanager
    async def subject(self) -> AsyncIterator[KmsBackend]:
        env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
        backend = open_backend(self.settings, env)
        yield backend
        await backend.aclose()


class TestKmsByArn(TestKmsByAlias):
    @pytest.fixture(autouse=True)
    def key(self, moto: Moto) -> None:
        self.settings = KmsSettings(key=moto.key(), endpoint_url=moto.url, allow_any_key=True, **CREDENTIALS)


class TestPlugin(PluginKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[str]:
        yield "secrets-kms"
