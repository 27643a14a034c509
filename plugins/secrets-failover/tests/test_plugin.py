"""The plugin module, what it points at, and the settings that it refuses."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from attrs import evolve

import go_services_envelope
from go_services_core.errors import ConfigError, PluginNotFound
from go_services_core.hookspecs import CONTRACT, GROUP
from go_services_secrets_failover import backend, plugin, settings

from .members import Local, environment


def test_entry_point_offers_the_backend_and_everything_it_names_resolves() -> None:
    (found,) = entry_points(group=GROUP, name="secrets-failover")
    assert found.load() is plugin
    assert plugin.GS_CONTRACT == CONTRACT
    (spec,) = plugin.gs_secret_backends()
    assert spec.id == backend.FailoverBackend.id == "failover"
    assert spec.factory.resolve() is backend.open_backend
    assert spec.sealer.resolve() is go_services_envelope.Sealer
    assert spec.settings is not None
    assert not isinstance(spec.settings, type)
    assert spec.settings.resolve() is settings.FailoverSettings


def test_plugin_module_imports_neither_the_backend_nor_the_envelope() -> None:
    script = (
        "import sys, go_services_secrets_failover.plugin as plugin\n"
        "tuple(plugin.gs_secret_backends())\n"
        "print([name for name in sys.modules if name.split('.')[0] in"
        " ('cryptography', 'asyncio', 'go_services_envelope') or name.startswith('go_services_secrets_failover.')])"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "['go_services_secrets_failover.plugin']"


MEMBERS = {"near": Local("near"), "far": Local("far")}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("policy", {"policy": "Fallback_Allowed"}),
        ("policy", {"policy": ""}),
        ("policy", {"policy": "fallback"}),
        ("fallback", {"policy": "fallback_allowed", "fallback": None}),
        ("fallback", {"fallback": "near"}),
        ("failures_to_open", {"failures_to_open": 0}),
        ("failures_to_open", {"failures_to_open": -1}),
        ("probe_seconds", {"probe_seconds": 0.0}),
        ("probe_seconds", {"probe_seconds": float("nan")}),
        ("timeout", {"timeout": -1.0}),
        ("timeout", {"timeout": float("inf")}),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name_and_never_replaced(name, wrong) -> None:
    given = settings.FailoverSettings(**{"primary": "near", "fallback": "far", **wrong})
    with pytest.raises(ConfigError, match=name) as caught:
        backend.open_backend(given, environment(MEMBERS))
    assert (caught.value.field, caught.value.plugin) == (f"secrets.failover.{name}", "secrets-failover")


def test_member_that_is_not_installed_is_named_with_its_setting() -> None:
    def nobody(id):
        if id == "near":
            return MEMBERS[id]
        raise PluginNotFound.named("secret backend", id, ["appkey"])

    given = settings.FailoverSettings(primary="near", fallback="appkeyy")
    with pytest.raises(ConfigError, match="'appkeyy'") as caught:
        backend.open_backend(given, evolve(environment(MEMBERS), secret_backend=nobody))
    assert caught.value.field == "secrets.failover.fallback"
    assert "appkey" in str(caught.value.hint)


def test_without_a_runtime_there_are_no_members() -> None:
    given = settings.FailoverSettings(primary="near")
    with pytest.raises(ConfigError, match="runtime"):
        backend.open_backend(given, evolve(environment(MEMBERS), secret_backend=None))
