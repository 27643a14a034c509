"""Running the steps and showing each as it happens."""

from __future__ import annotations

import asyncio
import importlib.util
import json as _json
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..errors import BackendUnavailable, ConfigError, ServicesError, StoreError, WebhookRejected
from ..handler_protocols import HandlerContext
from ..http import InboundRequest
from ..model import Accepted, Event
from .files import Files
from .steps import STEPS, Stage, remember


def run(*, json: bool, keep: Path | None, echo: Callable[[str], None], store: str | None = None) -> int:
    """Run every step until one fails.

    Args:
        json: print one JSON object in the end instead of a line per step.
        keep: folder for configuration, key and database; None uses one that is removed in the end.
        echo: prints a line.
        store: URL of the database; None uses an SQLite file in the folder.

    Returns:
        The exit code: 0 when every step passed, else 1.

    Raises:
        ConfigError: the plugins that the demo needs are not installed.
    """
    missing = [name for name in ("aiohttp", "peewee", "cryptography") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            "The demo needs a transport, a store and a secret backend.", hint="pip install 'go-services-core[standard]'"
        )
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    with nullcontext(str(keep)) if keep is not None else tempfile.TemporaryDirectory(prefix="go-services-") as folder:
        outcome = asyncio.run(_run(Path(folder).resolve(), store, echo=_silent if json else echo))
        if json:
            echo(_json.dumps(outcome, indent=2))
        else:
            for line in _closing(outcome, keep):
                echo(line)
    return 0 if outcome["ok"] else 1


async def _run(folder: Path, store: str | None, *, echo: Callable[[str], None]) -> dict[str, Any]:
    from ..testing.sandbox import Sandbox

    files = Files(folder, store or f"sqlite:///{folder / 'demo.db'}")
    database = ""
    results: list[dict[str, Any]] = []
    async with Sandbox() as sandbox:
        files.write(sandbox, _new_key())
        began = time.perf_counter()
        try:
            async with _stage(files, sandbox) as stage:
                database = (await stage.runtime.store_status()).url
                for step in STEPS:
                    try:
                        detail, ok = await step.run(stage), True
                    except ServicesError as failed:
                        detail, ok = f"{failed} {step.remedy}", False
                    results.append(_result(step.id, step.name, ok=ok, began=began, detail=detail))
                    echo(_line(results[-1]))
                    began = time.perf_counter()
                    if not ok:
                        break
        except ServicesError as failed:
            detail = f"{failed} {STEPS[0].remedy}"
            results.append(_result("migrate", STEPS[0].name, ok=False, began=began, detail=detail))
            echo(_line(results[-1]))
        requests = dict(sorted(sandbox.requests.items()))
    return {
        "ok": len(results) == len(STEPS) and all(result["ok"] for result in results),
        "steps": results,
        "database": database,
        "provider_requests": requests,
    }


@asynccontextmanager
async def _stage(files: Files, sandbox: Any) -> AsyncGenerator[Stage]:
    """The runtime, and a small web application that takes webhooks in, on a loopback port."""
    from aiohttp import web

    from ..runtime.runtime import Runtime

    accepted: list[Accepted] = []
    async with Runtime.open(files.config, migrate=True) as runtime:

        async def webhook(request: web.Request) -> web.Response:
            inbound = InboundRequest(
                request.method, request.raw_path, tuple(request.headers.items()), await request.read()
            )
            try:
                accepted.append(await runtime.accept_webhook("sandbox", inbound))
            except WebhookRejected:
                return web.Response(status=401)
            except (StoreError, BackendUnavailable):
                return web.Response(status=503, headers={"Retry-After": "5"})
            return web.Response(status=204)

        application = web.Application()
        application.router.add_post("/webhooks/sandbox", webhook)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            url = f"http://127.0.0.1:{port}/webhooks/sandbox"
            stage = Stage(files=files, sandbox=sandbox, runtime=runtime, webhook_url=url, accepted=accepted)

            async def handler(event: Event, context: HandlerContext) -> None:
                await remember(stage, event, context)

            await runtime.on("webhook.item.*", handler, name="demo")
            yield stage
        finally:
            await runner.cleanup()


def _silent(line: str) -> None:
    """The printer for ``--json``."""


def _new_key() -> str:
    from go_services_secrets_appkey.key import generate_key

    return generate_key().reveal()


def _result(id: str, name: str, *, ok: bool, began: float, detail: str) -> dict[str, Any]:
    return {"id": id, "name": name, "ok": ok, "ms": round((time.perf_counter() - began) * 1000, 1), "detail": detail}


def _line(result: dict[str, Any]) -> str:
    mark = "ok  " if result["ok"] else "FAIL"
    return f"{mark} {result['name']:<34}{result['ms']:>8.1f} ms  {result['detail']}"


def _closing(outcome: dict[str, Any], keep: Path | None) -> list[str]:
    asked = ", ".join(f"{name} {count}" for name, count in outcome["provider_requests"].items())
    lines = ["", f"Requests that the provider saw: {asked}."]
    if keep is not None:
        lines.append(f"Everything is in {keep}: go-services --config {keep / 'go-services.toml'} connections list")
    if not outcome["ok"]:
        lines.append("The demo failed.")
    return lines
