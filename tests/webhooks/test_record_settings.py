"""Settings that a webhook record is made of, and records that cannot protect, through the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import go_services_secrets_appkey.plugin as appkey
import go_services_store_sqlite.plugin as sqlite
import go_services_transport_http.plugin as http
from go_services_core import ProviderSpec, Runtime, hookimpl
from go_services_core.auth_specs import ApiKey
from go_services_core.config import Config
from go_services_core.errors import ConfigError
from go_services_core.plugins import PluginManager
from go_services_core.secret import SecretStr
from go_services_core.webhooks import vendors
from go_services_secrets_appkey.key import generate_key

from .driving import NOW
from .senders import twilio

KEY = SecretStr("twilio-auth-token")
MASTER = generate_key()


class Twilio:
    @hookimpl
    def gs_providers(self) -> Any:
        return (ProviderSpec(id="twilio", name="Twilio", auth=(ApiKey(),), webhook=vendors.TWILIO),)


def opened(folder: Path, **settings: Any) -> Any:
    arguments = {"store.url": f"sqlite:///{folder}/a.db", "secrets.appkey.key": MASTER, **settings}
    manager = PluginManager.of({"appkey": appkey, "sqlite": sqlite, "http": http, "twilio": Twilio()})
    return Runtime.open(Config.load(None, environ={}, arguments=arguments), plugins=manager, migrate=True)


async def test_a_setting_that_a_record_is_made_of_is_missed_when_a_delivery_comes(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(KEY.reveal())
    table = {"providers.twilio.webhook_secrets": [f"file:{tmp_path}/token"]}
    request = twilio(b"MessageSid=SM1", NOW, KEY)
    async with opened(tmp_path, **table) as runtime:  # an installed plugin that nobody set up stops nothing
        for call in (runtime.accept_webhook, runtime.verify_webhook):
            with pytest.raises(ConfigError) as missed:
                await call("twilio", request)
            assert missed.value.field == "providers.twilio.webhook_url"
    async with opened(tmp_path, **table, **{"providers.twilio.webhook_url": "https://app.example.com/"}) as runtime:
        assert (await runtime.accept_webhook("twilio", request)).id


async def test_a_record_that_cannot_protect_is_a_typed_error(tmp_path: Path) -> None:
    webhook = {"scheme": "hmac", "signature_header": "X-Sig", "id_header": "X-Id", "tolerance": 0.0}
    settings = {"providers.acme.auth": {"kind": "api_key"}, "providers.acme.webhook": webhook}
    async with opened(tmp_path, **settings) as runtime:
        with pytest.raises(ConfigError, match="tolerance") as refused:
            await runtime.accept_webhook("acme", twilio(b"", NOW, KEY))
        assert refused.value.field == "webhook"
