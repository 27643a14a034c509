"""The parts that the runtime is made of, shared by its subjects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, frozen

from ..auth.dpop_nonces import DpopNonces
from ..config.retention import RetentionRoot
from ..config.roots import ActivityRoot
from ..errors import BadInput, ProviderNotFound, ServicesError
from ..model import Connection, Credential, Decision, Observation, Scope
from ..protocols import AuthContext, AuthFlow, Flow, Jwks, ProviderAdapter, SigningContext, SigningKey
from . import log_lines
from .breaker import Breakers
from .jwks import KeySets, key_set
from .lanes import Sends
from .observers import Observers
from .skew import ClockSkew

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..catalog import Catalog
    from ..clock import Clock
    from ..config.roots import EndpointsRoot, RuntimeRoot, WebhooksRoot, WorkerRoot
    from ..config.secrets import SourcedSecret
    from ..exchange import CallTransport
    from ..handler_protocols import InboundHandler
    from ..jose import Jose
    from ..ownership import CallbackUrl, ConnectionPolicy, ErrorClassifier, RateLimitPolicy
    from ..protocols import Signer, Store, Transport, WebhookVerifier
    from ..providers import ProviderInstance
    from ..resources import Subscription
    from ..sealing import Sealer, SecretBackend
    from ..secret import SecretStr
    from ..specs import SurfaceName
    from .activity import Writer as ActivityWriter
    from .budget_bucket import Bucket
    from .handlers import Registration
    from .hooks import Hooks
    from .requests import Plan

logger = logging.getLogger("go_services.runtime")


def _no_kind(kind: str) -> Transport | CallTransport:
    raise BadInput(f"No transport kind {kind!r} is known here.", field="call")


@frozen(kw_only=True)
class Ownership:
    """The objects that plugins gave for one provider, or None where the core's own way holds."""

    callback_url: CallbackUrl | None = None
    callback_url_plugin: str = ""
    """Whose ``callback_url`` is."""
    error_classifier: ErrorClassifier | None = None
    rate_limit_policy: RateLimitPolicy | None = None
    connection_policy: ConnectionPolicy | None = None


@define(kw_only=True)
class Loaded:
    """A connection ready for use, kept for at most ``[runtime] cache_seconds``."""

    connection: Connection
    credential: Credential
    instance: ProviderInstance
    signer: Signer
    key: SigningKey
    bound: bool
    """Whether its token is bound to a DPoP key."""
    dated: bool
    """Whether what its signer makes carries the time."""
    renew_at: datetime | None
    until: float
    decisions: dict[str, Decision] = Factory(dict)
    buckets: dict[str, Bucket] = Factory(dict)
    """Operation → the rate budget that counts its calls."""


