"""The plugin module, what it points at, and a provider that only a configuration file declares."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from go_services_auth_jwt import plugin
from go_services_auth_jwt.dpop import DpopSigner
from go_services_auth_jwt.jose import JwtJose
from go_services_auth_jwt.jwt_bearer import JwtBearerFlow
from go_services_auth_jwt.message_signatures import HttpSignatureKeySigner
from go_services_auth_jwt.records import JwtBearer, ServiceAccountJwt, SessionTokenExchange
from go_services_auth_jwt.service_account import ServiceAccountFlow
from go_services_auth_jwt.session_exchange import SessionTokenFlow
from go_services_auth_jwt.settings import JwtBearerSettings, SessionTokenSettings
from go_services_auth_jwt.shop_token import ShopTokenSigner
from go_services_core.config import Config
from go_services_core.errors import ConfigError
from go_services_core.hookspecs import CONTRACT, GROUP
from go_services_core.plugins import PluginManager
from go_services_core.providers import build_instances
from go_services_core.refs import Ref
from go_services_core.secret import SecretStr
from go_services_core.testing.pytest_kit import PluginKit


def test_entry_point_offers_the_flows_and_the_signer_and_everything_resolves() -> None:
    (found,) = entry_points(group=GROUP, name="auth-jwt")
    assert found.load() is plugin
    assert plugin.GS_CONTRACT == CONTRACT
    bearer, account, embedded = strategies = tuple(plugin.gs_auth_strategies())
    assert [one.flow.resolve() for one in strategies] == [JwtBearerFlow, ServiceAccountFlow, SessionTokenFlow]
    signers = {spec.scheme: spec.signer.resolve() for spec in plugin.gs_signers()}
    assert signers == {
        "dpop": DpopSigner,
        "http_signature_key": HttpSignatureKeySigner,
        "shop_token": ShopTokenSigner,
    }
    assert [spec.jose.resolve() for spec in plugin.gs_jose()] == [JwtJose]
    refs = [ref for one in strategies for ref in (one.record, one.settings) if isinstance(ref, Ref)]
    records = [JwtBearer, JwtBearerSettings, ServiceAccountJwt, SessionTokenExchange, SessionTokenSettings]
    assert [ref.resolve() for ref in refs] == records
    assert (JwtBearer.kind, ServiceAccountJwt.kind, SessionTokenExchange.kind) == (
        bearer.kind,
        account.kind,
        embedded.kind,
    )


@pytest.mark.parametrize("module", ["plugin", "settings", "records"])
def test_declarations_import_neither_cryptography_nor_the_flows(module: str) -> None:
    script = (
        f"import sys, go_services_auth_jwt.{module}\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('cryptography', 'asyncio')"
        " or name.startswith('go_services_auth_jwt.')))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.strip() == f"['go_services_auth_jwt.{module}']"


class TestAuthJwt(PluginKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[str]:
        yield "auth-jwt"


DECLARED = """
[providers.drive]
name = "Drive"
base_url = "https://www.googleapis.com/drive/v3"

[providers.drive.auth]
kind = "service_account_jwt"
token_url = "https://oauth2.googleapis.com/token"
default_grants = ["https://www.googleapis.com/auth/drive"]

[providers.crm]
base_url = "https://crm.example"
client_id = "my-app"
private_key = "env:CRM_KEY"
key_id = "k1"

[providers.crm.auth]
kind = "jwt_bearer"
token_url = "https://login.crm.example/token"
algorithm = "ES256"
lifetime = 120
"""


def load(text: str, folder: Path) -> Config:
    path = folder / "go-services.toml"
    path.write_text(text, "utf-8")
    return Config.load(path, environ={})


def test_provider_of_each_kind_can_be_declared_in_a_configuration_file(tmp_path: Path) -> None:
    catalog = PluginManager.of({"auth-jwt": plugin}).catalog()
    instances = build_instances(load(DECLARED, tmp_path), catalog, lambda reference: SecretStr(f"<{reference}>"))
    assert instances["drive"].auth() == ServiceAccountJwt(
        token_url="https://oauth2.googleapis.com/token", default_grants=("https://www.googleapis.com/auth/drive",)
    )
    assert instances["crm"].auth() == JwtBearer(
        token_url="https://login.crm.example/token", algorithm="ES256", lifetime=120.0
    )
    assert instances["crm"].auth_settings() == JwtBearerSettings(
        client_id="my-app", private_key=SecretStr("<env:CRM_KEY>"), key_id="k1"
    )


def test_unknown_option_of_a_record_is_refused(tmp_path: Path) -> None:
    catalog = PluginManager.of({"auth-jwt": plugin}).catalog()
    for wrong in (DECLARED.replace("lifetime", "life_time"), DECLARED.replace("ES256", "none")):
        with pytest.raises(ConfigError, match="crm"):
            build_instances(load(wrong, tmp_path), catalog, SecretStr)
