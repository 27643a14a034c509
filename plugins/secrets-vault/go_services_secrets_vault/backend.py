"""The secret backend ``vault``: data keys wrapped by the transit engine of Vault or OpenBao.

The transit key is *derived* and each data key is bound by the ``context`` of its derivation, because ``rewrap`` keeps
a context and refuses ciphertexts made with ``associated_data`` (https://openbao.org/api-docs/secret/transit/). A key
that is not derived would ignore the context without a word; so the key is looked at before anything is wrapped with it.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from go_services_core.errors import (
    BadInput,
    CannotOpen,
    ConfigError,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
    ServicesError,
)
from go_services_core.model import KeyRef
from go_services_core.protocols import PluginEnv
from go_services_core.sealing import DataKey, GoEnvelope, WrappedKey
from go_services_core.secret import SecretBytes
from go_services_core.wrapping_keys import KeyInfo
from go_services_envelope.policy import KeyPolicy

from .ciphertext import KeyPath, parse, version_of
from .failures import Refused, opening, transit, unavailable
from .lifecycle import TransitKeys
from .session import Session
from .settings import BACKEND, PLUGIN, VaultSettings

if TYPE_CHECKING:
    from .client import Client

T = TypeVar("T")
BATCH: Final = 100
"""Data keys that one request wraps anew."""
_PROOF: Final = b"check"


def open_backend(settings: VaultSettings, env: PluginEnv) -> VaultBackend:
    """The backend over ``[secrets.vault]``; nothing is asked of the server yet.

    Raises:
        ConfigError: ``key`` is missing.
    """
    if settings.key is None:
        raise ConfigError(
            "The secret backend 'vault' needs secrets.vault.key, the name of a transit key.",
            hint=f"Make one with `bao write -f {settings.mount}/keys/go-services derived=true`.",
            plugin=PLUGIN,
            field="secrets.vault.key",
        )
    return VaultBackend(settings, KeyPath(settings.mount, settings.key), env)


class VaultBackend:
    """Wraps data keys with one transit key; further ones may unwrap. It belongs to one event loop.

    A key's id is ``MOUNT/KEY``; its version is the one that transit counts and that stands in each ciphertext. A
    wrapped data key is the ciphertext as transit gives it. Calls run in threads of this backend's own, at most
    ``max_concurrency`` of them.
    """

    id = BACKEND

    def __init__(self, settings: VaultSettings, path: KeyPath, env: PluginEnv) -> None:
        self._settings = settings
        self._path = path
        self._session = Session(settings, env)
        self._threads = ThreadPoolExecutor(settings.max_concurrency, thread_name_prefix="go_services_vault")
        self._policy = KeyPolicy(settings, plugin=PLUGIN, backend=BACKEND, primary=lambda: (path.id,), clock=env.clock)
        self._keys = TransitKeys(path, settings, self._policy)
        self._suitable = False
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None

    async def generate(self, context: bytes) -> DataKey:
        """A fresh data key under the newest version of the key, made by the server.

        Raises:
            BadInput: the context is empty.
            KeyInvalid, KeyNotFound, KeyDisabled, KeyDenied: the key cannot be used.
            BackendUnavailable: the server does not answer.
        """
        _bindable(context)
        await self._look_once()
        path = self._path
        plaintext, ciphertext = await self._ask(lambda at: at.data_key(path.mount, path.name, context))
        return self._made(plaintext, ciphertext)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        """Wrap a data key under the newest version of the key.

        Raises:
            BadInput: the context is empty.
            KeyInvalid: the data key does not have 32 bytes, or the wrapping key is not suitable.
            KeyNotFound, KeyDisabled, KeyDenied: the key cannot be used.
            BackendUnavailable: the server does not answer.
        """
        if len(plaintext.reveal()) != 32:
            raise KeyInvalid("A data key has 32 bytes.", plugin=PLUGIN)
        _bindable(context)
        await self._look_once()
        path = self._path
        ciphertext = await self._ask(lambda at: at.encrypt(path.mount, path.name, plaintext, context))
        return self._made(plaintext, ciphertext)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        """The data key in clear.

        Raises:
            KeyNotFound: ``key`` may not unwrap here, or is not on the server.
            CannotOpen: another context or version, or changed.
            KeyDisabled: its version is below ``min_decryption_version``, or the time outside its window.
            KeyDenied: the token may not use it.
            BackendUnavailable: the server does not answer.
        """
        path, ciphertext = self._readable(wrapped, key, context)
        opened = await self._decrypt(path, key, ciphertext, context)
        if len(opened.reveal()) != 32:
            raise CannotOpen(plugin=PLUGIN)
        return opened

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        """The same data keys under the newest version of the key, or why not.

        The server does it, 100 keys a request; no data key comes here, except those that another, compatible key
        wrapped: the server cannot take them from one key to another.

        Raises:
            KeyInvalid, KeyNotFound, KeyDisabled, KeyDenied: the key cannot be used; nothing was wrapped.
            BackendUnavailable: the server does not answer.
        """
        answers: dict[int, WrappedKey | SecretError] = {}
        here: list[tuple[int, WrappedKey, str]] = []
        elsewhere: list[tuple[int, WrappedKey]] = []
        for place, old in enumerate(keys):
            try:
                path, ciphertext = self._readable(old.wrapped, old.key, old.context)
            except (CannotOpen, KeyNotFound, KeyDisabled) as error:
                answers[place] = error
                continue
            if path == self._path:
                here.append((place, old, ciphertext))
            else:
                elsewhere.append((place, old))
        if here or elsewhere:
            await self._look_once()
        for start in range(0, len(here), BATCH):
            batch = here[start : start + BATCH]
            answers.update(zip((place for place, _, _ in batch), await self._rewrapped(batch), strict=True))
        for place, old in elsewhere:
            try:
                opened = await self.unwrap(old.wrapped, old.key, old.context)
            except (CannotOpen, KeyNotFound, KeyDisabled, KeyDenied, KeyInvalid) as error:
                answers[place] = error
                continue
            made = await self.wrap(opened, old.context)
            answers[place] = WrappedKey(wrapped=made.wrapped, key=made.key, context=old.context)
        return [answers[place] for place in range(len(keys))]

    async def check(self) -> KeyRef:
        """The primary key's reference, after a data key went through it and came back.

        Raises:
            KeyInvalid: the key is not suitable, or does not give back what it wrapped.
            KeyNotFound, KeyDisabled, KeyDenied: it cannot be used.
            BackendUnavailable: the server does not answer.
        """
        await self._look()
        made = await self.generate(_PROOF)
        opened = await self.unwrap(made.wrapped, made.key, _PROOF)
        if not hmac.compare_digest(opened.reveal(), made.plaintext.reveal()):
            raise KeyInvalid(f"The key {self._path.id} does not give back what it wrapped.", plugin=PLUGIN)
        return made.key

    async def aclose(self) -> None:
        """End the threads and close the connections; idempotent."""
        self._closed = True
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait((keeper,))
        self._session.close()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    # --- the keys' life ---------------------------------------------------------------------------------------------

    async def keys(self) -> Sequence[KeyInfo]:
        """Every version of the key, the newest (which wraps) first, then those of compatible keys.

        Raises:
            KeyNotFound, KeyDenied, BackendUnavailable: they cannot be told.
        """
        return await self._ask(self._keys.infos)

    async def add_key(self, *, dry_run: bool = False) -> NoReturn:
        """Not here: the server holds the keys, so that every process knows a new version at once.

        Raises:
            CapabilityUnsupported: always.
        """
        self._keys.refuse_to_add()

    async def rotate(self, *, to: str | None = None, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        """Have the server make a new version; gives the newest before and after.

        Raises:
            CapabilityUnsupported: ``to`` is given.
            KeyNotFound, KeyDenied, BackendUnavailable: it cannot be done.
        """
        self._keys.refuse_choice(to)
        return await self._ask(lambda at: self._keys.rotate(at, dry_run=dry_run), repeat=False)

    async def retire(self, key: KeyRef, *, dry_run: bool = False) -> str:
        """Raise ``min_decryption_version`` above a version; gives what was done.

        Raises:
            KeyNotFound: there is no such version.
            Conflict: it is the newest, or an older one is not retired yet.
            CapabilityUnsupported: it is the newest version of a compatible key.
            KeyDenied, BackendUnavailable: it cannot be done.
        """
        if key.backend != BACKEND:
            raise KeyNotFound(f"{key.key_id} is a key of {key.backend!r}, not of 'vault'.", plugin=PLUGIN)
        return await self._ask(lambda at: self._keys.retire(at, key, dry_run=dry_run), key=key, repeat=False)

    # --- what the Go system sealed ----------------------------------------------------------------------------------

    async def open_go(self, envelope: GoEnvelope) -> SecretBytes:
        """The plaintext of an envelope whose ciphertext is that of a transit key without derivation.

        The key path's last part is the key, the rest its mount (``secrets.vault.mount`` where there is none). Its key
        and version must be allowed (``compatible``); the version that decrypts is the one in the ciphertext.

        Raises:
            KeyNotFound: the algorithm is not ``vault``, or the key is not allowed or not on the server.
            CannotOpen: it does not open, or ``go_envelopes`` is off.
            KeyDisabled, KeyDenied, BackendUnavailable: as ``unwrap``.
        """
        if envelope.algorithm != BACKEND:
            raise KeyNotFound(
                f"An envelope of the Go system with {envelope.algorithm!r} is not for Vault.", plugin=PLUGIN
            )
        if not self._settings.go_envelopes or not envelope.prefixed:
            raise CannotOpen(
                "This is an envelope of the Go system, which is not read here.",
                hint="Set secrets.vault.go_envelopes to read those that have the prefix.",
                plugin=PLUGIN,
                field="secrets.vault.go_envelopes",
            )
        key_path = envelope.key_id.strip("/")
        path = KeyPath.parse(key_path if "/" in key_path else f"{self._settings.mount}/{key_path}")
        self._policy.may_unwrap(path.version(envelope.key_version))
        try:
            ciphertext = envelope.ciphertext.decode("ascii")
        except UnicodeDecodeError:
            raise CannotOpen(plugin=PLUGIN) from None
        return await self._decrypt(path, path.version(version_of(ciphertext)), ciphertext, None)

    # --- asking the server ------------------------------------------------------------------------------------------

    def _readable(self, wrapped: bytes, key: KeyRef, context: bytes) -> tuple[KeyPath, str]:
        self._policy.may_unwrap(key)
        path = KeyPath.parse(key.key_id)
        if not context:
            raise CannotOpen(plugin=PLUGIN)
        return path, parse(wrapped, key)

    def _made(self, plaintext: SecretBytes, ciphertext: str) -> DataKey:
        key = self._path.version(version_of(ciphertext))
        self._policy.may_wrap(key)
        return DataKey(plaintext=plaintext, wrapped=ciphertext.encode(), key=key)

    async def _decrypt(self, path: KeyPath, key: KeyRef, ciphertext: str, context: bytes | None) -> SecretBytes:
        return await self._ask(lambda at: at.decrypt(path.mount, path.name, ciphertext, context), key=key)

    async def _rewrapped(self, batch: Sequence[tuple[int, WrappedKey, str]]) -> list[WrappedKey | SecretError]:
        path = self._path
        items = [(ciphertext, old.context) for _, old, ciphertext in batch]
        results = await self._ask(lambda at: at.rewrap(path.mount, path.name, items))
        answers: list[WrappedKey | SecretError] = []
        for (_, old, _), (ciphertext, error) in zip(batch, results, strict=True):
            if error:
                answers.append(opening(error, old.key))
                continue
            key = path.version(version_of(ciphertext))
            self._policy.may_wrap(key)
            answers.append(WrappedKey(wrapped=ciphertext.encode(), key=key, context=old.context))
        return answers

    async def _look(self) -> None:
        """Make sure that the key is suitable."""
        await self._ask(self._keys.suitable)
        self._suitable = True

    async def _look_once(self) -> None:
        if not self._suitable:
            await self._look()

    async def _ask(self, do: Callable[[Client], T], *, key: KeyRef | None = None, repeat: bool = True) -> T:
        if self._closed:
            raise unavailable("closed")
        try:
            async with asyncio.timeout(self._settings.timeout):  # waiting for a thread is part of it
                answer = await self._in_thread(lambda: self._session.call(do, repeat))
        except TimeoutError:
            raise unavailable("timeout") from None
        except Refused as refused:
            raise transit(refused, key or self._path.id) from None
        if self._keeper is None or self._keeper.done():
            due = self._session.due_in()
            if due is not None and not self._closed:
                self._keeper = asyncio.create_task(self._keep())
        return answer

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _keep(self) -> None:
        """Renew the token for as long as it has a next time, though nobody calls."""
        while (due := self._session.due_in()) is not None:
            await asyncio.sleep(max(due, 0.1))  # not the clock's sleep: a token ages on the server's own time
            with suppress(ServicesError):  # a call that needs the token tells of it
                await self._in_thread(self._session.keep)

    def __repr__(self) -> str:
        return f"VaultBackend({self._path.id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret backend holds tokens and cannot be pickled or copied")


def _bindable(context: bytes) -> None:
    if not context:
        raise BadInput("A data key is bound to a context, which may not be empty.", plugin=PLUGIN, field="context")
