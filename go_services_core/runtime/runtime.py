"""The async face: what applications call."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..auth.fields import concealed
from ..grants import GrantEvent, GrantReport
from ..http import HttpRequest, InboundRequest
from ..model import (
    Accepted,
    CallbackResult,
    Connection,
    ConnectStart,
    Decision,
    DeviceStart,
    Disconnected,
    Drained,
    GrantSnapshot,
    Health,
    Job,
    KeyInfo,
    KeyRef,
    KeyStatus,
    MigrationStep,
    OperationResult,
    Page,
    Resolution,
    RotationReport,
    Scope,
    SecretState,
    StoreStatus,
    UserProfile,
)
from ..outlook import ConnectionHealth
from ..secret import SecretStr
from ..transfer import Exported, Imported, TokenImport
from . import bundles as _bundles
from . import callback as _callback
from . import connect as _connect
from . import delivery as _delivery
from . import device as _device
from . import disconnect as _disconnect
from . import due as _due
from . import forecast as _forecast
from . import grants as _grants
from . import identity as _identity
from . import imports as _imports
from . import inbound as _inbound
from . import keys as _keys
from . import load as _load
from . import operations as _operations
from . import reconsent as _reconsent
from . import refresh as _refresh
from . import resolve as _resolve
from . import rotation as _rotation
from . import settings_secrets as _settings_secrets
from .callback import CallbackParams
from .core import Core
from .rotation import Progress

if TYPE_CHECKING:
    from ..catalog import Catalog
    from ..clock import Clock
    from ..config.layers import Config
    from ..plugins import PluginManager
    from ..protocols import EventHandler, Observer, Store, Transport
    from ..providers import ProviderInstance


class Runtime:
    """Connections, operations, webhooks and events of one application.

    Made by :meth:`open`. Every method may be called from any task of the loop that opened it; ``BlockingRuntime`` has
    the same methods for code without a loop.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        source: str | Path | Config | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        plugins: PluginManager | None = None,
        clock: Clock | None = None,
        store: Store | None = None,
        transport: Transport | None = None,
        migrate: bool = False,
    ) -> AsyncGenerator[Runtime]:
        """Build the runtime from its configuration, and close it in the end.

        Args:
            source: the configuration file, or a loaded ``Config``; None looks for ``go-services.toml``.
            arguments: dotted keys and values over file and environment, e.g. ``{"store.url": "sqlite:///x.db"}``.
            plugins: a manager of your own, instead of what is installed.
            clock, store, transport: your own, instead of what the configuration names; for tests.
            migrate: apply pending migrations first, instead of refusing a database that needs them.

        Raises:
            ConfigError: with every problem of the configuration in one report.
            PluginError: an enabled plugin is broken, or two plugins claim one id.
            StoreUnavailable, SchemaOutOfDate, SchemaTooNew: the database cannot be used; nothing was changed.
            KeyInvalid: the secret backend's key cannot be used, or is not the one of this database; nothing was
                changed.
            BackendUnavailable: the secret backend does not answer. With ``[secrets] at_start = "lazy"`` this does not
                prevent the start: what needs a secret raises it until the backend answers.
        """
        from .build import build

        async with build(
            source, arguments=arguments, plugins=plugins, clock=clock, store=store, transport=transport, migrate=migrate
        ) as (core, lifespans):
            runtime = cls(core)
            async with lifespans(runtime):
                yield runtime

    # --- connecting ------------------------------------------------------------------------------------------------

    async def connect(
        self,
        provider_id: str,
        *,
        scope: Scope,
        redirect_uri: str | None = None,
        grants: Iterable[str] = (),
        auth: str | None = None,
        connection_id: str | None = None,
        session: SecretStr | str | None = None,
        return_to: str | None = None,
    ) -> ConnectStart:
        """Begin a consent: send the person to ``url``, keep ``binding`` in their browser until the callback.

        Args:
            provider_id: the configured provider.
            scope: whose connection it will be.
            redirect_uri: where the provider sends the browser back; else the provider's setting, a plugin's answer, or
                ``[runtime] callback_url``. It is https, or http on 127.0.0.1, [::1] or localhost, without a fragment
                (RFC 6749 §3.1.2, RFC 8252 §7.3).
            grants: what to ask for; else the provider's defaults.
            auth: the kind of authentication; else the provider's first.
            connection_id: consent again for this connection; another account is then refused.
            session: for a front end and a back end on different sites, where the callback's origin has no cookie: a
                value that the application holds for this person and nobody can guess, at least 16 characters. The
                attempt is bound to it instead of a random ``binding``; this is logged and observed.
            return_to: where the person shall be sent after the callback; listed in ``[runtime] return_to``.

        Raises:
            ProviderNotFound: with the nearest known id.
            BadInput: the kind has no consent page, there is no redirect URI or one that cannot be used, or ``session``
                could be guessed.
            ReturnToRefused: ``return_to`` is not listed.
            PluginError: the plugin that chooses the redirect URI failed.
            ConfigError: the provider's settings are incomplete.
        """
        return await _connect.connect(
            self._core,
            provider_id,
            scope=scope,
            redirect_uri=redirect_uri,
            grants=grants,
            auth=auth,
            connection_id=connection_id,
            session=session,
            return_to=return_to,
        )

    async def begin_device(
        self,
        provider_id: str,
        *,
        scope: Scope,
        grants: Iterable[str] = (),
        auth: str | None = None,
        connection_id: str | None = None,
    ) -> DeviceStart:
        """Begin a consent on another device (RFC 8628); :meth:`poll_device` goes on, on any worker.

        Raises:
            ProviderNotFound: with the nearest known id.
            BadInput: the kind is not consented to on another device.
            TokenEndpointError, ProviderError, TransportError: the provider gave no code.
        """
        return await _device.begin_device(
            self._core, provider_id, scope=scope, grants=grants, auth=auth, connection_id=connection_id
        )

    async def poll_device(self, attempt_id: str, *, binding: SecretStr | str) -> Connection:
        """Ask the provider once whether the person has consented, and connect if so.

        Any worker may ask. Of several at once one does, and the provider is not asked faster than it wants.

        Args:
            attempt_id: what ``begin_device`` returned.
            binding: the same.

        Raises:
            AuthorizationPending: not yet, or not the time to ask; ask again after ``retry_after`` seconds.
            StateUnknown, StateUsed, StateExpired, BindingMismatch: there is no open attempt of that id and binding.
            ProviderChanged: the provider was configured differently after the attempt began.
            CallbackRefused: the person refused.
            TransportError, RateLimited, ProviderUnavailable: there was no answer; ask again, more slowly.
            TokenEndpointError: the provider refused or answered nonsense.
            AccountMismatch: the person consented with another account than ``connection_id``'s.
        """
        return await _device.poll_device(self._core, attempt_id, binding)

    async def connect_device(
        self,
        provider_id: str,
        *,
        scope: Scope,
        show: Callable[[DeviceStart], Any],
        grants: Iterable[str] = (),
        auth: str | None = None,
        connection_id: str | None = None,
    ) -> Connection:
        """Connect by a consent on another device (RFC 8628), asking the provider until the person has decided.

        When the call is cancelled or its process ends, :meth:`poll_device` goes on with what ``show`` got.

        Args:
            provider_id: the configured provider.
            scope: whose connection it will be.
            show: called once, with the page and the code that the person needs, and with what ``poll_device`` needs;
                it must not block.
            grants: what to ask for; else the provider's defaults.
            auth: the kind of authentication; else the provider's first.
            connection_id: consent again for this connection; another account is then refused.

        Raises:
            ProviderNotFound: with the nearest known id.
            BadInput: the kind is not consented to on another device.
            CallbackRefused: the person refused.
            StateExpired: the person did not decide in the time that the provider gave.
            TokenEndpointError: the provider refused or answered nonsense.
            AccountMismatch: the person consented with another account than ``connection_id``'s.
        """
        return await _device.connect_device(
            self._core,
            provider_id,
            scope=scope,
            show=show,
            grants=grants,
            auth=auth,
            connection_id=connection_id,
        )

    async def complete(
        self,
        params: CallbackParams,
        *,
        binding: SecretStr | str,
        redirect_uri: str | None = None,
    ) -> Connection:
        """Finish a consent with the callback's parameters and the binding from the browser that started it.

        Connection, credential, grants and event are committed together. The account that is connected already keeps its
        connection and gets a new credential. Whatever fails leaves existing connections as they were.

        Args:
            params: the callback's query string, or its parameters; as pairs, so that duplicates can be refused.
            binding: what ``connect`` returned, or the ``session`` that it got.
            redirect_uri: the URL where the callback arrived, without its parameters. It must be the attempt's, but for
                the port of a loopback address (RFC 8252 §7.3); ``[runtime] require_redirect_uri`` asks for it.

        Raises:
            DuplicateParameter: a parameter occurs twice; nothing was consumed.
            StateUnknown, StateUsed, StateExpired, BindingMismatch: the callback does not belong to an open attempt.
            RedirectMismatch: it arrived at another URL; nothing was consumed.
            ProviderChanged: the provider was configured as another server or client after the attempt began.
            IssuerMismatch: it is of another issuer.
            CallbackRefused: the provider or the person refused.
            TokenEndpointError, ProviderError, TransportError: the code could not be exchanged.
            ProfileNotFound: the provider does not say whose account it is.
            AccountMismatch: a re-consent was given with another account.
        """
        params, binding = _callback.received(params, binding)  # or a traceback with locals shows what was given
        return (await self.callback(params, binding=binding, redirect_uri=redirect_uri)).connection

    async def callback(
        self,
        params: CallbackParams,
        *,
        binding: SecretStr | str,
        redirect_uri: str | None = None,
    ) -> CallbackResult:
        """As :meth:`complete`, with the ``return_to`` of ``connect``.

        An error of a callback whose attempt was found has it in ``metadata["return_to"]``. ``callback_response`` of
        ``go_services_core.callback`` makes the answer to the browser of either.
        """
        params, binding = _callback.received(params, binding)  # or a traceback with locals shows what was given
        return await _callback.callback(self._core, params, binding=binding, redirect_uri=redirect_uri)

    async def establish(
        self,
        provider_id: str,
        *,
        scope: Scope,
        fields: Mapping[str, SecretStr | str],
        auth: str | None = None,
        grants: Iterable[str] = (),
    ) -> Connection:
        """Connect with what a person typed: ``key`` (API key), ``token`` (PAT), ``username`` and ``password`` (basic).

        Where the provider tells whose account it is, the credential is proven by asking. ``grants`` are what to ask
        for, of a kind that asks the provider for a token; else the provider's defaults.

        Raises:
            BadInput: a field is missing or unknown, the kind needs a consent, or it does not ask for grants.
            AuthError: the provider does not accept the credential.
            EmbeddedAuthUnsupported: ``auth`` is ``session_token_exchange``, and the provider has none.
            EmbeddedSessionInvalid, ReplayDetected: an embedded app's session token is not valid, or was used before.
        """
        fields = concealed(fields)  # in place of what was given, or a traceback with locals shows it
        return await _connect.establish(self._core, provider_id, scope=scope, fields=fields, auth=auth, grants=grants)

    async def reconsent(
        self,
        connection_id: str,
        *,
        grants: Iterable[str] = (),
        redirect_uri: str | None = None,
        session: SecretStr | str | None = None,
        return_to: str | None = None,
    ) -> ConnectStart:
        """Begin another consent for a connection: for more grants, or because it may not be used without one.

        It asks for what was requested before, and for ``grants``. An active connection stays as it is until
        ``complete`` commits the new credential; a consent that fails or is abandoned changes nothing.

        Args:
            connection_id: the connection; whose account it is may not change.
            grants: what to ask for in addition.
            redirect_uri, session, return_to: as in :meth:`connect`.

        Raises:
            ConnectionNotFound: there is none of that id.
            InvalidTransition: it was disconnected.
            BadInput: its kind has no consent page, or there is no redirect URI.
        """
        return await _reconsent.reconsent(
            self._core,
            connection_id,
            grants=grants,
            redirect_uri=redirect_uri,
            session=session,
            return_to=return_to,
        )

    async def require_reconsent(self, connection_id: str, *, reason: str) -> Connection:
        """Stop the use of a connection until its person has consented again; a second time changes nothing.

        Other processes may use what they have cached for ``[runtime] cache_seconds``.

        Args:
            connection_id: the connection.
            reason: what people are told; it is kept as ``last_error`` and goes into the event.

        Raises:
            ConnectionNotFound: there is none of that id.
            InvalidTransition: it is not active.
            BadInput: the reason is blank.
        """
        return await _reconsent.require_reconsent(self._core, connection_id, reason=reason)

    async def import_connection(
        self,
        provider_id: str,
        *,
        scope: Scope,
        tokens: TokenImport,
        auth: str | None = None,
        account: str | None = None,
        verify: bool = True,
        dry_run: bool = False,
    ) -> Imported:
        """Keep tokens that another system had as a connection, without a consent and without renewing them.

        The provider says whose account they are of. Tokens that the account's connection has, or had before they were
        renewed here, change nothing.

        Args:
            provider_id: the configured provider.
            scope: whose connection it will be.
            tokens: what the other system kept; a token that is about to end is as good as any.
            auth: the kind of authentication; else the provider's first.
            account: the account's id at the provider; with ``verify`` another one is refused.
            verify: False takes ``account`` as it is, which is logged: for providers that do not tell, and offline.
            dry_run: ask the provider, but change nothing.

        Raises:
            BadInput: the provider does not tell whose account it is and ``account`` is not given, or the scope's type
                is not one of the provider's.
            AccountMismatch: the tokens are of another account than ``account``.
            AuthError: the provider does not accept the access token.
            ProfileNotFound, ProviderError, TransportError: the provider did not say whose account it is.
        """
        return await _imports.import_connection(
            self._core,
            provider_id,
            scope=scope,
            tokens=tokens,
            auth=auth,
            account=account,
            verify=verify,
            dry_run=dry_run,
        )

    async def export_scope(self, scope: Scope, *, key: SecretStr) -> Exported:
        """The connections of a scope with their credentials, encrypted as a whole for another database.

        A disconnected connection is left out. One that is not active, or cannot be opened, is in it without its
        credential. Of two databases that renew the same tokens one loses them: end the use of this one first.

        Args:
            scope: whose connections.
            key: a key as ``go-services secrets generate-key`` prints it, or a passphrase.

        Raises:
            KeyInvalid: the key is damaged, or the passphrase weak.
            CapabilityUnsupported: no plugin that is loaded encrypts bundles.
            KeyDenied, BackendUnavailable: credentials cannot be opened now.
        """
        return await _bundles.export_scope(self._core, scope, key=key)

    async def import_bundle(self, bundle: bytes, *, key: SecretStr, dry_run: bool = False) -> tuple[Imported, ...]:
        """Store the connections of an export bundle, after all of it was verified.

        A new connection keeps its id if that is free here. What is stored already changes nothing, so that an import
        that was interrupted may be repeated.

        Raises:
            BundleInvalid, BundleKeyWrong, BundleTruncated, BundleReordered, BundleChanged: nothing was stored.
            ProviderNotFound, BadInput: a provider is not configured here as it was there; nothing was stored.
        """
        return await _bundles.import_bundle(self._core, bundle, key=key, dry_run=dry_run)

    async def refresh(self, connection_id: str) -> Connection:
        """Renew the credential now, or wait for whoever is renewing it.

        Raises:
            ReauthRequired: the provider says that the grant is over, or the kind cannot be renewed.
            RefreshBackingOff: the last renewal failed, and it is not time for the next; nothing was sent.
            RefreshUnknown: nobody knows whether the last renewal spent the refresh token; nothing was sent, or the one
                attempt to recover has ended so as well.
            RefreshLocked: another process is renewing it and did not finish in time.
            TokenEndpointError, ProviderError, TransportError: it failed; the connection stays as it was.
        """
        loaded = await _load.load(self._core, connection_id)
        return (await _refresh.refresh(self._core, connection_id, used=loaded.credential.version)).connection

    async def disconnect(self, connection_id: str, *, reason: str = "") -> Disconnected:
        """Revoke at the provider, then end the connection here, cancel its subscriptions and destroy its secrets.

        A provider that cannot be told does not keep the connection alive: ``revoked`` is then False, ``detail`` says
        why, and with ``pending`` the job ``connections.revoke`` goes on trying with what stays sealed for it alone.
        A renewal that runs is waited for, up to 30 seconds each here and in other processes.

        Raises:
            ConnectionNotFound: there is none of that id.
            VersionConflict: it was connected anew again and again meanwhile.
        """
        return await _disconnect.disconnect(self._core, connection_id, reason=reason)

    async def pending_revocations(self, connection_id: str) -> Sequence[Job]:
        """The open jobs that revoke what disconnects of the connection could not; ``last_error`` says why not yet."""
        return await self._core.store.connections.pending_revocations(connection_id)

    # --- using -----------------------------------------------------------------------------------------------------

    async def execute(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        deadline: float | None = None,
    ) -> OperationResult:
        """Call one of the provider's operations.

        Args:
            connection_id: the connection to call with.
            operation: the operation's id, e.g. ``repos.list``.
            params: its parameters by name.
            idempotency_key: sent where the provider honours one for this operation.
            deadline: seconds for everything, a renewal included.

        Raises:
            ConnectionNotFound, OperationNotFound, UnknownParameter, BadInput: the call is wrong; nothing was sent.
            ReauthRequired: the connection is not active; ReconsentRequired where a consent is due.
            PermissionDenied: the connection lacks grants; nothing was sent.
            ProviderUnauthorized, ProviderForbidden, ProviderNotFoundAnswer, RateLimited, ProviderUnavailable,
            ProviderError: the provider's answer, with its status, code, request id and a scrubbed excerpt.
            ResponseInvalid: the answer is not JSON.
            TransportError: there was no answer.
        """
        return await _operations.execute(
            self._core, connection_id, operation, params, idempotency_key=idempotency_key, deadline=deadline
        )

    def paginate(
        self,
        connection_id: str,
        operation: str,
        params: Mapping[str, Any] | None = None,
        *,
        limit: int | None = None,
    ) -> AsyncIterator[Any]:
        """The items of a list operation, page after page, at most ``limit`` of them.

        Raises:
            BadInput: the operation is not a list.
            EgressDenied: the next page is on a host that is not the provider's.
            ServicesError: whatever ``execute`` raises.
        """
        return _operations.paginate(self._core, connection_id, operation, params, limit=limit)

    async def token(self, connection_id: str) -> SecretStr:
        """An access token that is valid now, for people who use a vendor's SDK."""
        return await _operations.token(self._core, connection_id)

    async def sign(self, connection_id: str, request: HttpRequest, *, nonce: str | None = None) -> HttpRequest:
        """A signed copy of ``request``, to be sent once; ``nonce`` is the ``DPoP-Nonce`` of an answer that wants one.

        Raises:
            EgressDenied: the request's host is not one of the provider's.
            BadInput: ``nonce`` cannot be one, or the connection's token is not bound to a key.
        """
        return await _operations.sign(self._core, connection_id, request, nonce=nonce)

    async def can(self, connection_id: str, capability: str) -> Decision:
        """Whether the connection may use a capability, without calling.

        Raises:
            CapabilityUnsupported: the provider has no such capability.
        """
        return await _operations.can(self._core, connection_id, capability)

    # --- looking ---------------------------------------------------------------------------------------------------

    async def connection(self, connection_id: str) -> Connection:
        """The connection of that id."""
        return await self._core.store.connections.get(connection_id)

    async def profile(self, connection_id: str) -> UserProfile:
        """Whose account the connection is, asked of the provider now.

        Raises:
            ReauthRequired: the connection is not active.
            ProfileNotFound: the provider does not say, or tells of another account than the ID token's.
            ProviderError, TransportError: it refused, or there was no answer.
        """
        return await _identity.profile(self._core, connection_id)

    async def connections(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        status: str | None = None,
        secret_state: SecretState | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[Connection]:
        """Connections, a page at a time; pass ``next`` of a page as ``after`` to get the following one.

        ``since`` and ``until`` (exclusive) are about when they were made.
        """
        return await self._core.store.connections.list(
            provider_id=provider_id,
            scope=scope,
            status=status,
            secret_state=secret_state,
            since=since,
            until=until,
            after=after,
            limit=limit,
        )

    async def connection_health(self, connection_id: str, *, within: timedelta = _forecast.WITHIN) -> ConnectionHealth:
        """When a connection's tokens end, when it is renewed, and whether it needs somebody; nothing is decrypted.

        Args:
            connection_id: the connection.
            within: a new consent that is needed within this time is told of, as ``reauth soon``.

        Raises:
            ConnectionNotFound: there is none of that id.
            BadInput: ``within`` is below 0.
        """
        return await _forecast.health(self._core, connection_id, within=within)

    async def connections_health(
        self,
        *,
        provider_id: str | None = None,
        scope: Scope | None = None,
        within: timedelta = _forecast.WITHIN,
        after: str | None = None,
        limit: int = 100,
    ) -> Page[ConnectionHealth]:
        """As :meth:`connection_health`, of all connections that are not disconnected, by id, a page at a time.

        Pass ``next`` of a page as ``after`` to get the following one.
        """
        return await _forecast.page(
            self._core, provider_id=provider_id, scope=scope, within=within, after=after, limit=limit
        )

    async def grants(self, connection_id: str) -> GrantReport:
        """What was requested, what was granted, what is missing, and what that means for each capability.

        Raises:
            ConnectionNotFound: there is none of that id.
        """
        return await _grants.report(self._core, connection_id)

    async def grant_events(self, connection_id: str, *, after: str | None = None, limit: int = 100) -> Page[GrantEvent]:
        """The history of a connection's grants by id, a page at a time."""
        return await self._core.store.connections.grant_events(connection_id, after=after, limit=limit)

    async def grant_snapshots(
        self, connection_id: str, *, after: str | None = None, limit: int = 100
    ) -> Page[GrantSnapshot]:
        """What was requested and granted over time, by version, a page at a time."""
        return await self._core.store.connections.grant_snapshots(connection_id, after=after, limit=limit)

    async def resolve(self, provider_id: str, scope: Scope, *, parents: Iterable[Scope] = ()) -> Resolution:
        """Which active connection serves a scope: its own, or that of the first of ``parents`` that has one.

        A plugin's connection policy may choose among them; else a level with several is ambiguous.

        Args:
            provider_id: the configured provider.
            scope: who wants to use it.
            parents: the user's organisations, nearest first; they count where ``[providers.<id>] inheritance`` is
                ``"org"``.

        Raises:
            ProviderNotFound: with the nearest known id.
            BadInput: ``parents`` are given for an organisation, or have a user among them.
        """
        return await _resolve.resolve(self._core, provider_id, scope, parents=parents)

    async def find(self, provider_id: str, scope: Scope, *, parents: Iterable[Scope] = ()) -> Connection:
        """The connection that :meth:`resolve` gives.

        Raises:
            ConnectionAmbiguous: several are active and no policy chooses.
            ConnectionNotFound: none is active.
        """
        return await _resolve.find(self._core, provider_id, scope, parents=parents)

    def providers(self) -> Mapping[str, ProviderInstance]:
        """The configured providers by id."""
        return self._core.instances

    def catalog(self) -> Catalog:
        """What the plugins offer."""
        return self._core.catalog

    async def store_status(self) -> StoreStatus:
        """Schema, sizes and problems of the database."""
        return await self._core.store.status()

    async def migrate(self, *, dry_run: bool = False) -> list[MigrationStep]:
        """Apply pending migrations, or only list them."""
        return await self._core.store.migrate(dry_run=dry_run)

    async def check_key(self) -> KeyRef:
        """The secret backend's primary key, after proving that it works.

        Raises:
            KeyInvalid, KeyNotFound, BackendUnavailable: it does not.
        """
        return await self._core.backend.check()

    async def check_settings(self) -> int:
        """Read the secrets that the providers' settings refer to, as their first use would; gives how many there are.

        Raises:
            ConfigError: with every reference that leads to nothing.
        """
        return await _settings_secrets.check(self._core)

    async def health(self) -> list[tuple[str, Health]]:
        """Every health check's answer; one that raises is unhealthy."""
        found = []
        for id, spec in sorted(self._core.catalog.health_checks.items()):
            try:
                health = await spec.check.resolve()(self)
            except Exception as error:
                health = Health(ok=False, detail=f"{type(error).__name__}: {error}")
            found.append((id, health))
        return found

    # --- keys ------------------------------------------------------------------------------------------------------

    async def key_status(self, *, count: bool = True) -> KeyStatus:
        """The secret backend's wrapping keys, the rows that need each, and what cannot be opened.

        It answers also while the backend does not; ``problem`` then says why.

        Args:
            count: count rows, which reads every table with sealed values.
        """
        return await _keys.status(self._core, count=count)

    async def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        """Make a new wrapping key that only unwraps for now, so that every process knows it before one wraps with it.

        Raises:
            CapabilityUnsupported: the backend's keys are made elsewhere; the hint says where.
        """
        return await _keys.add(self._core, dry_run=dry_run)

    async def rotate_key(self, to: str | None = None, *, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        """Make the key ``to``, or the newest, primary; gives the primary key before and after.

        This process uses it at once. Others seal with data keys under the former one for up to five minutes more.

        Raises:
            KeyNotFound: there is no such key, or none to change to.
            CapabilityUnsupported: the backend's keys are changed elsewhere; the hint says where.
        """
        return await _keys.rotate(self._core, to, dry_run=dry_run)

    async def retire_key(self, key_id: str, version: int | None = None, *, dry_run: bool = False) -> str:
        """Let a wrapping key be used no more; gives what was done.

        Wait until every process has used the new primary key for five minutes, and rewrap once more before.

        Args:
            key_id: the key.
            version: needed where the backend has several of that id.
            dry_run: change nothing.

        Raises:
            Conflict: it is the primary key, or in use: the message has the number of rows, and so has ``metadata``.
            KeyNotFound: the backend has no such key.
            BadInput: several versions have that id.
            CapabilityUnsupported: the backend's keys are changed elsewhere; the hint says where.
        """
        return await _keys.retire(self._core, key_id, version, dry_run=dry_run)

    async def rewrap(
        self,
        *,
        all: bool = False,
        dry_run: bool = False,
        verify: bool = False,
        batch: int = _rotation.BATCH,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> RotationReport:
        """Have the backend wrap the data keys of what is stored under its primary key; no payload is opened.

        It may run beside everything else, and be killed: run again, it does what is left. Values adopted from the Go
        system have no data key; they are counted as ``adopted`` and left to :meth:`reencrypt`.

        Args:
            all: also what is under the primary key.
            dry_run: count only.
            verify: open every value under the primary key in the end.
            batch: rows read and replaced at once, at most 1000.
            rate: rows a second at most.
            progress: called after each batch with the rows gone through, and how many there are.

        Raises:
            BackendUnavailable, KeyDenied, KeyNotFound, KeyDisabled: it could not go on; the message and ``metadata``
                say how far it came. Nothing is lost, and the next run goes on.
            KeyInvalid: the key is not the one of this database; nothing was changed.
            FacetMissing: the store does not list its sealed values.
            BadInput: batch or rate are out of range.
        """
        return await self._rotate("rewrap", all, dry_run, verify, batch, rate, progress)

    async def reencrypt(
        self,
        *,
        all: bool = False,
        dry_run: bool = False,
        verify: bool = True,
        batch: int = _rotation.BATCH,
        rate: float | None = None,
        progress: Progress | None = None,
    ) -> RotationReport:
        """Open what is stored and seal it under new data keys; also what was adopted from the Go system.

        Everything else is as in :meth:`rewrap`. With ``all`` a run that was killed begins again.
        """
        return await self._rotate("reencrypt", all, dry_run, verify, batch, rate, progress)

    async def _rotate(
        self,
        action: _rotation.Action,
        all: bool,
        dry_run: bool,
        verify: bool,
        batch: int,
        rate: float | None,
        progress: Progress | None,
    ) -> RotationReport:
        async def after(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total)

        return await _rotation.rotate(
            self._core, action, all=all, dry_run=dry_run, verify=verify, batch=batch, rate=rate, after=after
        )

    async def retry_unreadable(self) -> tuple[str, ...]:
        """Open the credentials that could not be opened again, after a key came back; gives the connections left.

        Raises:
            KeyDenied, BackendUnavailable: they cannot be tried now.
            FacetMissing: the store does not keep which they are.
        """
        return await _keys.retry_unreadable(self._core)

    # --- events in and out -----------------------------------------------------------------------------------------

    async def accept_webhook(
        self, provider_id: str, request: InboundRequest, *, connection_id: str | None = None
    ) -> Accepted:
        """Verify a delivery's raw bytes and keep it durably; what follows is done by ``drain``.

        Answer 2xx when this returns, 401 when it raises ``WebhookRejected``, 503 when it raises ``StoreError`` or
        ``BackendUnavailable``.

        Args:
            provider_id: from the URL that was called, never from the body.
            request: as it was received.
            connection_id: from the URL as well, where each connection has its own.

        Raises:
            WebhookRejected: the delivery is not authentic; it was not kept.
            StoreError, BackendUnavailable: it could not be kept; the provider should try again.
        """
        return await _inbound.accept_webhook(self._core, provider_id, request, connection_id=connection_id)

    async def on(self, events: str, handler: EventHandler, *, name: str) -> None:
        """Have ``handler`` called, by ``drain``, for every event that is committed from now on and matches.

        Args:
            events: an event's name or a pattern: ``connection.*``.
            handler: ``async (event, context) -> Work | None``.
            name: stable; what has been handled is remembered under it, also over restarts.
        """
        await _delivery.register(self._core, {name: (events, handler)})

    def observe(self, observer: Observer, *, name: str) -> None:
        """Have ``observer`` called for what happens in this process; it must be quick."""
        self._core.observers.append((name, observer))

    async def drain(self) -> Drained:
        """Do what is due, once: deliveries, events to their handlers, the runtime's jobs, renewals ahead of time."""
        return await _due.drain(self._core, self)

    async def run_due(self, kind: str, limit: int = 50) -> int:
        """Do up to ``limit`` due items of one kind; gives how many were done.

        Args:
            kind: ``inbox``, ``outbox``, ``refresh.ahead``, or a kind of job: ``secrets.rewrap`` wraps anew what was
                sealed while the primary secret backend did not answer; ``connections.revoke`` tells providers of
                disconnects. ``refresh.ahead`` renews the tokens that are about to end, within each provider's
                ``refresh_concurrency`` and ``refresh_rate``; it begins nothing after a minute.
            limit: how many are claimed at most.

        Raises:
            BadInput: there is no such kind; the hint lists them.
        """
        handled, _ = await _due.run_due(self._core, self, kind, limit)
        return handled


def process_name() -> str:
    """A name for this process in leases and claims."""
    return f"{os.uname().nodename}:{os.getpid()}:{os.urandom(4).hex()}"
