"""The runtime of the process and what the setting ``GO_SERVICES`` says of its face."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from attrs import frozen
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from go_services_core import BlockingRuntime
from go_services_core.errors import BadInput
from go_services_core.web.site import Site

_life: Final = ExitStack()
_lock: Final = threading.Lock()
_known: list[Services] = []


@frozen
class Services:
    """What the views work with."""

    runtime: BlockingRuntime
    site: Site


def services() -> Services:
    """Those of this process, opened on first use.

    Raises:
        ImproperlyConfigured: the setting ``GO_SERVICES`` cannot be used.
    """
    with _lock:
        if not _known:
            _known.append(_opened())
        return _known[0]


def runtime() -> BlockingRuntime:
    """The runtime of this process, for the views of the application."""
    return services().runtime


def close() -> None:
    """Close the runtime; the next use opens it again. Done by itself at the end of the process."""
    with _lock:
        _known.clear()
        _life.close()


atexit.register(close)


def _opened() -> Services:
    options: dict[str, Any] = dict(getattr(settings, "GO_SERVICES", {}))
    opening: Callable[[], BlockingRuntime] | None = _imported(options, "runtime")
    config = options.pop("config", None)
    if opening is not None and config is not None:
        raise ImproperlyConfigured("GO_SERVICES has both config and runtime; one of them says which runtime it is.")
    options["scope_of"] = _imported(options, "scope_of")
    try:
        site = Site(**options)
    except (BadInput, TypeError) as error:
        raise ImproperlyConfigured(f"GO_SERVICES: {error}") from error
    made = opening() if opening is not None else _life.enter_context(BlockingRuntime.open(config))
    made.observe(site.failures, name="go_services.web.django")
    return Services(made, site)


def _imported(options: dict[str, Any], name: str) -> Any:
    """What is given itself, or by its dotted path."""
    given = options.pop(name, None)
    try:
        return import_string(given) if isinstance(given, str) else given
    except ImportError as error:
        raise ImproperlyConfigured(f"GO_SERVICES[{name!r}]: {error}") from error
