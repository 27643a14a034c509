"""An application that is configured for the server as the how-to page says."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from go_services_core import Connection, Runtime, Scope, SystemClock
from go_services_secrets_appkey.key import generate_key

from .browser import Browser
from .process import PROJECT, OidcServer

PAGE: Final = PROJECT / "docs" / "how-to" / "connect-any-oauth-server.md"
PAGE_SERVER: Final = "https://login.corp.example:8443"
REDIRECT: Final = "http://127.0.0.1:8765/callback"
ALICE: Final = Scope("user", "u1")


@frozen
class Site:
    """A folder with ``go-services.toml`` and what it refers to; it is the working directory."""

    config: Path
    server: OidcServer


def configure(server: OidcServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Write the page's configuration, with the server's address in it."""
    text = page_block("toml")
    for there, here in ((PAGE_SERVER, server.url), (PAGE_SERVER.removeprefix("https://"), server.address)):
        assert there in text
        text = text.replace(there, here)
    (folder / "go-services.toml").write_text(text, "utf-8")
    (folder / "go-services.key").write_text(generate_key().reveal(), "ascii")
    monkeypatch.setenv("OIDC_CLIENT_SECRET", server.client_secret)
    monkeypatch.chdir(folder)
    return Site(folder / "go-services.toml", server)


def page_block(language: str) -> str:
    """The one block of the how-to page in that language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return str(block)


async def connect(runtime: Runtime, scope: Scope = ALICE, *, login: str = "alice") -> Connection:
    """From the first click to the connection, with a browser that has never been at the server."""
    start = await runtime.connect("oidc", scope=scope, redirect_uri=REDIRECT)
    async with Browser(login) as browser:
        callback = await browser.consent(start.url)
    return await runtime.complete(callback, binding=start.binding)


class ShiftedClock(SystemClock):
    """The machine's clock, off by as many seconds as a test says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead
