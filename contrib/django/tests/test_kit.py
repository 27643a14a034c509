"""Every check for faces, on Django's views: blocking under WSGI and async under ASGI, over sockets."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import ModuleType

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from django.urls import include, path

from go_services_core import BlockingRuntime
from go_services_core.testing.face import FaceApp, FaceSubject, face_app
from go_services_core.testing.pytest_kit import FaceKit
from go_services_django import services

from .serving import serving_asgi, serving_wsgi

MOUNT = "/in/tegrations"


def made_urls(name: str) -> str:
    """A URL configuration of a project that includes ours."""
    module = ModuleType(f"made_for_{name.rpartition('.')[2]}")
    module.urlpatterns = [path(f"{MOUNT[1:]}/", include(name))]  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return module.__name__


@contextmanager
def configured(app: FaceApp, runtime: BlockingRuntime, urls: str) -> Iterator[None]:
    if not settings.configured:
        settings.configure(SECRET_KEY="for the tests alone", ALLOWED_HOSTS=["*"])
        django.setup()
    face = {
        "runtime": lambda: runtime,
        "scope_of": lambda request: app.scope(request.headers.get("X-User")),
        **app.options,
    }
    with override_settings(ROOT_URLCONF=made_urls(urls), GO_SERVICES=face, ALLOWED_HOSTS=["*"]):
        try:
            yield
        finally:
            services.close()


class TestBlocking(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        async with face_app(MOUNT) as app:
            with (
                BlockingRuntime.open(**app.opening) as runtime,
                configured(app, runtime, "go_services_django.urls"),
                serving_wsgi(get_wsgi_application(), app.listening),
            ):
                yield FaceSubject(app, runtime, reads_itself=False)


class TestAsync(FaceKit):
    @asynccontextmanager
    async def subject(self) -> AsyncIterator[FaceSubject]:
        async with face_app(MOUNT) as app:
            with (
                BlockingRuntime.open(**app.opening) as runtime,
                configured(app, runtime, "go_services_django.async_urls"),
            ):
                async with serving_asgi(get_asgi_application(), app.listening):
                    yield FaceSubject(app, runtime, reads_itself=False)
