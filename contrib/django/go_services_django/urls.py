"""The routes for Django under WSGI: ``path("integrations/", include("go_services_django.urls"))``.

What begins a consent keeps Django's CSRF protection; the name is ``go_services:connect``.
"""

from __future__ import annotations

from django.urls import path

from .views import exempt_view, view

app_name = "go_services"
urlpatterns = [
    path("connect/<str:rest>", view, {"route": "connect"}, name="connect"),
    path("callback", exempt_view, {"route": "callback"}, name="callback"),
    path("<str:route>", exempt_view),
    path("<str:route>/<path:rest>", exempt_view),
]
