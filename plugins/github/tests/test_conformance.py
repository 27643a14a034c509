from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from go_services_core.testing.pytest_kit import PluginKit, ProviderKit
from go_services_github.plugin import GITHUB


class TestGitHubProvider(ProviderKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[Any]:
        yield GITHUB


class TestGitHubPlugin(PluginKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[Any]:
        yield "github"
