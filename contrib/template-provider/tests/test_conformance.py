"""The kit's checks, one test each."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from go_services_core.specs import ProviderSpec
from go_services_core.testing.pytest_kit import PluginKit, ProviderKit

from go_services_acme.plugin import ACME


class TestPlugin(PluginKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[str]:
        yield "acme"


class TestProvider(ProviderKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[ProviderSpec]:
        yield ACME
