"""Steering a sandbox from another process: POST /_control/ACTION with a JSON object, guarded by a token."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, get_args

from aiohttp import web

from ...auth_specs import Rotation
from ...errors import ServicesError
from ...secret import SecretStr
from .refused import Refused
from .state import Account
from .token import TokenAnswer

if TYPE_CHECKING:
    from .server import Sandbox

_NUMBER = (int, float)
KNOBS: Final[Mapping[str, tuple[type, ...]]] = {
    "access_token_lifetime": _NUMBER,
    "account": (dict,),
    "approve_scopes": (list, type(None)),
    "auto_approve": (bool,),
    "deny_next": (bool,),
    "rate_limit": (int,),
    "rate_window": _NUMBER,
    "refresh_token_lifetime": (*_NUMBER, type(None)),
    "announce": (bool,),
    "rotation": (str,),
    "rotation_grace": _NUMBER,
    "subscription_lifetime": _NUMBER,
    "token_answer": (str,),
    "webhook_url": (str, type(None)),
}
"""Attributes of :class:`Sandbox` that the action ``set`` sets, and the types that they take."""

_CHOICES: Final = {"rotation": get_args(Rotation), "token_answer": get_args(TokenAnswer)}


async def steer(sandbox: Sandbox, request: web.Request) -> web.Response:
    """Do one action and answer ``{"result": …}``.

    Raises:
        Refused: 401 without the control token, 404 for an unknown action, 400 for arguments it does not take.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or SecretStr(given) != sandbox.control_token:
        raise Refused("unauthorized", "The control token is missing or wrong.", status=401)
    action = _ACTIONS.get(request.match_info["action"])
    if action is None:
        raise Refused("not_found", f"Actions are {', '.join(_ACTIONS)}.", status=404)
    try:
        arguments = json.loads(await request.read())
        if not isinstance(arguments, dict):
            raise Refused("invalid_request", "The arguments are a JSON object.")
        result = await action(sandbox, arguments)
    except ServicesError as error:
        raise Refused("invalid_request", str(error)) from None
    except (TypeError, ValueError) as error:
        raise Refused("invalid_request", f"The arguments do not fit: {error}") from None
    return web.json_response({"result": result})


async def _set(sandbox: Sandbox, arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if name not in KNOBS:
            raise Refused("invalid_request", f"There is no knob {name}; knobs are {', '.join(KNOBS)}.")
        if not isinstance(value, KNOBS[name]) or (isinstance(value, bool) and bool not in KNOBS[name]):
            raise Refused("invalid_request", f"The knob {name} does not take this value.")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise Refused("invalid_request", f"The knob {name} takes {', '.join(_CHOICES[name])}.")
    account = Account(**arguments["account"]) if "account" in arguments else sandbox.account
    for name, value in arguments.items():
        setattr(sandbox, name, account if name == "account" else value)


async def _set_fault(sandbox: Sandbox, arguments: Mapping[str, Any]) -> None:
    sandbox.faults.set(**arguments)


async def _clear_faults(sandbox: Sandbox, arguments: Mapping[str, Any]) -> None:
    sandbox.faults.clear(**arguments)


async def _expire(sandbox: Sandbox, arguments: Mapping[str, Any]) -> None:
    sandbox.expire_access_tokens()


async def _requests(sandbox: Sandbox, arguments: Mapping[str, Any]) -> dict[str, int]:
    return dict(sandbox.requests)


async def _issued(sandbox: Sandbox, arguments: Mapping[str, Any]) -> list[str]:
    return sorted(sandbox.issued_secrets())


async def _deliver(sandbox: Sandbox, arguments: Mapping[str, Any]) -> int:
    secret = arguments.get("secret")
    return await sandbox.deliver(**{**arguments, "secret": None if secret is None else SecretStr(secret)})


async def _notify(sandbox: Sandbox, arguments: Mapping[str, Any]) -> list[int]:
    return await sandbox.notify(**arguments)


_ACTIONS: Final[Mapping[str, Callable[[Sandbox, Mapping[str, Any]], Awaitable[Any]]]] = {
    "set": _set,
    "set-fault": _set_fault,
    "clear-faults": _clear_faults,
    "expire-access-tokens": _expire,
    "requests": _requests,
    "issued-secrets": _issued,
    "deliver": _deliver,
    "notify": _notify,
}
