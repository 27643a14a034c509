"""Metrics and status: there only where they are named, complete, escaped, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve

import go_services_prometheus.plugin as prometheus
from go_services_core import Runtime, Scope
from go_services_core.errors import BadInput, ServicesError
from go_services_core.http import HttpResponse
from go_services_core.testing.face import FaceApp, face_app
from go_services_core.testing.memory import MemoryStore
from go_services_core.web.pages import POLICY, STYLE
from go_services_core.web.request import WebRequest
from go_services_core.web.routes import answer
from go_services_core.web.site import INTERNAL, Site


@pytest.fixture
async def app() -> AsyncIterator[FaceApp]:
    async with face_app() as made:
        yield made


@pytest.fixture
async def runtime(app: FaceApp) -> AsyncIterator[Runtime]:
    async with Runtime.open(**app.opening) as opened:
        yield opened


async def get(runtime: Runtime, path: str, site: Site, **headers: str) -> HttpResponse:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return await answer(runtime, WebRequest(method="GET", target=path, path=path, headers=pairs), site)


async def test_status_tells_of_providers_connections_queues_workers_and_failures(
    app: FaceApp, runtime: Runtime
) -> None:
    site = Site(routes=INTERNAL)
    runtime.observe(site.failures, name="status", inline=True)
    start = await runtime.connect("sandbox", scope=Scope("user", "u1"))
    connection = await runtime.complete(await app.sandbox.consent(start.url), binding=start.binding)
    await runtime.require_reconsent(connection.id, reason="kit")
    with pytest.raises(ServicesError):
        await runtime.complete({"state": "unknown", "code": "c"}, binding="b")
    found = json.loads((await get(runtime, "/status", site)).body)
    assert [one["id"] for one in found["providers"]] == ["kit", "sandbox", "silent"]
    assert found["providers"][1]["connections"] == {"needs_reconsent": 1}
    assert [(one["id"], one["scope"]) for one in found["attention"]] == [(connection.id, "user:u1")]
    assert [(one["what"], one["code"]) for one in found["failures"]] == [("complete", "SERVICE_OAUTH_STATE_UNKNOWN")]
    assert [one["check"] for one in found["health"]] == ["secrets", "settings", "store", "worker"]
    assert {one["queue"] for one in found["queues"]} == {"inbox", "outbox", "jobs"}
    page = (await get(runtime, "/status", site, Accept="text/html")).body.decode()
    for text in (connection.id, "needs_reconsent", "SERVICE_OAUTH_STATE_UNKNOWN", "No process works on the queues"):
        assert text in page
    sandbox = app.sandbox
    secrets = [sandbox.client_secret.reveal(), sandbox.webhook_secret.reveal(), *sandbox.issued_secrets()]
    for shown in (page, json.dumps(found)):
        assert not [secret for secret in secrets if secret in shown]


async def test_status_page_escapes_what_plugins_say_and_may_run_nothing(runtime: Runtime) -> None:
    instance = runtime.providers()["kit"]
    evil = evolve(instance, spec=evolve(instance.spec, name="<script>alert(1)</script>"))
    runtime._core.instances = {"kit": evil}
    answered = await get(runtime, "/status", Site(routes=INTERNAL), Accept="text/html")
    page = answered.body.decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert answered.header("Content-Security-Policy") == POLICY
    assert "default-src 'none'" in POLICY
    assert re.findall(r"<style>(.*?)</style>", page, re.DOTALL) == [STYLE]


async def test_metrics_and_status_are_there_only_where_they_are_named(runtime: Runtime) -> None:
    for path in ("/metrics", "/status"):
        assert (await get(runtime, path, Site())).status == 404


async def test_metrics_are_those_of_the_installed_plugin_else_404_with_what_to_install(app: FaceApp) -> None:
    site = Site(routes=("metrics",))
    async with Runtime.open(**app.opening) as without:
        refused = await get(without, "/metrics", site)
    assert refused.status == 404
    assert "go-services-core[prometheus]" in json.loads(refused.body)["error"]["hint"]
    app.plugins["prometheus"] = prometheus
    app.store = MemoryStore()
    async with Runtime.open(**app.opening) as runtime:
        with pytest.raises(ServicesError):
            await runtime.complete({"state": "unknown", "code": "c"}, binding="b")
        scraped = await get(runtime, "/metrics", site)
    assert scraped.status == 200
    assert (scraped.header("Content-Type") or "").startswith("text/plain; version=")
    assert b'services_complete_callback_total{error_category="authentication"' in scraped.body


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"routes": ("webhook",)}, "routes"),
        ({"public_url": "app.example"}, "public_url"),
        ({"public_url": "https://u:p@app.example"}, "public_url"),
        ({"public_url": "https://app.example/?a=1"}, "public_url"),
        ({"trusted_origins": ("https://app.example/path",)}, "trusted_origins"),
        ({"body_limit": 0}, "body_limit"),
        ({"body_seconds": float("nan")}, "body_seconds"),
    ],
)
def test_option_that_cannot_be_used_is_refused_by_name(options: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as raised:
        Site(**options)
    assert raised.value.field == field
