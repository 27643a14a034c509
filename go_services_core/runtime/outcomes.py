"""What an answer means: one mapping from status and headers to a typed error."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

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
from .core import Core, logger

if TYPE_CHECKING:
    from ..ownership import ErrorClassifier
    from ..providers import ProviderInstance
    from ..secret import SecretStr


def error_for(
    core: Core, instance: ProviderInstance, response: HttpResponse, *, secrets: Iterable[SecretStr | None]
) -> Exception:
    """The error for an answer outside 200–299.

    A plugin's classifier is asked first, then the provider's adapter, then the limits that the record declares, then
    the status decides. One that raises, or gives what is no exception, is logged and passed over. ``secrets`` are
    removed from the excerpt that the error keeps.
    """
    classifier = core.ownership[instance.id].error_classifier
    for ask in (classifier, core.adapter(instance).classify):
        if ask is not None:
            owned = _asked(ask, response, instance)
            if owned is not None:
                return owned
    return by_status(core, instance, response, secrets)


def _asked(ask: ErrorClassifier, response: HttpResponse, instance: ProviderInstance) -> Exception | None:
    try:
        owned: Any = ask(response)
    except Exception as error:
        # Without its text and traceback, which may repeat the answer.
        logger.error("classifying an answer of %s failed (%s)", instance.id, type(error).__name__)
        return None
    if owned is not None and not isinstance(owned, Exception):
        logger.error("classifying an answer of %s gave no exception but %s", instance.id, type(owned).__name__)
        return None
    return owned


def by_status(
    core: Core, instance: ProviderInstance, response: HttpResponse, secrets: Iterable[SecretStr | None]
) -> ProviderError:
    """The error that the status stands for; a 403 with a wait in it is a throttle (GitHub, Google)."""
    status = response.status
    data = _json_of(response)
    wait = retry_after(response, core.clock.now())
    if status == 429 or (status == 403 and wait is not None):
        return _throttled(instance, response, data, wait, secrets)
    if (limited := throttle_in(core, instance, response, secrets)) is not None:
        return limited
    details = _details(instance, response, data, wait, secrets)
    if status == 401:
        return ProviderUnauthorized(f"{instance.id} does not accept the credential (401).", **details)
    if status == 403:
        return ProviderForbidden(f"{instance.id} forbids this to the credential (403).", **details)
    if status == 404:
        return ProviderNotFoundAnswer(f"{instance.id} has no such resource (404).", **details)
    if status >= 500:
        return ProviderUnavailable(f"{instance.id} is failing ({status}).", **details)
    if status == 304:
        return ProviderError(f"{instance.id} answers that nothing has changed (304), without a body.", **details)
    if 300 <= status < 400:
        return ProviderError(
            f"{instance.id} redirects ({status}); redirects are not followed with a credential.", **details
        )
    return ProviderError(f"{instance.id} refused the call ({status}).", **details)


def throttle_in(
    core: Core, instance: ProviderInstance, response: HttpResponse, secrets: Iterable[SecretStr | None]
) -> RateLimited | None:
    """The error for an answer that ``ApiSpec.throttled`` describes as a rate limit."""
    api = instance.spec.api
    for limit in api.throttled if api is not None else ():
        if response.status not in limit.statuses:
            continue
        data = _json_of(response)
        wanted = {value.casefold() for value in limit.values}
        if any(str(found).casefold() in wanted for found in _values(data, limit.path)):
            wait = retry_after(response, core.clock.now())
            if wait is None and limit.wait is not None:
                wait = next(filter(None, map(_seconds, _values(data, limit.wait))), None)
            return _throttled(instance, response, data, wait, secrets)
    return None


def _throttled(
    instance: ProviderInstance,
    response: HttpResponse,
    data: Any,
    wait: float | None,
    secrets: Iterable[SecretStr | None],
) -> RateLimited:
    when = f" It asks to wait {wait:.0f} s." if wait is not None else ""
    return RateLimited(
        f"{instance.id} is rate limiting this connection.{when}", **_details(instance, response, data, wait, secrets)
    )


def _details(
    instance: ProviderInstance,
    response: HttpResponse,
    data: Any,
    wait: float | None,
    secrets: Iterable[SecretStr | None],
) -> dict[str, Any]:
    api, secrets = instance.spec.api, tuple(secrets)
    return {
        "upstream_status": response.status,
        "upstream_code": _code(data, secrets),
        "request_id": response.header(api.request_id_header) if api is not None else None,
        "excerpt": scrub(response.body.decode("utf-8", "replace"), secrets),
        "retry_after": wait,
        "plugin": instance.id,
    }


_CODES: Final = (
    "error.code",
    "error.type",
    "error.status",
    "error",
    "code",
    "errors.code",
    "errors.extensions.code",
    "errors.errorCode",
    "errorCode",
    "error_code",
    "__type",
    "fault.code",
    "error.errors.reason",
)
"""Where vendors put their error code, the most telling place first; of a list, the first item that has one counts."""


def _json_of(response: HttpResponse) -> Any:
    """The body where it is JSON by its type, or None: also ``application/problem+json`` and ``x-amz-json-1.1``."""
    if "json" not in response.content_type:
        return None
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def _code(data: Any, secrets: Iterable[SecretStr | None]) -> str | None:
    """The provider's own error code, where the body has one in a usual place."""
    for path in _CODES:
        for found in _values(data, path):
            return scrub(str(found), secrets, limit=80)
    return None


def _values(data: Any, path: str) -> list[str | int | float]:
    """The texts and numbers at a dotted path; each item of a list on the way is followed."""
    found = [data]
    for name in path.split("."):
        items = [item for one in found for item in (one if isinstance(one, list) else (one,))]
        found = [item[name] for item in items if isinstance(item, dict) and name in item]
    return [one for one in found if isinstance(one, (str, int, float)) and not isinstance(one, bool) and one != ""]


def _seconds(value: str | float) -> float | None:
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < math.inf else None
