"""The plugin module and what it points at."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import go_services_envelope
from go_services_core.hookspecs import CONTRACT, GROUP
from go_services_secrets_vault import backend, kv, plugin, settings


def test_entry_point_offers_backend_and_source_and_everything_they_name_resolves() -> None:
    (found,) = entry_points(group=GROUP, name="secrets-vault")
    assert found.load() is plugin
    assert plugin.GS_CONTRACT == CONTRACT
    (spec,) = plugin.gs_secret_backends()
    assert spec.id == backend.VaultBackend.id == "vault"
    assert spec.factory.resolve() is backend.open_backend
    assert spec.sealer.resolve() is go_services_envelope.Sealer
    assert spec.settings is not None
    assert not isinstance(spec.settings, type)
    assert spec.settings.resolve() is settings.VaultSettings
    (source,) = plugin.gs_secret_sources()
    assert (source.scheme, source.backend, source.remote) == ("vault", "vault", True)
    assert source.factory.resolve() is kv.VaultSource


def loaded(script: str, *names: str) -> set[str]:
    script += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    return set(output.split()) & set(names)


def test_plugin_and_settings_import_nothing_heavy() -> None:
    heavy = ("hvac", "requests", "urllib3", "cryptography", "asyncio")
    declared = (
        "import go_services_secrets_vault.plugin as p; tuple(p.gs_secret_backends()); tuple(p.gs_secret_sources())"
    )
    assert loaded(declared, *heavy) == set()
    assert loaded("import go_services_secrets_vault.settings", *heavy) == set()


def test_hvac_is_imported_by_the_first_call_only() -> None:
    """It takes 0.2 seconds, in a thread, not when the runtime is built."""
    script = (
        "import logging\n"
        "from go_services_core.clock import SystemClock\n"
        "from go_services_core.protocols import PluginEnv\n"
        "from go_services_core.secret import SecretStr\n"
        "from go_services_secrets_vault.backend import open_backend\n"
        "from go_services_secrets_vault.settings import VaultSettings\n"
        "env = PluginEnv(clock=SystemClock(), logger=logging.getLogger(), resolve_secret=SecretStr)\n"
        "open_backend(VaultSettings(address='http://127.0.0.1:1', key='k', token=SecretStr('t')), env)\n"
    )
    assert loaded(script, "hvac", "requests") == set()
