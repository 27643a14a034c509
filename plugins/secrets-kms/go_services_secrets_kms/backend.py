"""The secret backend ``kms``: data keys wrapped by AWS KMS."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Mapping, Sequence
from logging import Logger
from typing import Any, Final, NoReturn

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    CapabilityUnsupported,
    ConfigError,
    Conflict,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
)
from go_services_core.model import KeyRef
from go_services_core.protocols import PluginEnv
from go_services_core.sealing import DataKey, GoEnvelope, WrappedKey
from go_services_core.secret import SecretBytes
from go_services_core.wrapping_keys import KeyInfo
from go_services_envelope.policy import KeyPolicy

from .endpoints import Answer, Arguments, Endpoints
from .failures import PLUGIN, unavailable
from .names import KeyName, parse, without_version
from .settings import KEY_VERSION, KmsSettings
from .states import described

BACKEND: Final = "kms"
CONTEXT_KEY: Final = "go-services"
"""The one key of the encryption context; its value is the key version, ``/`` and the context in base64url. CloudTrail
and key policies show it in clear, and the context is a hash."""
ALIAS_LIFETIME: Final = 60.0
"""Seconds for which a key that is not allowed makes no further question where the alias points now."""
_MOST_WRAPPED: Final = 6144
"""The largest CiphertextBlob that KMS takes (API Reference, Decrypt)."""
_CHECK: Final = b"check"


def open_backend(settings: KmsSettings, env: PluginEnv) -> KmsBackend:
    """The backend over the key of ``[secrets.kms]``. Nothing is asked, and boto3 is not imported.

    Raises:
        ConfigError: there is no key.
    """
    if settings.key is None:
        raise ConfigError(
            "The secret backend 'kms' needs secrets.kms.key: a key id, key ARN, alias/NAME or alias ARN.",
            hint="`aws kms create-key` and `aws kms create-alias` make one.",
            plugin=PLUGIN,
            field="secrets.kms.key",
        )
    return KmsBackend(settings.key, settings, env)


class KmsBackend:
    """Generates, wraps, unwraps and rewraps data keys by KMS's GenerateDataKey, Encrypt, Decrypt and ReEncrypt.

    A key reference holds the ARN that KMS answers with, never an alias, so that a row names its key when the alias has
    moved on. Its version is always 1: KMS keeps the earlier material of a key itself, and a ciphertext tells it which
    it needs (Developer Guide, "Rotate AWS KMS keys"). The ARN of a multi-Region key is written with the first Region,
    or as the settings write it, whichever Region answered.
    """

    id = BACKEND

    def __init__(self, key: str, settings: KmsSettings, env: PluginEnv) -> None:
        """Wrap under ``key``, unwrap under it and the compatible keys of ``settings``."""
        named = parse(key)
        assert named is not None, "the settings check the key"
        self._key = named
        self._settings = settings
        self._clock = env.clock
        self._logger: Logger = env.logger
        self._endpoints = Endpoints(settings, env.clock)
        self._spelled: dict[str, str] = {}
        for text in (*settings.compatible, *(window.key for window in settings.windows)):
            listed = parse(without_version(text)[0])
            if listed is not None:
                self._spell(listed)
        self._primary: str | None = self._spell(named) if named.is_key_arn else None
        self._asked_at: float | None = None
        self._policy = KeyPolicy(
            settings,
            plugin=PLUGIN,
            backend=BACKEND,
            primary=lambda: () if self._primary is None else (self._primary,),
            clock=env.clock,
        )

    async def generate(self, context: bytes) -> DataKey:
        """A fresh data key under the primary key, made by KMS.

        Raises:
            KeyDisabled, KeyDenied, KeyNotFound, KeyInvalid, BackendUnavailable: KMS does not give it.
        """
        answer = await self._endpoints.call(
            "generate_data_key",
            self._wrapping({"KeySpec": "AES_256", "EncryptionContext": _bound(context)}),
            subject=self._subject,
        )
        return self._made(answer.fields["Plaintext"], answer)

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        """Wrap a data key under the primary key.

        Raises:
            KeyInvalid: the data key does not have 32 bytes.
            KeyDisabled, KeyDenied, KeyNotFound, BackendUnavailable: KMS does not do it.
        """
        answer = await self._endpoints.call(
            "encrypt",
            self._wrapping({"Plaintext": _sized(plaintext), "EncryptionContext": _bound(context)}),
            subject=self._subject,
        )
        return self._made(plaintext, answer)

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        """The data key in clear.

        Raises:
            KeyNotFound: ``key`` is neither the primary nor a compatible key, or is not in KMS.
            CannotOpen: wrong context or key version, or changed.
            KeyDisabled, KeyDenied: the key may not be used.
            BackendUnavailable: KMS does not answer.
        """
        name = await self._permitted(key)
        return _sized(await self._decrypt(wrapped, name, key.key_id, _bound(context, key.key_version)))

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        """The same data keys under the primary key, or why not, with one ReEncrypt each: they stay inside KMS.

        Only a key of a Region that has no endpoint in common with the primary key's is unwrapped and wrapped here,
        because ReEncrypt works within one Region.

        Raises:
            KeyDisabled, KeyDenied, KeyNotFound, KeyInvalid: the primary key cannot be used; nothing was wrapped.
            BackendUnavailable: KMS does not answer.
        """
        if not keys:
            return []
        await self.generate(_CHECK)  # so that what a single one meets is its own key's trouble, not the primary's
        free = asyncio.Semaphore(max(1, self._settings.max_concurrency - 1))  # one thread stays for other callers

        async def one(old: WrappedKey) -> WrappedKey | SecretError:
            async with free:
                try:
                    made = await self._reencrypted(old)
                except BackendUnavailable:
                    raise
                except SecretError as error:
                    return error
                return WrappedKey(wrapped=made.wrapped, key=made.key, context=old.context)

        tasks = [asyncio.ensure_future(one(old)) for old in keys]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def check(self) -> KeyRef:
        """The primary key's reference, after KMS made a data key and gave it back.

        Raises:
            KeyInvalid, KeyNotFound, KeyDisabled, KeyDenied, BackendUnavailable: it did not.
            ConfigError: boto3 has no Region or profile to begin with.
        """
        made = await self.generate(_CHECK)
        opened = await self.unwrap(made.wrapped, made.key, _CHECK)
        if not hmac.compare_digest(opened.reveal(), made.plaintext.reveal()):
            raise KeyInvalid(f"The key {made.key.key_id} does not give back what it wrapped.", plugin=PLUGIN)
        return made.key

    async def aclose(self) -> None:
        """Close the connections; idempotent."""
        await self._endpoints.aclose()

    # --- what the command shows and changes ------------------------------------------------------------------------

    async def keys(self) -> Sequence[KeyInfo]:
        """The primary key and each compatible one, with the state that KMS gives it (DescribeKey).

        A compatible key that KMS does not show is listed as disabled, with the reason as a warning.

        Raises:
            KeyNotFound, KeyDenied, BackendUnavailable: the primary key cannot be told.
        """
        answer = await self._describe(self._key)
        primary = self._adopt(answer, answer.fields["KeyMetadata"].get("Arn"))
        alias = self._key.alias and f"{self._key.alias}, "
        found = [
            described(
                answer.fields["KeyMetadata"], _reference(primary), primary=True, policy=self._policy, prefix=alias
            )
        ]
        others = dict.fromkeys(without_version(text)[0] for text in self._settings.compatible)
        for key_id in others:
            name = parse(key_id)
            if key_id == primary or name is None:
                continue
            try:
                metadata = (await self._describe(name)).fields["KeyMetadata"]
            except (KeyNotFound, KeyDenied) as error:
                found.append(KeyInfo(key=_reference(key_id), state="disabled", warnings=(error.message,)))
            else:
                found.append(described(metadata, _reference(key_id), primary=False, policy=self._policy))
        return found

    async def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        """Not here: keys of KMS are made in AWS.

        Raises:
            CapabilityUnsupported: always; the hint says how.
        """
        raise CapabilityUnsupported(
            "A key of KMS is made in AWS.",
            hint="`aws kms create-key` makes it; list its ARN in secrets.kms.compatible of every process first.",
            plugin=PLUGIN,
        )

    async def rotate(self, *, to: str | None = None, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        """Have KMS make new material for the primary key (RotateKeyOnDemand); the key reference stays as it is.

        KMS keeps the earlier material, so no row has to be wrapped anew.

        Raises:
            CapabilityUnsupported: ``to`` names another key; the hint says how that is done.
            KeyInvalid: KMS cannot rotate this key: imported material, or a custom key store.
            Conflict: a rotation is running, or no more are left for this key.
            KeyDisabled, KeyDenied, KeyNotFound, BackendUnavailable: KMS does not do it.
        """
        described_now = await self._describe(self._key)
        metadata = described_now.fields["KeyMetadata"]
        primary = _reference(self._adopt(described_now, metadata.get("Arn")))
        if to is not None and to not in (primary.key_id, str(self._key)):
            raise CapabilityUnsupported(
                f"Another primary key than {primary.key_id} is chosen outside of this command.",
                hint="List both ARNs in secrets.kms.compatible of every process; then move the alias in AWS "
                "(`aws kms update-alias`), or change secrets.kms.key; then run `go-services secrets rewrap`.",
                plugin=PLUGIN,
                field="secrets.kms.key",
            )
        if metadata.get("KeyState") != "Enabled":
            raise KeyDisabled(
                f"The key {primary.key_id} is {metadata.get('KeyState')} in AWS.", hint="Enable it.", plugin=PLUGIN
            )
        if not dry_run:
            name = parse(primary.key_id)
            assert name is not None, "it was made from a name"
            await self._endpoints.call(
                "rotate_key_on_demand",
                lambda region, home: _given({"KeyId": name.at(region, home=home)}, {}) if home else None,
                subject=primary.key_id,
            )
            self._logger.info("KMS rotates %s; rows need not be wrapped anew", primary.key_id)
        return primary, primary

    async def retire(self, key: KeyRef, *, dry_run: bool = False) -> str:
        """Not here: this disables and deletes no key of AWS.

        Raises:
            Conflict: it is the primary key.
            KeyNotFound: it is not a key of this backend.
            CapabilityUnsupported: else always; the hint says how it is done.
        """
        primary = await self._known_primary()
        if key.backend == BACKEND and key.key_id == primary:
            raise Conflict(f"{key.key_id} is the primary key.", hint="Make another key primary first.", plugin=PLUGIN)
        listed = {without_version(text)[0] for text in self._settings.compatible}
        if key.backend != BACKEND or key.key_id not in listed:
            raise KeyNotFound(f"{key.key_id} is not in secrets.kms.compatible.", plugin=PLUGIN)
        raise CapabilityUnsupported(
            f"The key {key.key_id} is retired in AWS.",
            hint="Remove it from secrets.kms.compatible, then `aws kms disable-key`; delete it only much later, since "
            "backups of the database may need it.",
            plugin=PLUGIN,
            field="secrets.kms.compatible",
        )

    async def open_go(self, envelope: GoEnvelope) -> SecretBytes:
        """The plaintext of an envelope that the Go system sealed by KMS itself.

        Its encryption context is the envelope's own metadata, as the Go system did: whoever can write the row chooses
        it, so it binds nothing. Seal such rows anew.

        Raises:
            CannotOpen: ``secrets.kms.go_envelopes`` is off, or it does not open.
            KeyNotFound: another algorithm, or the key is not in ``secrets.kms.compatible``.
            KeyDisabled, KeyDenied, BackendUnavailable: as ``unwrap``.
        """
        if envelope.algorithm != "kms":
            raise KeyNotFound(f"The backend 'kms' has no key for the algorithm {envelope.algorithm!r}.", plugin=PLUGIN)
        if not self._settings.go_envelopes or not envelope.prefixed:
            raise CannotOpen(
                "This is an envelope of the Go system, which is not read here.",
                hint="Set secrets.kms.go_envelopes to read those that have the prefix.",
                plugin=PLUGIN,
                field="secrets.kms.go_envelopes",
            )
        name = await self._permitted(KeyRef(BACKEND, envelope.key_id, envelope.key_version))
        return await self._decrypt(envelope.ciphertext, name, envelope.key_id, dict(envelope.metadata))

    # --- asking KMS ------------------------------------------------------------------------------------------------

    async def _decrypt(self, wrapped: bytes, name: KeyName, key_id: str, bound: Mapping[str, str]) -> SecretBytes:
        if not 0 < len(wrapped) <= _MOST_WRAPPED:
            raise CannotOpen(plugin=PLUGIN)
        answer = await self._endpoints.call(
            "decrypt",
            lambda region, home: _given(
                {"KeyId": name.at(region, home=home)}, {"CiphertextBlob": wrapped, "EncryptionContext": bound}
            ),
            subject=key_id,
        )
        opened: SecretBytes = answer.fields["Plaintext"]
        return opened

    async def _reencrypted(self, old: WrappedKey) -> DataKey:
        source = await self._permitted(old.key)
        if not 0 < len(old.wrapped) <= _MOST_WRAPPED:
            raise CannotOpen(plugin=PLUGIN)
        fixed = {
            "CiphertextBlob": old.wrapped,
            "SourceEncryptionContext": _bound(old.context, old.key.key_version),
            "DestinationEncryptionContext": _bound(old.context),
        }
        try:
            answer = await self._endpoints.call(
                "re_encrypt",
                lambda region, home: _given(
                    {
                        "SourceKeyId": source.at(region, home=home),
                        "DestinationKeyId": self._key.at(region, home=home),
                    },
                    fixed,
                ),
                subject=old.key.key_id,
            )
        except KeyNotFound as error:
            if error.metadata.get("reason") != "region":
                raise
        else:
            return self._made(SecretBytes(b""), answer)
        return await self.wrap(await self.unwrap(old.wrapped, old.key, old.context), old.context)

    async def _describe(self, name: KeyName) -> Answer:
        return await self._endpoints.call(
            "describe_key",
            lambda region, home: _given({"KeyId": name.at(region, home=home)}, {}),
            subject=str(name),
        )

    @property
    def _subject(self) -> str:
        """The primary key, for messages."""
        name = str(self._key)
        return name if self._primary in (None, name) else f"{name} ({self._primary})"

    def _wrapping(self, fixed: Mapping[str, Any]) -> Arguments:
        return lambda region, home: _given({"KeyId": self._key.at(region, home=home)}, fixed)

    # --- which key that is -----------------------------------------------------------------------------------------

    def _made(self, plaintext: SecretBytes, answer: Answer) -> DataKey:
        key = _reference(self._adopt(answer, answer.fields["KeyId"]))
        self._policy.may_wrap(key)
        return DataKey(plaintext=plaintext, wrapped=answer.fields["CiphertextBlob"], key=key)

    def _adopt(self, answer: Answer, arn: Any) -> str:
        """Take the key that KMS used under our name as the primary key, and give its ARN.

        Raises:
            KeyInvalid: a further Region's alias names a key that is not a replica.
            BackendUnavailable: the answer names no key.
        """
        name = parse(str(arn))
        if name is None or not name.is_key_arn:
            raise unavailable("What answered is not KMS: it names no key.", "answer", {"region": answer.region})
        if not answer.home and not (name.multi_region and self._primary in (None, self._spelling(name))):
            raise KeyInvalid(
                f"{self._key} is {name} in {answer.region}, which is not a replica of the key in the first Region.",
                hint="Point the alias in every Region of secrets.kms.endpoints at the same multi-Region key.",
                plugin=PLUGIN,
                field="secrets.kms.endpoints",
            )
        self._primary = self._spell(name)
        return self._primary

    def _spell(self, name: KeyName) -> str:
        """One ARN for each multi-Region key, whose Regions would else look like different keys: the first one seen."""
        return self._spelled.setdefault(name.family, str(name))

    def _spelling(self, name: KeyName) -> str:
        return self._spelled.get(name.family, str(name))

    async def _known_primary(self) -> str:
        if self._primary is None:
            answer = await self._describe(self._key)
            self._adopt(answer, answer.fields["KeyMetadata"].get("Arn"))
        assert self._primary is not None, "the key was described"
        return self._primary

    async def _permitted(self, key: KeyRef) -> KeyName:
        """The name of ``key`` for KMS, once the rules allow to unwrap with it."""
        await self._known_primary()
        name = parse(key.key_id)

        def spelled() -> KeyRef:
            return KeyRef(key.backend, key.key_id if name is None else self._spelling(name), key.key_version)

        try:
            self._policy.may_unwrap(spelled())
        except KeyNotFound:
            if not self._key.alias or not self._may_ask_again():
                raise
            answer = await self._describe(self._key)  # the alias may have moved to this key
            self._adopt(answer, answer.fields["KeyMetadata"].get("Arn"))
            self._policy.may_unwrap(spelled())
        if name is None:
            raise KeyNotFound(f"{key.key_id} names no key of KMS.", plugin=PLUGIN)
        return name

    def _may_ask_again(self) -> bool:
        now = self._clock.monotonic()
        if self._asked_at is not None and now - self._asked_at < ALIAS_LIFETIME:
            return False
        self._asked_at = now
        return True

    def __repr__(self) -> str:
        return f"KmsBackend({str(self._key)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret backend holds credentials and cannot be pickled or copied")


def _reference(arn: str) -> KeyRef:
    return KeyRef(BACKEND, arn, KEY_VERSION)


def _bound(context: bytes, version: int = KEY_VERSION) -> dict[str, str]:
    return {CONTEXT_KEY: f"{version}/{base64.urlsafe_b64encode(context).decode()}"}


def _given(names: Mapping[str, str | None], fixed: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The arguments, or None when one of the keys cannot be named to this endpoint."""
    return None if None in names.values() else {**names, **fixed}


def _sized(key: SecretBytes) -> SecretBytes:
    if len(key.reveal()) != 32:
        raise KeyInvalid("A data key has 32 bytes.", plugin=PLUGIN)
    return key
