"""Every check for faces, on the WSGI application: below a dispatcher, and returned by a Flask view."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from flask import Flask, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from go_services_core import BlockingRuntime
from go_services_core.testing.face import FaceApp, FaceSubject, face_app
from go_services_core.testing.pytest_kit import FaceKit
from go_services_core.web.wsgi import WsgiServices

from .serving import serving_wsgi

MOUNT = "/in/tegrations"


@asynccontextmanager
async def subject(make: Callable[[FaceApp, BlockingRuntime], Any]) -> AsyncIterator[FaceSubject]:
    async with face_app(MOUNT) as app:
        with BlockingRuntime.open(**app.opening) as runtime, serving_wsgi(make(app, runtime), app.listening):
            yield FaceSubject(app, runtime, sends_chunked=False, reads_itself=False)


class TestDispatcher(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        def make(app: FaceApp, runtime: BlockingRuntime) -> Any:
            services = WsgiServices(
                runtime, scope_of=lambda environ: app.scope(environ.get("HTTP_X_USER")), **app.options
            )
            return DispatcherMiddleware(Flask("app"), {MOUNT: services})

        async with subject(make) as made:
            yield made


class TestFlaskView(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        def make(app: FaceApp, runtime: BlockingRuntime) -> Any:
            flask = Flask("app")
            services = WsgiServices(
                runtime, mount=MOUNT, scope_of=lambda _: app.scope(request.headers.get("X-User")), **app.options
            )

            @flask.route(f"{MOUNT}/<path:path>", methods=["GET", "POST", "PUT", "DELETE"])
            def integrations(path: str) -> Any:
                return services

            return flask

        async with subject(make) as made:
            yield made
