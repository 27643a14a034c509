"""The conformance checks for one plugin and for each provider that it brings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from ..errors import PluginBroken, PluginError, PluginIncompatible
from ..plugins import PluginInfo
from ..testing.kit import Kind, Result, conformance
from .survey import Survey


def check_plugin(info: PluginInfo, surveyed: Survey) -> list[tuple[str, Result]]:
    """The results, each with the id of what was examined.

    A store, a secret backend and a transport need an address and keys: their packages run those checks in their tests.

    Raises:
        PluginBroken, PluginIncompatible: the plugin does not load, so that nothing can be checked.
        PluginError: it is disabled.
    """
    if info.status == "broken":
        raise PluginBroken(f"It does not load: {info.error}", plugin=info.id)
    if info.status == "incompatible":
        raise PluginIncompatible(f"It does not load: {info.error}", plugin=info.id)
    if info.status == "disabled":
        raise PluginError(
            "It is disabled.", plugin=info.id, hint=f"`go-services plugins enable {info.id}` turns it on."
        )
    catalog = surveyed.catalog()
    subjects: list[tuple[Kind, str, Any]] = [("plugin", info.id, info.id)]
    for provider_id, spec in catalog.providers.items():
        if catalog.owner("providers", provider_id).plugin == info.id:
            subjects.append(("provider", provider_id, spec))

    async def run() -> list[tuple[str, Result]]:
        results = []
        for kind, name, subject in subjects:
            report = await conformance(kind, partial(_given, subject))
            results += [(name, result) for result in report.results]
        return results

    return asyncio.run(run())


@asynccontextmanager
async def _given(subject: Any) -> AsyncIterator[Any]:
    yield subject
