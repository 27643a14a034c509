"""The plugin module, what it points at, and what it does not import."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import go_services_envelope
from go_services_core.clock import SystemClock
from go_services_core.errors import ConfigError
from go_services_core.hookspecs import CONTRACT, GROUP
from go_services_core.protocols import PluginEnv
from go_services_core.secret import SecretStr
from go_services_secrets_kms import backend, plugin, secrets_manager, settings


def test_entry_point_offers_backend_and_source_and_everything_they_name_resolves() -> None:
    (found,) = entry_points(group=GROUP, name="secrets-kms")
    assert found.load() is plugin
    assert plugin.GS_CONTRACT == CONTRACT
    (spec,) = plugin.gs_secret_backends()
    assert spec.id == backend.KmsBackend.id == "kms"
    assert spec.factory.resolve() is backend.open_backend
    assert spec.sealer.resolve() is go_services_envelope.Sealer
    assert spec.settings is not None
    assert not isinstance(spec.settings, type)
    assert spec.settings.resolve() is settings.KmsSettings
    (source,) = plugin.gs_secret_sources()
    assert (source.scheme, source.backend, source.remote) == ("aws-sm", "kms", True)
    assert source.factory.resolve() is secrets_manager.SecretsManagerSource


def test_backend_without_key_names_the_setting() -> None:
    env = PluginEnv(clock=SystemClock(), logger=logging.getLogger("test"), resolve_secret=SecretStr)
    with pytest.raises(ConfigError, match=r"secrets\.kms\.key") as caught:
        backend.open_backend(settings.KmsSettings(), env)
    assert caught.value.field == "secrets.kms.key"


def loaded(script: str) -> list[str]:
    """The heavy modules that ``script`` has loaded."""
    heavy = ("boto3", "botocore", "urllib3", "cryptography")
    tail = f"\nimport json, sys; print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    output = subprocess.run([sys.executable, "-c", script + tail], check=True, capture_output=True, text=True).stdout
    names: list[str] = json.loads(output)
    return names


def test_plugin_module_imports_only_declarations() -> None:
    script = (
        "import sys, go_services_secrets_kms.plugin as plugin\n"
        "tuple(plugin.gs_secret_backends()), tuple(plugin.gs_secret_sources())\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('boto3', 'botocore', 'asyncio',"
        " 'go_services_envelope') or name.startswith('go_services_secrets_kms.')])"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "['go_services_secrets_kms.plugin']"


def test_settings_import_nothing_heavy() -> None:
    assert loaded("import go_services_secrets_kms.settings") == []


def test_made_backend_and_source_have_imported_no_boto3_until_their_first_use() -> None:
    made = (
        "import asyncio, logging\n"
        "from pathlib import Path\n"
        "from go_services_core.clock import SystemClock\n"
        "from go_services_core.config.secrets import SourceSettings\n"
        "from go_services_core.errors import ServicesError\n"
        "from go_services_core.protocols import PluginEnv\n"
        "from go_services_core.secret import SecretStr\n"
        "from go_services_secrets_kms.backend import open_backend\n"
        "from go_services_secrets_kms.secrets_manager import SecretsManagerSource\n"
        "from go_services_secrets_kms.settings import KmsSettings\n"
        "env = PluginEnv(clock=SystemClock(), logger=logging.getLogger('test'), resolve_secret=SecretStr)\n"
        "settings = KmsSettings(key='alias/app', profile='none-such')\n"
        "backend = open_backend(settings, env)\n"
        "SecretsManagerSource(SourceSettings(Path(), {}, settings), env)\n"
    )
    assert loaded(made) == []
    used = "try:\n    asyncio.run(backend.check())\nexcept ServicesError:\n    pass\n"
    assert "boto3" in loaded(made + used)
