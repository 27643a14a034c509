"""The routes for Django under ASGI: ``path("integrations/", include("go_services_django.async_urls"))``."""

from __future__ import annotations

from django.urls import path

from .views import async_view, exempt_async_view

app_name = "go_services"
urlpatterns = [
    path("connect/<str:rest>", async_view, {"route": "connect"}, name="connect"),
    path("callback", exempt_async_view, {"route": "callback"}, name="callback"),
    path("<str:route>", exempt_async_view),
    path("<str:route>/<path:rest>", exempt_async_view),
]
