"""Every check for faces, on the ASGI application by itself and mounted in each framework, over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.routing import Mount

from go_services_asgi import GoServices
from go_services_core import Runtime
from go_services_core.testing.face import FaceApp, FaceSubject, face_app
from go_services_core.testing.pytest_kit import FaceKit

from .serving import serving

MOUNT = "/in/tegrations"


def face(app: FaceApp, runtime: Runtime) -> GoServices:
    def whose(scope: Any) -> Any:
        return app.scope(dict(scope["headers"]).get(b"x-user", b"").decode())

    return GoServices(runtime, scope_of=whose, **app.options)


@asynccontextmanager
async def subject(mounted: Callable[[GoServices], Any], mount: str, **options: Any) -> AsyncIterator[FaceSubject]:
    async with (
        face_app(mount) as app,
        Runtime.open(**app.opening) as runtime,
        serving(mounted(face(app, runtime)), app.listening, **options),
    ):
        yield FaceSubject(app, runtime)


class TestAlone(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        async with subject(lambda services: services, "", lifespan="off") as made:
            yield made


class TestInStarlette(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        async with subject(lambda services: Starlette(routes=[Mount(MOUNT, app=services)]), MOUNT) as made:
            yield made


class TestInFastApi(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        def mounted(services: GoServices) -> FastAPI:
            app = FastAPI()
            app.mount(MOUNT, services)
            return app

        async with subject(mounted, MOUNT) as made:
            yield made


class TestInLitestar(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        def mounted(services: GoServices) -> Litestar:
            @asgi(MOUNT, is_mount=True, copy_scope=True)
            async def mount(scope: Any, receive: Any, send: Any) -> None:
                await services(scope, receive, send)

            return Litestar([mount], openapi_config=None, logging_config=None)  # it would set the root logger

        async with subject(mounted, MOUNT) as made:
            yield made


class TestBesideDjango(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        def mounted(services: GoServices) -> Starlette:
            if not django_settings.configured:
                django_settings.configure(SECRET_KEY="for the tests alone", ALLOWED_HOSTS=["*"])
            django = get_asgi_application()
            return Starlette(routes=[Mount(MOUNT, app=services), Mount("/", app=django)])

        async with subject(mounted, MOUNT, lifespan="off") as made:
            yield made
