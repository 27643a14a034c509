"""The plugin module and what it points at."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import go_services_envelope
from go_services_core.hookspecs import CONTRACT, GROUP
from go_services_secrets_appkey import backend, key, plugin, settings


def test_entry_point_offers_the_backend_and_everything_it_names_resolves() -> None:
    (found,) = entry_points(group=GROUP, name="secrets-appkey")
    assert found.load() is plugin
    assert plugin.GS_CONTRACT == CONTRACT
    (spec,) = plugin.gs_secret_backends()
    assert spec.id == backend.AppKeyBackend.id == "appkey"
    assert spec.factory.resolve() is backend.open_backend
    assert spec.sealer.resolve() is go_services_envelope.Sealer
    assert spec.settings is not None
    assert not isinstance(spec.settings, type)
    assert spec.settings.resolve() is settings.AppKeySettings
    assert spec.generate_key is not None
    assert spec.generate_key.resolve() is key.generate_key


def test_settings_import_no_cryptography() -> None:
    script = (
        "import sys, go_services_secrets_appkey.settings\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('cryptography', 'asyncio')])"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "[]"


def test_plugin_module_imports_neither_cryptography_nor_the_envelope() -> None:
    script = (
        "import sys, go_services_secrets_appkey.plugin as plugin\n"
        "tuple(plugin.gs_secret_backends())\n"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('cryptography', 'asyncio', 'go_services_envelope') or name.startswith('go_services_secrets_appkey.')])"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "['go_services_secrets_appkey.plugin']"
