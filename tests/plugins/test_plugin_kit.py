from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from go_services_core.testing.kit import conformance

GOOD = """
    from go_services_core import PersonalToken, ProviderSpec, hookimpl
    from go_services_core.refs import Ref

    GS_CONTRACT = 1

    @hookimpl
    def gs_providers():
        return [ProviderSpec(id="{id}", name="x", auth=PersonalToken(), adapter=Ref("{target}"))]
"""


def package(install, id="specimen", source=GOOD, *, typed=True, target="json:JSONEncoder", entry_points=None) -> None:
    from textwrap import dedent

    name = f"go_services_{id}"
    files = {
        f"{name}/__init__.py": "",
        f"{name}/plugin.py": dedent(source).replace("{id}", id).replace("{target}", target),
    }
    if typed:
        files[f"{name}/py.typed"] = ""
    entry = f"[go_services.plugins]\n{id} = {name}.plugin\n"
    install(id, "", entry_points=entry_points or entry, files=files)


async def failed(id: str) -> set[str]:
    @asynccontextmanager
    async def subject():
        yield id

    report = await conformance("plugin", subject)
    return {result.check.id for result in report.results if result.outcome == "failed"}


async def test_a_plugin_as_it_should_be_passes_all_that_must_hold(site, install):
    package(install)
    assert await failed("specimen") == {"PLG-007"}
    info = site / "go_services_specimen-1.0.dist-info" / "METADATA"
    info.write_text(info.read_text() + "# Specimen\n\n## Installation\n\n...\n\n## Configuration\n\n...\n")
    assert await failed("specimen") == set()


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"source": GOOD + "    import asyncio\n"}, "PLG-003"),
        ({"source": GOOD.replace("GS_CONTRACT", "CONTRACT")}, "PLG-002"),
        ({"source": GOOD.replace("gs_providers", "gs_provider")}, "PLG-004"),
        ({"source": GOOD.replace("return [", "return ['x', ")}, "PLG-004"),
        ({"source": "GS_CONTRACT = 1\n"}, "PLG-004"),
        ({"target": "go_services_specimen.api:Missing"}, "PLG-005"),
        ({"typed": False}, "PLG-006"),
        ({"entry_points": "[go_services.plugins]\nspecimen = go_services_specimen.plugin:thing\n"}, "PLG-001"),
    ],
)
async def test_each_mistake_is_found_by_its_check(site, install, change, check):
    package(install, **change)
    assert check in await failed("specimen")


async def test_a_plugin_that_imports_the_world_is_found(site, install):
    package(
        install, source=GOOD + "    import xml.sax, http.client, email.message, unittest.mock, sqlite3, html.parser\n"
    )
    assert "PLG-003" in await failed("specimen")


async def test_a_plugin_that_is_not_installed_fails_every_check(site):
    assert len(await failed("absent")) == 7
