"""The sandbox's server: its knobs, its endpoints, its life."""

from __future__ import annotations

import asyncio
from base64 import b32encode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack, get_args
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from aiohttp import web

from ...auth_specs import Rotation
from ...clock import Clock, SystemClock
from ...errors import BadInput
from ...secret import SecretStr
from . import api, authorize, channels, control, token, webhooks
from .faults import Faults
from .items import Items
from .refused import Refused
from .spec import Registration
from .state import Account, Ledger
from .token import TokenAnswer, TokenAnswers

REDIRECT_URIS: Final = ("http://127.0.0.1/", "http://127.0.0.1/callback", "http://127.0.0.1/callback/sandbox")

ENDPOINTS: Final[Mapping[str, tuple[str, str, api.Handler]]] = {
    "authorize": ("GET", "/authorize", authorize.authorize),
    "authorize.decision": ("POST", "/authorize/decision", authorize.decide),
    "metadata": ("GET", "/.well-known/oauth-authorization-server", authorize.metadata),
    "token": ("POST", "/token", token.token),
    "revoke": ("POST", "/revoke", token.revoke),
    "userinfo": ("GET", "/userinfo", api.userinfo),
    "items.list": ("GET", "/items", api.list_items),
    "items.get": ("GET", r"/items/{id:[0-9]{1,9}}", api.get_item),
    "items.create": ("POST", "/items", api.create_item),
    "channels.watch": ("POST", "/channels/watch", channels.watch),
    "channels.stop": ("POST", "/channels/stop", channels.stop),
    "subscriptions.create": ("POST", "/subscriptions", channels.create),
    "subscriptions.renew": ("PATCH", "/subscriptions/{id}", channels.renew),
    "subscriptions.end": ("DELETE", "/subscriptions/{id}", channels.end),
    "echo": ("*", "/echo", api.echo),
    "private.key": ("GET", "/private/key", api.private_key),
    "private.basic": ("GET", "/private/basic", api.private_basic),
}
"""Name, method and path of each endpoint; the names are those of ``Sandbox.requests`` and ``Faults.set``."""


class SandboxOptions(TypedDict, total=False):
    """Options of :class:`Sandbox` that can be sent to another process."""

    port: int
    auto_approve: bool
    access_token_lifetime: float
    refresh_token_lifetime: float | None
    rotation: Rotation
    rotation_grace: float
    rate_limit: int
    rate_window: float
    redirect_uris: Iterable[str]
    item_count: int


