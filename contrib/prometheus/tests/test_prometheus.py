"""Metrics as Prometheus scrapes them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from itertools import count
from types import ModuleType
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from go_services_core import Scope
from go_services_core.call_specs import RetryPolicy
from go_services_core.errors import ConfigError, ProviderUnavailable
from go_services_core.hookspecs import CONTRACT, GROUP
from go_services_core.http import HttpResponse
from go_services_core.testing.pytest_kit import PluginKit
from go_services_prometheus import plugin

NUMBERS = count()
SECRET = "t0ken-of-the-connection-0123"


class TestConformance(PluginKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[str]:
        yield "prometheus"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings with a registry of this test alone; a reference is resolved once, so the module is one of its own."""
    name = f"made_metrics_{next(NUMBERS)}"
    module = ModuleType(name)
    module.REGISTRY, module.SECRET = CollectorRegistry(), SECRET  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    return {"observers.prometheus.registry": f"{name}:REGISTRY"}


@pytest.fixture
def registry(own: dict[str, Any]) -> CollectorRegistry:
    made: CollectorRegistry = sys.modules[own["observers.prometheus.registry"].partition(":")[0]].REGISTRY
    return made


def scraped(registry: CollectorRegistry) -> dict[str, Any]:
    """Samples by name, as Prometheus reads the text."""
    text = generate_latest(registry).decode()
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def test_scrape_has_count_and_duration_of_each_kind_of_work(
    opening: Any, transport: Any, own: dict[str, Any], registry: CollectorRegistry
) -> None:
    transport.expect("GET", "/things", HttpResponse(200, (), b"[]")).expect(
        "GET", "/things", HttpResponse(503, (), b"")
    )
    async with opening({"prometheus": plugin}, own | {"observers.prometheus.buckets": [1, 1000]}) as runtime:
        connection = await runtime.establish("acme", scope=Scope("user", "u-1"), fields={"token": SECRET})
        await runtime.execute(connection.id, "things.list")
        with pytest.raises(ProviderUnavailable):
            await runtime.execute(connection.id, "things.list", retry=RetryPolicy(attempts=1))
    samples = scraped(registry)
    labels = {"operation": "things.list", "provider_id": "acme"}
    good = labels | {"status": "success", "error_code": "", "error_category": ""}
    bad = labels | {
        "status": "failure", "error_code": ProviderUnavailable.code, "error_category": "external",
    }  # fmt: skip
    assert samples["services_provider_operation_total"] == [(good, 1.0), (bad, 1.0)]
    assert samples["services_provider_operation_duration_ms_count"] == [(good, 1.0), (bad, 1.0)]
    limits = [sample["le"] for sample, _ in samples["services_provider_operation_duration_ms_bucket"]]
    assert limits == ["1.0", "1000.0", "+Inf"] * 2
    assert samples["services_establish_total"][0][1] == 1.0
    assert samples["services_connection_established_total"][0][1] == 1.0
    text = generate_latest(registry).decode()
    assert connection.id not in text
    assert "u-1" not in text
    assert SECRET not in text


async def test_two_runtimes_of_a_process_count_in_one_registry(
    opening: Any, own: dict[str, Any], registry: CollectorRegistry
) -> None:
    for _ in range(2):
        async with opening({"prometheus": plugin}, own) as runtime:
            await runtime.establish("acme", scope=Scope("user", "u-1"), fields={"token": SECRET})
    assert scraped(registry)["services_establish_total"][0][1] == 2.0


@pytest.mark.parametrize("registry_name", ["no.such.module:REGISTRY", "{own}:NOTHING", "{own}:SECRET"])
async def test_registry_that_is_none_stops_the_start_and_is_named(
    opening: Any, own: dict[str, Any], registry_name: str
) -> None:
    module = own["observers.prometheus.registry"].partition(":")[0]
    name = registry_name.format(own=module)
    with pytest.raises(ConfigError, match=r"observers\.prometheus\.registry"):
        async with opening({"prometheus": plugin}, {"observers.prometheus.registry": name}):
            pytest.fail("opened")


@pytest.mark.parametrize("buckets", [[], [0, 1], [5, 1], [1, 1]])
async def test_buckets_that_cannot_work_stop_the_start(opening: Any, buckets: list[float]) -> None:
    with pytest.raises(ConfigError, match="buckets"):
        async with opening({"prometheus": plugin}, {"observers.prometheus.buckets": buckets}):
            pytest.fail("opened")


def test_entry_point_is_the_plugin_which_does_not_import_the_library() -> None:
    (found,) = entry_points(group=GROUP, name="prometheus")
    assert found.load() is plugin
    assert plugin.GS_CONTRACT == CONTRACT
    script = (
        "import sys, go_services_prometheus.plugin as p; p.gs_observers(); print('prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
