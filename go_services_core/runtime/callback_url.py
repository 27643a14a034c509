"""The redirect URI of a consent: who chooses it, what it may be, and whether a callback arrived there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import BadInput, PluginError
from ..model import Scope
from ..ownership import CallbackRequest
from .core import Core, Ownership

if TYPE_CHECKING:
    from ..providers import ProviderInstance

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PLAIN = re.compile(r"[^\x00-\x20\x7f-\U0010ffff#\\]+")
"""Printable ASCII without blank, fragment and backslash."""
_LITERAL_PORT = re.compile(r"\A(http://(?:127\.0\.0\.1|\[::1\])):[0-9]{1,5}(?=[/?]|\Z)")


def choose_redirect_uri(
    core: Core,
    instance: ProviderInstance,
    scope: Scope,
    given: str | None,
    *,
    requested: tuple[str, ...],
    connection_id: str | None,
) -> str:
    """What the caller gave, else the provider's setting, a plugin's answer, or ``[runtime] callback_url``.

    A plugin that has no answer for a consent that is given again is asked once more as for a first one.

    Raises:
        BadInput: there is none, or it cannot be one.
        PluginError: the plugin failed.
    """
    chosen = given or instance.redirect_uri
    owner = core.ownership[instance.id]
    if not chosen and owner.callback_url is not None:
        request = CallbackRequest(
            provider_id=instance.id, scope=scope, connection_id=connection_id, requested=requested
        )
        chosen = _ask(owner, request)
        if not chosen and connection_id is not None:
            chosen = _ask(owner, CallbackRequest(provider_id=instance.id, scope=scope, requested=requested))
    chosen = chosen or core.settings.callback_url
    if not chosen:
        raise BadInput(
            f"There is no redirect URI for provider {instance.id}.",
            hint=f"Pass redirect_uri, or set runtime.callback_url or providers.{instance.id}.redirect_uri.",
            field="redirect_uri",
        )
    _check(chosen)
    return chosen


def arrived_there(begun: str, arrived: str) -> bool:
    """Whether a callback that ``arrived`` at a URL is one for the redirect URI ``begun``.

    Character for character (RFC 9700 §2.1); only the port of a loopback address literal may be another
    (RFC 8252 §7.3).
    """
    return _LITERAL_PORT.sub(r"\1", begun) == _LITERAL_PORT.sub(r"\1", arrived)


def _ask(owner: Ownership, request: CallbackRequest) -> str:
    assert owner.callback_url is not None
    try:
        answer = owner.callback_url(request)
        return str.strip(answer or "")  # a TypeError for what is no text
    except Exception as error:
        raise PluginError(
            f"The plugin {owner.callback_url_plugin} did not give a redirect URI for provider {request.provider_id}: "
            f"{type(error).__name__}.",
            hint="Pass redirect_uri, or repair what its gs_callback_url gives.",
            plugin=owner.callback_url_plugin,
            field="redirect_uri",
        ) from error


def _check(uri: str) -> None:
    """Refuse what cannot be a redirect URI (RFC 6749 §3.1.2), or would send the code over a network in clear."""
    try:
        parts = urlsplit(uri if _PLAIN.fullmatch(uri) else "")
        usable = parts.port != 0 and parts.hostname is not None and "@" not in parts.netloc
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable:
        raise BadInput(
            "A redirect URI is an absolute URL without fragment, user or blanks.",
            hint="It stands as it is registered at the provider, for example https://app.example/callback.",
            field="redirect_uri",
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise BadInput(
            f"A redirect URI is https, or http on this machine; not {parts.scheme}://{parts.hostname}.",
            hint="Only 127.0.0.1, [::1] and localhost may be http.",
            field="redirect_uri",
        )
