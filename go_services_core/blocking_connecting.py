"""The blocking face's ways to connect, and to end a connection."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .auth.fields import concealed
from .model import CallbackResult, Connection, ConnectStart, DeviceStart, Disconnected, Job, Scope
from .runtime.callback import CallbackParams, received
from .runtime.runtime import Runtime
from .secret import SecretStr
from .transfer import Exported, Imported, TokenImport

T = TypeVar("T")


class BlockingConnecting:
    """Part of ``BlockingRuntime``."""

    if TYPE_CHECKING:

        def _run(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T: ...

    def connect(
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
        return self._run(
            Runtime.connect,
            provider_id,
            scope=scope,
            redirect_uri=redirect_uri,
            grants=grants,
            auth=auth,
            connection_id=connection_id,
            session=session,
            return_to=return_to,
        )

    def begin_device(
        self,
        provider_id: str,
        *,
        scope: Scope,
        grants: Iterable[str] = (),
        auth: str | None = None,
        connection_id: str | None = None,
    ) -> DeviceStart:
        return self._run(
            Runtime.begin_device, provider_id, scope=scope, grants=grants, auth=auth, connection_id=connection_id
        )

    def poll_device(self, attempt_id: str, *, binding: SecretStr | str) -> Connection:
        return self._run(Runtime.poll_device, attempt_id, binding=binding)

    def connect_device(
        self,
        provider_id: str,
        *,
        scope: Scope,
        show: Callable[[DeviceStart], Any],
        grants: Iterable[str] = (),
        auth: str | None = None,
        connection_id: str | None = None,
    ) -> Connection:
        return self._run(
            Runtime.connect_device,
            provider_id,
            scope=scope,
            show=show,
            grants=grants,
            auth=auth,
            connection_id=connection_id,
        )

    def complete(
        self,
        params: CallbackParams,
        *,
        binding: SecretStr | str,
        redirect_uri: str | None = None,
    ) -> Connection:
        params, binding = received(params, binding)  # as in Runtime
        return self._run(Runtime.complete, params, binding=binding, redirect_uri=redirect_uri)

    def callback(
        self,
        params: CallbackParams,
        *,
        binding: SecretStr | str,
        redirect_uri: str | None = None,
    ) -> CallbackResult:
        params, binding = received(params, binding)  # as in Runtime
        return self._run(Runtime.callback, params, binding=binding, redirect_uri=redirect_uri)

    def establish(
        self,
        provider_id: str,
        *,
        scope: Scope,
        fields: Mapping[str, SecretStr | str],
        auth: str | None = None,
        grants: Iterable[str] = (),
    ) -> Connection:
        fields = concealed(fields)  # as in Runtime
        return self._run(Runtime.establish, provider_id, scope=scope, fields=fields, auth=auth, grants=grants)

    def reconsent(
        self,
        connection_id: str,
        *,
        grants: Iterable[str] = (),
        redirect_uri: str | None = None,
        session: SecretStr | str | None = None,
        return_to: str | None = None,
    ) -> ConnectStart:
        return self._run(
            Runtime.reconsent,
            connection_id,
            grants=grants,
            redirect_uri=redirect_uri,
            session=session,
            return_to=return_to,
        )

    def require_reconsent(self, connection_id: str, *, reason: str) -> Connection:
        return self._run(Runtime.require_reconsent, connection_id, reason=reason)

    def import_connection(
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
        return self._run(
            Runtime.import_connection,
            provider_id,
            scope=scope,
            tokens=tokens,
            auth=auth,
            account=account,
            verify=verify,
            dry_run=dry_run,
        )

    def export_scope(self, scope: Scope, *, key: SecretStr) -> Exported:
        return self._run(Runtime.export_scope, scope, key=key)

    def import_bundle(self, bundle: bytes, *, key: SecretStr, dry_run: bool = False) -> tuple[Imported, ...]:
        return self._run(Runtime.import_bundle, bundle, key=key, dry_run=dry_run)

    def refresh(self, connection_id: str) -> Connection:
        return self._run(Runtime.refresh, connection_id)

    def disconnect(self, connection_id: str, *, reason: str = "") -> Disconnected:
        return self._run(Runtime.disconnect, connection_id, reason=reason)

    def pending_revocations(self, connection_id: str) -> Sequence[Job]:
        return self._run(Runtime.pending_revocations, connection_id)
