"""Every check for faces, on an aiohttp application and on a sub-application of one, over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from go_services_aiohttp import setup
from go_services_core import Runtime
from go_services_core.testing.face import FaceApp, FaceSubject, face_app
from go_services_core.testing.pytest_kit import FaceKit

MOUNT = "/in/tegrations"


@asynccontextmanager
async def serving(app: web.Application, made: FaceApp) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, made.listening).start()
        yield
    finally:
        await runner.cleanup()


def options(app: FaceApp) -> dict[str, Any]:
    return {"scope_of": lambda request: app.scope(request.headers.get("X-User")), **app.options}


class TestPrefix(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        async with face_app(MOUNT) as made, Runtime.open(**made.opening) as runtime:
            app = web.Application()
            setup(app, runtime, prefix=f"{MOUNT}/", **options(made))
            async with serving(app, made):
                yield FaceSubject(made, runtime)


class TestSubApplication(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        async with face_app(MOUNT) as made, Runtime.open(**made.opening) as runtime:
            app, inner = web.Application(), web.Application(client_max_size=10)
            setup(inner, runtime, **options(made))
            app.add_subapp(MOUNT, inner)
            async with serving(app, made):
                yield FaceSubject(made, runtime)
