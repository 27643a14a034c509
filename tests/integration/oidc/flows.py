"""An application that is configured for several flows, as the how-to page says, and its clients at the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest

from go_services_secrets_appkey.key import generate_key

from .process import PROJECT, OidcServer
from .site import Site

FLOWS_PAGE: Final = PROJECT / "docs" / "how-to" / "choose-a-flow.md"
DEVICE_PAGE: Final = FLOWS_PAGE.with_name("consent-on-another-device.md")
FLOWS_PAGE_SERVER: Final = "https://login.corp.example:8443"
ROBOT_SECRET: Final = "the robot's secret, 32 bytes or more"
DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
FLOW_CLIENTS: Final[tuple[dict[str, Any], ...]] = (
    {
        "client_id": "tv-app",
        "token_endpoint_auth_method": "none",
        "grant_types": [DEVICE, "refresh_token"],
        "redirect_uris": [],
        "response_types": [],
    },
    {
        "client_id": "robot",
        "client_secret": ROBOT_SECRET,
        "token_endpoint_auth_method": "client_secret_post",
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
        "scope": "api:read",
    },
)


def page_code(page: Path = FLOWS_PAGE) -> str:
    """The page's Python, all of it."""
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE))


def configure_flows(server: OidcServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Write the page's configuration, with the server's address in it; the API's stays what it is."""
    (text,) = re.findall(r"^```toml\n(.*?)^```$", FLOWS_PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for there, here in (
        (FLOWS_PAGE_SERVER, server.url),
        (FLOWS_PAGE_SERVER.removeprefix("https://"), server.address),
    ):
        assert there in text
        text = text.replace(there, here)
    (folder / "go-services.toml").write_text(text, "utf-8")
    (folder / "go-services.key").write_text(generate_key().reveal(), "ascii")
    monkeypatch.setenv("OIDC_CLIENT_SECRET", server.client_secret)
    monkeypatch.setenv("ROBOT_CLIENT_SECRET", ROBOT_SECRET)
    monkeypatch.setenv("EXCHANGE_CLIENT_SECRET", "of a server that is not asked here")
    monkeypatch.chdir(folder)
    return Site(folder / "go-services.toml", server)
