"""The secret backend ``failover``: a primary, and a fallback that opens what it sealed or stands in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn, TypeVar

from attrs import evolve

from go_services_core.errors import (
    BackendUnavailable,
    CapabilityUnsupported,
    ConfigError,
    Conflict,
    KeyNotFound,
    PluginNotFound,
    SecretError,
)
from go_services_core.model import KeyRef
from go_services_core.protocols import PluginEnv
from go_services_core.sealing import DataKey, GoEnvelope, GoEnvelopeReader, KeyLifecycle, SecretBackend, WrappedKey
from go_services_core.secret import SecretBytes
from go_services_core.wrapping_keys import KeyInfo

from .breaker import Breaker
from .diagnostics import Diagnostics
from .moving import move
from .settings import FailoverSettings

T = TypeVar("T")
PLUGIN: Final = "secrets-failover"


class AnswerTooLate(BackendUnavailable):
    """The secret backend did not answer in time."""


class CircuitOpen(BackendUnavailable):
    """The primary did not answer lately, and is left alone for a while."""


def open_backend(settings: FailoverSettings, env: PluginEnv) -> FailoverBackend:
    """The backend over the members that ``[secrets.failover]`` names.

    Raises:
        ConfigError: a setting cannot work, or a member is not installed, not configured, or made of this backend.
    """
    settings.check()
    if env.secret_backend is None:
        raise ConfigError("The secret backend 'failover' is made of others, which only a runtime has.", plugin=PLUGIN)
    primary = _member(env.secret_backend, "primary", settings.primary)
    fallback = None if settings.fallback is None else _member(env.secret_backend, "fallback", settings.fallback)
    return FailoverBackend(settings, env, primary, fallback)


class FailoverBackend:
    """Wraps with the primary and opens with the member that wrapped.

    A key reference names the member that it is of, and only that one is asked. When a member refuses (key not found,
    denied or disabled, wrong context, changed), the other one is never asked instead. Under ``fallback_allowed`` the
    fallback stands in for a primary that does not answer, where a new wrapped key is made; that says so
    (``DataKey.stand_in``). A circuit breaker decides whether the primary is asked at all. Nothing is kept of one call
    for another but that and the counts. The members belong to whoever made them, who closes them.
    """

    id = "failover"

    def __init__(
        self, settings: FailoverSettings, env: PluginEnv, primary: SecretBackend, fallback: SecretBackend | None
    ) -> None:
        """``settings`` that have been checked, over members with different ids."""
        self._primary = primary
        self._fallback = fallback
        self.members = (primary.id,) if fallback is None else (primary.id, fallback.id)
        """Ids of the backends that its key references name."""
        self._stand_in = fallback if settings.policy == "fallback_allowed" else None
        self._timeout = settings.timeout
        self._clock = env.clock
        self._breaker = Breaker(failures_to_open=settings.failures_to_open, probe_seconds=settings.probe_seconds)
        self._diagnostics = Diagnostics(
            clock=env.clock,
            observe=env.observe,
            policy=settings.policy,
            primary=primary.id,
            fallback=None if fallback is None else fallback.id,
        )

    # --- data keys -------------------------------------------------------------------------------------------------

    async def generate(self, context: bytes) -> DataKey:
        """A fresh data key under the primary's key; under the fallback's, and marked, where it may stand in.

        Raises:
            BackendUnavailable: nobody who may wrap answers.
            KeyDisabled, KeyDenied, KeyInvalid, KeyNotFound: the primary refuses.
        """
        return await self._make("generate", lambda member: member.generate(context))

    async def wrap(self, plaintext: SecretBytes, context: bytes) -> DataKey:
        """As ``generate``, for a data key that is there already."""
        return await self._make("wrap", lambda member: member.wrap(plaintext, context))

    async def check(self) -> KeyRef:
        """The primary's key, after proving that it works; never the fallback's: rewrapping goes by this.

        Raises:
            BackendUnavailable: the primary does not answer.
            KeyDisabled, KeyDenied, KeyInvalid, KeyNotFound: the primary refuses.
        """
        return await self._ask("check", lambda: self._in_time(self._primary, self._primary.check()))

    async def unwrap(self, wrapped: bytes, key: KeyRef, context: bytes) -> SecretBytes:
        """The data key in clear, from the member that ``key`` names.

        Raises:
            KeyNotFound: ``key`` is of neither member, or the member does not have it.
            BackendUnavailable: the member does not answer. The other one cannot have the key.
            CannotOpen, KeyDisabled, KeyDenied: the member refuses.
        """
        member = self._owner(key)
        if member is not self._primary:
            return await member.unwrap(wrapped, key, context)
        return await self._ask("unwrap", lambda: self._in_time(member, member.unwrap(wrapped, key, context)))

    async def rewrap(self, keys: Sequence[WrappedKey]) -> Sequence[WrappedKey | SecretError]:
        """The same data keys under the primary's key, in their order; never under the fallback's.

        The primary rewraps its own in one batch. A data key of the fallback is unwrapped there and wrapped by the
        primary: only on this way is it in clear in this process.

        Raises:
            BackendUnavailable: the primary does not answer; nothing was wrapped.
            KeyDisabled, KeyDenied, KeyNotFound: the primary's key cannot be used; nothing was wrapped.
        """
        answers: dict[int, WrappedKey | SecretError] = {}
        own: list[int] = []
        other: list[int] = []
        for place, asked in enumerate(keys):
            try:
                (own if self._owner(asked.key) is self._primary else other).append(place)
            except KeyNotFound as error:
                answers[place] = error
        if own or other:
            answers |= await self._ask("rewrap", lambda: self._rewrap(keys, own, other))
        return [answers[place] for place in range(len(keys))]

    async def open_go(self, envelope: GoEnvelope) -> SecretBytes:
        """The plaintext of an envelope of the Go system, from the member that was given its algorithm and key.

        A member says KeyNotFound, without asking anybody, of what is not its own; only then is the next one asked.

        Raises:
            KeyNotFound: no member reads it.
            BackendUnavailable: the member that reads it does not answer.
            CannotOpen, KeyDisabled, KeyDenied: the member that reads it refuses.
        """
        left_alone: CircuitOpen | None = None
        said: list[str] = []
        first, second = _reader(self._primary), _reader(self._fallback)
        if first is not None:
            try:
                return await self._ask("open_go", lambda: self._in_time(self._primary, first.open_go(envelope)))
            except KeyNotFound as error:
                said.append(error.message)
            except CircuitOpen as error:
                left_alone = error
        if second is not None:
            try:
                return await second.open_go(envelope)
            except KeyNotFound as error:
                said.append(error.message)
        if left_alone is not None:
            raise left_alone
        raise KeyNotFound(
            f"An envelope of the Go system is sealed with {envelope.algorithm!r} under key {envelope.key_id!r} "
            f"(version {envelope.key_version}), which no member reads. {' '.join(said)}".rstrip(),
            hint="Give that key to the backend that reads the algorithm.",
            plugin=PLUGIN,
        )

    async def aclose(self) -> None:
        """Nothing: the members belong to whoever made them."""

    # --- the members' keys -----------------------------------------------------------------------------------------

    async def keys(self) -> Sequence[KeyInfo]:
        """The members' keys, the primary's first; the fallback's primary key counts as decrypt-only.

        The first has the warnings about both: who does not answer, and what stood in. The circuit breaker is not
        asked, so that one sees how it is now.

        Raises:
            SecretError: no member can tell its keys; the primary's reason.
        """
        found: list[KeyInfo] = []
        warnings = self._warnings()
        refused: list[SecretError] = []
        members = (self._primary,) if self._fallback is None else (self._primary, self._fallback)
        for role, member in zip(("primary", "fallback"), members, strict=False):
            try:
                told = await self._in_time(member, _keys(member))
            except SecretError as error:
                refused.append(error)
                warnings.append(f"the {role} {member.id} cannot tell its keys: {type(error).__name__}")
                continue
            for info in told:
                detail = f"{role} {member.id}" + (f": {info.detail}" if info.detail else "")
                second = member is self._fallback and info.state == "primary"
                found.append(evolve(info, state="decrypt-only" if second else info.state, detail=detail))
        if not found:
            raise refused[0]
        return [evolve(found[0], warnings=(*warnings, *found[0].warnings)), *found[1:]]

    async def add_key(self, *, dry_run: bool = False) -> KeyInfo:
        """Make a new key of the primary; raises CapabilityUnsupported where it offers none."""
        return await _lifecycle(self._primary).add_key(dry_run=dry_run)

    async def rotate(self, *, to: str | None = None, dry_run: bool = False) -> tuple[KeyRef, KeyRef]:
        """Change the primary's primary key; raises what the primary does, or CapabilityUnsupported."""
        return await _lifecycle(self._primary).rotate(to=to, dry_run=dry_run)

    async def retire(self, key: KeyRef, *, dry_run: bool = False) -> str:
        """Retire a key of the member that it is of.

        Raises:
            KeyNotFound: it is of neither member.
            Conflict: it is its member's primary key.
            CapabilityUnsupported: the member retires no keys.
        """
        member = self._owner(key)
        try:
            return await _lifecycle(member).retire(key, dry_run=dry_run)
        except Conflict as error:
            if member is self._primary:
                raise
            raise Conflict(
                f"The key {key.key_id} is the one that the fallback {member.id} wraps with.",
                hint="Once no row needs it, take the fallback out of [secrets.failover].",
                plugin=PLUGIN,
            ) from error

    # --- who is asked ----------------------------------------------------------------------------------------------

    def _owner(self, key: KeyRef) -> SecretBackend:
        if key.backend == self._primary.id:
            return self._primary
        if self._fallback is not None and key.backend == self._fallback.id:
            return self._fallback
        raise KeyNotFound(
            f"This was sealed under key {key.key_id} (version {key.key_version}) of the backend {key.backend!r}, "
            f"which is not one of {', '.join(self.members)}.",
            hint="Name that backend as secrets.failover.fallback until nothing is sealed under it.",
            plugin=PLUGIN,
            field="secrets.failover.fallback",
        )

    async def _make(self, operation: str, call: Callable[[SecretBackend], Awaitable[DataKey]]) -> DataKey:
        """What the primary makes, or the fallback where it may."""
        try:
            return await self._ask(operation, lambda: self._in_time(self._primary, call(self._primary)))
        except BackendUnavailable as error:
            if self._stand_in is None:
                raise
            unavailable = error
        try:
            made = await call(self._stand_in)
        except SecretError as error:
            self._diagnostics.fallback_failed(operation, error)
            reasons = {"primary": type(unavailable).__name__, "fallback": type(error).__name__}
            raise BackendUnavailable(
                f"The primary {self._primary.id} does not answer ({reasons['primary']}), and the fallback "
                f"{self._stand_in.id} cannot stand in ({reasons['fallback']}).",
                plugin=PLUGIN,
                metadata=reasons,
            ) from error
        self._diagnostics.fallback_succeeded(operation)
        return evolve(made, stand_in=True)

    async def _ask(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """``call``, which asks the primary, if the circuit breaker lets it; and what it tells of the primary.

        A refusal is an answer, but for KeyNotFound of a key that is asked for by name: that a backend may say without
        asking anybody, and it tells nothing.
        """
        permit = self._breaker.ask(self._clock.monotonic())
        if permit is None:
            raise self._left_alone()
        try:
            made = await call()
        except BackendUnavailable as error:
            heard = self._breaker.unavailable(permit, self._clock.monotonic())
            self._diagnostics.primary_failed(operation, error, heard=heard)
            raise
        except SecretError as error:
            if isinstance(error, KeyNotFound) and operation in ("unwrap", "open_go"):
                self._breaker.given_up(permit)
            else:
                self._answered(permit, operation)
            raise
        except BaseException:
            self._breaker.given_up(permit)
            raise
        self._answered(permit, operation)
        return made

    def _answered(self, permit: int, operation: str) -> None:
        if self._breaker.answered(permit):
            self._diagnostics.primary_answered(operation)

    async def _in_time(self, member: SecretBackend, call: Awaitable[T], *, calls: int = 1) -> T:
        seconds = self._timeout * calls
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await call
        except TimeoutError:
            if not limit.expired():
                raise
            raise AnswerTooLate(
                f"The secret backend {member.id!r} did not answer within {seconds:g} seconds.",
                plugin=PLUGIN,
                field="secrets.failover.timeout",
            ) from None

    def _left_alone(self) -> CircuitOpen:
        now = self._clock.monotonic()
        return CircuitOpen(
            f"The secret backend {self._primary.id!r} does not answer; last: "
            f"{self._diagnostics.reasons['primary_failed']}. {self._next_probe(now)}.",
            plugin=PLUGIN,
            metadata={"retry_after": max(0.0, self._breaker.probe_at - now)},
        )

    def _next_probe(self, now: float) -> str:
        if self._breaker.state == "half-open":
            return "One call is trying it now"
        return f"It is tried again in {max(0.0, self._breaker.probe_at - now):.1f} seconds"

    # --- rewrapping ------------------------------------------------------------------------------------------------

    async def _rewrap(
        self, keys: Sequence[WrappedKey], own: Sequence[int], other: Sequence[int]
    ) -> dict[int, WrappedKey | SecretError]:
        answers: dict[int, WrappedKey | SecretError] = {}
        if own:
            batch = [keys[place] for place in own]
            new = await self._in_time(self._primary, self._primary.rewrap(batch), calls=len(batch))
            answers |= zip(own, new, strict=True)
        if other and self._fallback is not None:
            moved = await move(
                [keys[place] for place in other],
                unwrap=self._fallback.unwrap,
                wrap=lambda clear, context: self._in_time(self._primary, self._primary.wrap(clear, context)),
            )
            answers |= zip(other, moved, strict=True)
        return answers

    # --- what operators see ----------------------------------------------------------------------------------------

    def _warnings(self) -> list[str]:
        told = self._diagnostics
        warnings = []
        if told.since is not None:
            state = "" if self._breaker.state == "closed" else f" {self._next_probe(self._clock.monotonic())}."
            warnings.append(
                f"the primary {self._primary.id} does not answer since {told.since:%Y-%m-%d %H:%M:%S} UTC; last: "
                f"{told.reasons['primary_failed']}, {told.counts['primary_failed']} calls in all.{state}"
            )
        if told.counts["fallback_succeeded"]:
            warnings.append(f"the fallback stood in for {told.counts['fallback_succeeded']} calls of this process")
        if "fallback_failed" in told.reasons:
            warnings.append(
                f"the fallback could not stand in for {told.counts['fallback_failed']} calls of this process; last: "
                f"{told.reasons['fallback_failed']}"
            )
        return warnings

    def __repr__(self) -> str:
        return f"FailoverBackend({', '.join(map(repr, self.members))})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret backend holds keys and cannot be pickled or copied")


def _member(make: Callable[[str], SecretBackend], role: str, id: str) -> SecretBackend:
    try:
        return make(id)
    except PluginNotFound as error:
        field = f"secrets.failover.{role}"
        raise ConfigError(f"{field}: {error.message}", hint=error.hint, plugin=PLUGIN, field=field) from None


def _reader(member: object) -> GoEnvelopeReader | None:
    return member if isinstance(member, GoEnvelopeReader) else None


def _lifecycle(member: SecretBackend) -> KeyLifecycle:
    if isinstance(member, KeyLifecycle):
        return member
    raise CapabilityUnsupported(
        f"The secret backend {member.id!r} lets nobody change its keys from here.",
        hint="Change them where the backend keeps them.",
        plugin=PLUGIN,
    )


async def _keys(member: SecretBackend) -> Sequence[KeyInfo]:
    if isinstance(member, KeyLifecycle):
        return await member.keys()
    return [KeyInfo(key=await member.check(), state="primary")]