@define(kw_only=True, slots=False)
class Core:
    """Everything that a subject of the runtime may use."""

    settings: RuntimeRoot
    worker: WorkerRoot
    webhooks: WebhooksRoot
    endpoints: EndpointsRoot
    retention: RetentionRoot = Factory(RetentionRoot)
    endpoint_hosts: tuple[str, ...] = ()
    """The allowance of the egress guard for endpoints."""
    catalog: Catalog
    instances: Mapping[str, ProviderInstance]
    ownership: Mapping[str, Ownership]
    store: Store
    backend: SecretBackend
    sealer: Sealer
    transport: Transport
    clock: Clock
    owner: str
    """Names this process in leases and claims."""
    activity: ActivityRoot = Factory(ActivityRoot)
    observers: Observers = Factory(Observers)
    handlers: dict[str, Registration] = Factory(dict)
    handlers_told: float = Factory(lambda self: self.clock.monotonic(), takes_self=True)
    """When the store was told of all of them, by the monotonic clock."""
    limits: dict[tuple[str, int], asyncio.Semaphore] = Factory(dict)
    """What bounds how many handlers run at once."""
    cache: dict[str, Loaded] = Factory(dict)
    served: dict[tuple[str, Scope, tuple[Scope, ...]], tuple[float, int, str]] = Factory(dict)
    """Provider, scope and parents → until when, since which change, and the connection that serves them."""
    changes: int = 0
    """Counts what was dropped from the cache: what was read before a change is not cached after it."""
    flights: dict[str, asyncio.Task[Any]] = Factory(dict)
    tasks: set[asyncio.Task[Any]] = Factory(set)
    key_sets: KeySets = Factory(KeySets)
    closing: bool = False
    """Whether the runtime ends: what only waits for another process ends with it."""
    stopping: bool = False
    """Whether a worker ends: what is claimed and not begun is given back."""
    waiting: dict[str, asyncio.Event] = Factory(dict)
    """Kinds of work that a worker of this process does, and what it waits for between two looks."""
    flows: dict[str, AuthFlow] = Factory(dict)
    signers: dict[str, Signer] = Factory(dict)
    adapters: dict[str, ProviderAdapter] = Factory(dict)
    verifiers: dict[str, WebhookVerifier] = Factory(dict)
    surfaces: dict[tuple[SurfaceName, str | None], InboundHandler] = Factory(dict)
    """Surface and provider, or None for all others → what answers there."""
    plans: dict[tuple[str, str], Plan] = Factory(dict)
    sourced: dict[str, tuple[SourcedSecret, ...]] = Factory(dict)
    """Provider → secrets of its settings that are kept elsewhere."""
    cancel_subscription: Callable[[Connection, Subscription], Awaitable[None]] | None = None
    """Ends a subscription at its provider; a disconnect calls it for each active one."""
    next_reading: dict[str, float] = Factory(dict)
    """Provider → when a refused secret may be read again, by the monotonic clock."""
    nonces: DpopNonces = Factory(DpopNonces)
    skew: ClockSkew = Factory(ClockSkew)
    buckets: dict[tuple[str, Scope, str], Bucket] = Factory(dict)
    """Rate budgets that are in use, by provider, scope and name."""
    renamed: dict[tuple[str, str], str] = Factory(dict)
    """Provider and operation → the budget that its answers named."""
    kinds: dict[str, Transport | CallTransport] = Factory(dict)
    """Transport kinds that were used, besides ``rest``."""
    breakers: Breakers = Factory(Breakers)
    """Hosts that failed lately."""
    sends: Sends = Factory(Sends)
    """Messages on their way to endpoints."""
    retry_debts: dict[str, float] = Factory(dict)
    """Provider → repetitions that were made and are not earned back yet."""
    open_kind: Callable[[str], Transport | CallTransport] = Factory(lambda: _no_kind)
    """Makes the object of a transport kind."""

    def instance(self, provider_id: str) -> ProviderInstance:
        """The configured provider of that id."""
        found = self.instances.get(provider_id)
        if found is None:
            raise ProviderNotFound.named(
                "provider", provider_id, self.instances, hint="Install its plugin, or declare it in [providers]."
            )
        return found

    def flow(self, kind: str) -> AuthFlow:
        """The flow for auth records of that kind."""
        found = self.flows.get(kind)
        if found is None:
            found = self.flows[kind] = self.catalog.auth_strategy(kind).flow.resolve()()
        return found

    def signer(self, scheme: str) -> Signer:
        """The signer of that scheme."""
        found = self.signers.get(scheme)
        if found is None:
            found = self.signers[scheme] = self.catalog.signer(scheme).signer.resolve()()
        return found

    @cached_property
    def activity_writer(self) -> ActivityWriter:
        """What keeps entries of the activity log."""
        from .activity import Writer

        return Writer(self.store.log)

    @cached_property
    def hooks(self) -> Hooks:
        """Who is asked before a change is committed, and who is told afterwards."""
        from .hooks import Hooks

        return Hooks(self.store)

    @cached_property
    def jose(self) -> Jose | None:
        """What the plugins offer for signed tokens, or None."""
        spec = self.catalog.jose.get("jose")
        return spec.jose.resolve()() if spec is not None else None

    def adapter(self, instance: ProviderInstance) -> ProviderAdapter:
        """The provider's overrides; an adapter without any when it has none."""
        found = self.adapters.get(instance.id)
        if found is None:
            ref = instance.spec.adapter
            found = self.adapters[instance.id] = ref.resolve()() if ref is not None else ProviderAdapter()
        return found

    def auth_context(
        self,
        instance: ProviderInstance,
        auth: AuthSpec,
        scope: Scope,
        *,
        redirect_uri: str = "",
        state: SecretStr | None = None,
        requested: tuple[str, ...] = (),
        memory: Mapping[str, SecretStr] | None = None,
    ) -> AuthContext:
        """What a flow gets to know."""
        return AuthContext(
            provider_id=instance.id,
            auth=auth,
            settings=instance.auth_settings(auth.kind),
            scope=scope,
            now=self.clock.now(),
            random=self.clock.random,
            redirect_uri=redirect_uri,
            state=state,
            requested=requested,
            memory=memory or {},
            jose=self.jose,
            nonces=self.nonces,
        )

    async def drive(self, flow: Flow[Any], *, provider_id: str, timeout: float | None = None) -> Any:
        """Run a flow: send its requests, claim its keys, find key sets, give its result."""
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                step = flow.throw(error) if error is not None else flow.send(answer)
            except StopIteration as done:
                return done.value
            answer, error = None, None
            try:
                answer = await self._step(step, provider_id, timeout)
            except ServicesError as failed:
                error = failed

    async def _step(self, step: Any, provider_id: str, timeout: float | None) -> Any:
        from attrs import evolve

        from ..http import HttpRequest

        if isinstance(step, HttpRequest):
            if timeout is not None and step.timeout is None:
                step = evolve(step, timeout=timeout)
            return await self.transport.send(step, provider_id=provider_id)
        if isinstance(step, Jwks):
            return await key_set(self, step.url, again=step.again, provider_id=provider_id)
        return await self.store.once.claim(step.key, ttl=step.ttl)

    def signing_context(self, nonce: str | None = None, *, ahead: timedelta | None = None) -> SigningContext:
        """This moment, for a signer; ``nonce`` is what the server offered, ``ahead`` what its clock is before ours."""
        now = self.clock.now()
        return SigningContext(now if ahead is None else now + ahead, self.clock.random, nonce)

    def observe(self, observation: Observation, error: BaseException | None = None) -> None:
        """Log what ended and tell every observer; ``error`` is what it ended with. Nothing is raised."""
        log_lines.write(observation, error)
        self.observers.tell(observation)

    def wake(self, *kinds: str) -> None:
        """Have a worker of this process look for these kinds of work soon: something was just kept for it."""
        for kind in kinds:
            if (event := self.waiting.get(kind)) is not None:
                event.set()

    def forget(self, connection_id: str) -> None:
        """Drop what is cached of a connection."""
        self.changes += 1
        self.cache.pop(connection_id, None)
