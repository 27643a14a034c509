"""Registering a client by itself at a server that allows it (RFC 7591)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from attrs import field, frozen

from ..errors import RegistrationRefused
from ..hosts import host_of, is_on_hosts
from ..http import Headers, HttpRequest, HttpResponse, check_header
from ..protocols import Flow
from ..secret import SecretStr
from .token_response import read_answer

_SECRET: Final = ("client_secret", "registration_access_token")
_LATEST: Final = 253_402_300_799


@frozen(kw_only=True)
class RegisteredClient:
    """A client as the server registered it; keep the two secrets sealed."""

    client_id: str
    client_secret: SecretStr | None = None
    """None for a public client."""
    secret_expires_at: datetime | None = None
    """None where the secret does not expire."""
    issued_at: datetime | None = None
    management_token: SecretStr | None = None
    """``registration_access_token``: whoever holds it may change and delete the client (RFC 7592)."""
    management_url: str | None = None
    """``registration_client_uri``."""
    document: Mapping[str, Any] = field(factory=dict, repr=False)
    """The client's metadata as registered, which may differ from what was asked for; no secret."""


def register(
    url: str,
    document: Mapping[str, Any],
    *,
    now: datetime,
    initial_token: SecretStr | None = None,
    hosts: Iterable[str] = (),
) -> Flow[RegisteredClient]:
    """Register a client (RFC 7591 §3).

    Args:
        url: the registration endpoint.
        document: the client's metadata (§2): ``redirect_uris``, ``grant_types``, ``token_endpoint_auth_method`` …
        now: the time of the request.
        initial_token: the server's permission to register, where it wants one (§3.1).
        hosts: where the client may be managed besides the endpoint's own host; as in ``discover``.

    Raises:
        BadInput: the initial token would break out of its header.
        RegistrationRefused: ``error`` says why; or the answer is no client, or is managed on another host.
        RateLimited, ProviderUnavailable: the endpoint asks to wait, or is failing.
    """
    headers: Headers = ()
    if initial_token is not None:
        value = f"Bearer {initial_token.reveal()}"
        check_header("Authorization", value)
        headers = (("Authorization", value),)
    response: HttpResponse = yield HttpRequest.json("POST", url, dict(document), headers=headers)
    said = read_answer(
        response,
        now=now,
        endpoint="registration endpoint",
        sent=(initial_token,),
        refused=RegistrationRefused,
        invalid=RegistrationRefused,
    )
    client_id = said.get("client_id")
    if not isinstance(client_id, str) or not client_id:
        raise RegistrationRefused("The registration endpoint's answer has no client_id.")
    secret, token = (_secret(said, name) for name in _SECRET)
    managed_at = said.get("registration_client_uri")
    if managed_at is not None and not _is_managed_here(managed_at, url, hosts):
        raise RegistrationRefused(
            "The registered client would be managed on a host that is not the server's.",
            field="registration_client_uri",
        )
    return RegisteredClient(
        client_id=client_id,
        client_secret=secret,
        secret_expires_at=_moment(said.get("client_secret_expires_at")) if secret is not None else None,
        issued_at=_moment(said.get("client_id_issued_at")),
        management_token=token,
        management_url=managed_at,
        document={name: value for name, value in said.items() if name not in _SECRET},
    )


def _is_managed_here(managed_at: Any, url: str, hosts: Iterable[str]) -> bool:
    """The management token goes there later, so it is no place that only the answer knows."""
    return isinstance(managed_at, str) and is_on_hosts(
        managed_at, (host_of(url), *hosts), plain_http=url.startswith("http://")
    )


def _secret(said: Mapping[str, Any], name: str) -> SecretStr | None:
    value = said.get(name)
    return SecretStr(value) if isinstance(value, str) and value else None


def _moment(value: Any) -> datetime | None:
    """A time in Unix seconds; zero means never (RFC 7591 §3.2.1)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LATEST:
        return None
    return datetime.fromtimestamp(value, UTC)
