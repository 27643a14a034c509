"""go_services in Django: ``path("integrations/", include("go_services_django.urls"))``."""

__version__ = "0.1.0"