class Sandbox(Registration):
    """A provider on this machine: authorization server, API and webhook sender, strict and without a network.

    It listens on 127.0.0.1 only and keeps everything in memory. Every argument is also an attribute that may be
    changed while it runs, except ``port``, ``redirect_uris``, ``item_count`` and ``clock``.

    Args:
        port: Port to listen on; 0 takes a free one.
        auto_approve: Consent without a page.
        access_token_lifetime: Seconds.
        refresh_token_lifetime: Seconds; None is for ever.
        rotation: What happens to a refresh token that was used.
        rotation_grace: Seconds in which a used token still works, for ``single-use-grace``.
        rate_limit: Requests that an account may make in ``rate_window`` seconds.
        redirect_uris: Registered redirect URIs. A loopback address without port allows every port (RFC 8252 §7.3).
        item_count: How many items there are at first.
        account: The person who consents.
        approve_scopes: Scopes that the person grants at most; None grants what is asked.
        clock: Decides expiry and gives randomness.
        control_token: Opens the endpoints under ``/_control/``; without it there are none.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        auto_approve: bool = True,
        access_token_lifetime: float = 3600.0,
        refresh_token_lifetime: float | None = None,
        rotation: Rotation = "single-use",
        rotation_grace: float = 30.0,
        rate_limit: int = 5000,
        rate_window: float = 3600.0,
        redirect_uris: Iterable[str] = REDIRECT_URIS,
        item_count: int = 120,
        account: Account | None = None,
        approve_scopes: Iterable[str] | None = None,
        clock: Clock | None = None,
        control_token: SecretStr | None = None,
    ) -> None:
        self.redirect_uris = frozenset(redirect_uris)
        for uri in self.redirect_uris:
            parts = urlsplit(uri)
            if not parts.scheme or "#" in uri or (parts.scheme in ("http", "https") and not parts.hostname):
                raise BadInput(f"A redirect URI is absolute and has no fragment, not {uri!r}.", field="redirect_uris")
        if rotation not in get_args(Rotation):
            raise BadInput(f"Rotations are {', '.join(get_args(Rotation))}; not {rotation!r}.", field="rotation")
        self.auto_approve = auto_approve
        self.access_token_lifetime = access_token_lifetime
        self.refresh_token_lifetime = refresh_token_lifetime
        self.rotation = rotation
        self.rotation_grace = rotation_grace
        self.rate_limit = rate_limit
        self.rate_window = rate_window
        self.account = account or Account()
        self.approve_scopes = None if approve_scopes is None else frozenset(approve_scopes)
        self.deny_next = False
        """The next authorization request is answered with ``access_denied``."""

        self._clock = clock or SystemClock()
        self.ledger = Ledger(self._clock)
        self.items = Items(item_count, self._clock)
        self.channels = channels.Channels()
        self.subscription_lifetime = 604_800.0
        """Seconds that a subscription lives at most; one that asks for more gets this."""
        self.announce = False
        """Whether the address of a new subscription is called before the answer to its creation."""
        self.webhook_url: str | None = None
        """Who is told of each new item, before the answer to its creation; nobody where it is None."""
        self.budget = api.RateBudget()
        self.faults = Faults(ENDPOINTS)
        self.token_answers = TokenAnswers()
        self.requests: Counter[str] = Counter()
        """Endpoint name → how many requests came in, refused ones included."""

        self.client_id = "sandbox-client"
        self.client_secret = SecretStr(self.ledger.mint("sbx_cs_"))
        self.webhook_secret = SecretStr(self.ledger.mint("sbx_ws_"))
        self.api_key = SecretStr(self.ledger.mint("sbx_key_"))
        self.basic_user = "sandbox-user"
        self.basic_password = SecretStr(self.ledger.mint("sbx_pw_"))
        self.control_token = control_token

        self._port = port
        self._runner: web.AppRunner | None = None
        self._closing = asyncio.Event()

    # --- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        application = web.Application()
        for name, (method, path, handler) in ENDPOINTS.items():
            application.router.add_route(method, path, self._answering(name, handler))
        if self.control_token is not None:
            application.router.add_post("/_control/{action}", self._controlling)
        application.on_response_prepare.append(self._complete_headers)
        self._closing = asyncio.Event()
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise BadInput(
                f"The sandbox cannot listen on 127.0.0.1:{self._port}: {error.strerror}.",
                hint="Choose another port; 0 takes a free one.",
                field="port",
            ) from None
        self._runner = runner
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runner, self._runner = self._runner, None
        self._closing.set()
        if runner is not None:
            await runner.cleanup()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``: the API's base URL and the issuer.

        Raises:
            BadInput: the sandbox is not running.
        """
        if self._runner is None:
            raise BadInput("The sandbox is not running.", hint="Enter it with 'async with' first.")
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def _answering(self, name: str, handler: api.Handler) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            self.requests[name] += 1
            fault = self.faults.take(name)
            response = fault.instead() if fault is not None else None
            if response is not None:
                return response
            try:
                response = await handler(self, request)
            except Refused as refused:
                response = refused.answer()
            return response if fault is None else await fault.spoil(request, response, self._closing)

        return answer

    async def _controlling(self, request: web.Request) -> web.Response:
        try:
            return await control.steer(self, request)
        except Refused as refused:
            return refused.answer()

    async def _complete_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Request-Id"] = "req_" + b32encode(self._clock.random(10)).decode().lower()
        response.headers["Cache-Control"] = "no-store"  # RFC 6749 §5.1; nothing here is worth caching

    # --- steering --------------------------------------------------------------------------------------------------

    @property
    def token_answer(self) -> TokenAnswer:
        """How the token endpoint answers; setting it holds until it is set again (see ``token_answers.set``)."""
        return self.token_answers.kind

    @token_answer.setter
    def token_answer(self, kind: TokenAnswer) -> None:
        self.token_answers.set(kind)

    def expire_access_tokens(self) -> None:
        """Every access token issued so far is expired from now on; refresh tokens stay."""
        self.ledger.expire_access_tokens()

    def issued_secrets(self) -> frozenset[str]:
        """Every code, access token and refresh token ever issued, in clear, for scans for leaks."""
        return self.ledger.issued()

    async def consent(self, url: str) -> dict[str, str]:
        """Be the browser: open the authorization URL and give the callback's parameters.

        Works with ``auto_approve`` only; the redirect is not followed.

        Raises:
            BadInput: the answer is a page and no redirect.
        """
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status != 303:
                raise BadInput(f"The authorization endpoint answered with a page of status {answer.status}.")
            return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))

    async def deliver(
        self,
        url: str,
        *,
        event: str = "item.created",
        data: Any = None,
        delivery_id: str | None = None,
        timestamp: float | None = None,
        secret: SecretStr | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """POST one signed webhook to ``url`` and give the status of the answer.

        The body is ``{"data": data, "type": event}``. The same ``event``, ``data`` and ``delivery_id`` repeat a
        delivery exactly, but for timestamp and signature, as a provider's retry does.

        Args:
            url: Where to.
            event: Name of the event.
            data: Anything that JSON can hold.
            delivery_id: Value of ``webhook-id``; None makes a new one.
            timestamp: Unix seconds to claim; None is now.
            secret: Secret to sign with; None is ``webhook_secret``.
            headers: Further headers; they win over the delivery's own.

        Raises:
            ConnectFailed: nobody listens there.
            RequestTimeout: no answer within 30 seconds.
        """
        return await webhooks.send(
            url,
            webhooks.body_of(event, data),
            delivery_id=delivery_id or self.ledger.mint("msg_"),
            timestamp=int(self.ledger.now if timestamp is None else timestamp),
            secret=secret or self.webhook_secret,
            headers=headers or {},
        )

    async def notify(self, resource: str, event: str = "update") -> list[int]:
        """POST a notification on every live subscription to ``resource`` and give the statuses of the answers.

        One that nobody answered has the status 0.
        """
        live = [one for one in self.channels.live(self.ledger.now) if one.resource == resource]
        return [await channels.send(self, one, event) for one in live]


async def serve(*, on_ready: Callable[[Sandbox], None], **options: Unpack[SandboxOptions]) -> None:
    """Run a sandbox until cancelled; ``on_ready`` is called once, when it accepts connections.

    Raises:
        BadInput: the port is taken.
    """
    async with Sandbox(**options) as sandbox:
        on_ready(sandbox)
        await asyncio.Event().wait()
