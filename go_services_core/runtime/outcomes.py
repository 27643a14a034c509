"""What an answer means: one mapping from status and headers to a typed error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import (
    ProviderError,
    ProviderForbidden,
    ProviderNotFoundAnswer,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
)
from ..http import HttpResponse
from ..redaction import scrub
from ..retry_after import retry_after
from .core import Core

if TYPE_CHECKING:
    from ..providers import ProviderInstance
    from ..secret import SecretStr


def error_for(
    core: Core, instance: ProviderInstance, response: HttpResponse, *, secrets: Iterable[SecretStr | None]
) -> Exception:
    """The error for an answer outside 200–299.

    A plugin's classifier is asked first, then the provider's adapter, then the status decides. ``secrets`` are removed
    from the excerpt that the error keeps.
    """
    classifier = core.ownership[instance.id].error_classifier
    if classifier is not None:
        owned = classifier(response)
        if owned is not None:
            return owned
    adapted = core.adapter(instance).classify(response)
    return adapted if adapted is not None else by_status(core, instance, response, secrets)


def by_status(
    core: Core, instance: ProviderInstance, response: HttpResponse, secrets: Iterable[SecretStr | None]
) -> ProviderError:
    """The error that the status stands for; a 403 with a wait in it is a throttle (GitHub, Google)."""
    status = response.status
    secrets = tuple(secrets)
    api = instance.spec.api
    details: dict[str, Any] = {
        "upstream_status": status,
        "upstream_code": _code(response, secrets),
        "request_id": response.header(api.request_id_header) if api is not None else None,
        "excerpt": scrub(response.body.decode("utf-8", "replace"), secrets),
        "plugin": instance.id,
    }
    wait = retry_after(response, core.clock.now())
    if status == 429 or (status == 403 and wait is not None):
        when = f" It asks to wait {wait:.0f} s." if wait is not None else ""
        return RateLimited(f"{instance.id} is rate limiting this connection.{when}", retry_after=wait, **details)
    if status == 401:
        return ProviderUnauthorized(f"{instance.id} does not accept the credential (401).", **details)
    if status == 403:
        return ProviderForbidden(f"{instance.id} forbids this to the credential (403).", **details)
    if status == 404:
        return ProviderNotFoundAnswer(f"{instance.id} has no such resource (404).", **details)
    if status >= 500:
        return ProviderUnavailable(f"{instance.id} is failing ({status}).", **details)
    if 300 <= status < 400:
        return ProviderError(
            f"{instance.id} redirects ({status}); redirects are not followed with a credential.", **details
        )
    return ProviderError(f"{instance.id} refused the call ({status}).", **details)


def _code(response: HttpResponse, secrets: Iterable[SecretStr | None]) -> str | None:
    """The provider's own error code, where the body has one in a usual place."""
    if response.content_type != "application/json" and not response.content_type.endswith("+json"):
        return None
    try:
        data = json.loads(response.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    found: Any = data.get("error")
    if isinstance(found, dict):
        found = found.get("code") or found.get("type")
    if found is None or isinstance(found, bool):
        found = data.get("code")
    if isinstance(found, bool) or not isinstance(found, (str, int)):
        return None
    return scrub(str(found), secrets, limit=80)
