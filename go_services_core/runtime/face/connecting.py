"""How connections come to be, are kept and end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...auth.fields import concealed
from ...model import CallbackResult, Connection, ConnectStart, DeviceStart, Disconnected, Job, Scope
from ...secret import SecretStr
from ...transfer import Exported, Imported, TokenImport
from .. import bundles as _bundles
from .. import callback as _callback
from .. import connect as _connect
from .. import device as _device
from .. import disconnect as _disconnect
from .. import imports as _imports
from .. import load as _load
from .. import reconsent as _reconsent
from .. import refresh as _refresh
from ..callback import CallbackParams
from ..core import Core
from ..spans import Span


class Connecting:
    """Consents, imports, renewals and disconnects."""

    _core: Core

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
        with Span(self._core, "connect", provider_id=provider_id, connection_id=connection_id, scope=scope):
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
        with Span(self._core, "connect", provider_id=provider_id, connection_id=connection_id, scope=scope):
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
        with Span(self._core, "complete") as span:
            result = await _callback.callback(self._core, params, binding=binding, redirect_uri=redirect_uri)
            span.about(result.connection)
            return result

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
        with Span(self._core, "establish", provider_id=provider_id, scope=scope) as span:
            connection = await _connect.establish(
                self._core, provider_id, scope=scope, fields=fields, auth=auth, grants=grants
            )
            span.about(connection)
            return connection

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
        with Span(self._core, "connect", connection_id=connection_id):
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
        with Span(self._core, "disconnect", connection_id=connection_id) as span:
            ended = await _disconnect.disconnect(self._core, connection_id, reason=reason)
            span.about(ended.connection)
            span.detail = {"revoked": ended.revoked, "pending": ended.pending}
            return ended

    async def pending_revocations(self, connection_id: str) -> Sequence[Job]:
        """The open jobs that revoke what disconnects of the connection could not; ``last_error`` says why not yet."""
        return await self._core.store.connections.pending_revocations(connection_id)
