"""Calls with an idempotency key: kept before the first byte leaves, and answered from the ledger once they were made.

A keyed call costs two units of work beside its request: the entry is begun, and it is ended. ``docs/how-to`` has what
becomes of it (``make-calls-once.md``).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from attrs import evolve, frozen

from ..clock import uuid7
from ..errors import (
    BadInput,
    IdempotencyMismatch,
    LeaseLost,
    OperationRunning,
    OutcomeUnknown,
    ProviderError,
    ResultNotKept,
    SecretError,
    ServicesError,
    StoreError,
    TransportError,
)
from ..exchange import Answer, Unsettled
from ..model import OperationResult, Sealed
from ..resources import Begun
from ..secret import SecretBytes
from ..specs import Operation
from . import bindings
from .call import Call
from .core import Core, logger
from .exchanges import drive
from .payload import decode_result, encode_result
from .requests import Plan
from .retry import (
    BUDGET,
    BUSY,
    CIRCUIT,
    DENIED,
    EARLY,
    NEVER,
    NOT_SENT,
    REFUSED,
    THROTTLED,
    TOO_EARLY,
    UNAUTHORIZED,
    UNSENDABLE,
    rule_of,
)
from .sealed_values import open_result, seal_result

LONGEST_KEY: Final = 255
"""Characters; what providers take at most (Stripe, the sandbox)."""
LARGEST_RESULT: Final = 256 * 1024
"""Bytes of a result that is kept; of a larger one only that there was one."""
FIRST_LOOK: Final = 0.02
"""Seconds until it is asked again how far a call of the same key is; they double up to ``LAST_LOOK``."""
LAST_LOOK: Final = 1.0
TURNED_AWAY: Final = frozenset(
    (NOT_SENT, TOO_EARLY, THROTTLED, UNAUTHORIZED, BUSY, UNSENDABLE, DENIED, CIRCUIT, BUDGET)
)
"""Outcomes of an attempt by which nothing was done."""

Read = Callable[[Call, Answer], OperationResult]


def key_of(core: Core, plan: Plan, given: str | None) -> str | None:
    """The key of a call: the caller's, one that is made for it, or None where it has none.

    Raises:
        BadInput: the caller's cannot be one.
    """
    if given is None:
        return uuid7(core.clock) if plan.operation.keyed else None
    if not 0 < len(given) <= LONGEST_KEY or not given.isascii() or not given.isprintable() or given != given.strip():
        raise BadInput(
            f"An idempotency key has 1 to {LONGEST_KEY} printable ASCII characters, and no space at its ends.",
            hint="A UUID is one.",
            field="idempotency_key",
        )
    return given


async def keyed(
    core: Core,
    call: Call,
    params: Mapping[str, Any],
    run: Callable[[], Awaitable[OperationResult]],
    read: Read,
    *,
    goes_on: bool = False,
) -> OperationResult:
    """The result of ``run``, which makes ``call``, or what is recorded under its key.

    Args:
        core: the runtime's parts.
        call: has the ``ledger_key``.
        params: what the key stands for; the same key with others is refused.
        run: makes the call.
        read: the result in an answer that a reconciliation found.
        goes_on: whether ``run`` begins where an earlier call of the key stopped: there is nothing to find out first.

    Raises:
        IdempotencyMismatch: the key was used for other parameters; nothing was sent.
        OperationRunning: a call with this key is under way; nothing was sent.
        OutcomeUnknown: an earlier call may have been carried out, and it cannot be told.
        ResultNotKept: it was carried out; its result was not kept.
    """
    name = json.dumps([call.loaded.connection.id, call.operation.id, call.ledger_key])
    # The data key for the result must be at hand before the request leaves: this seal fetches and caches it.
    await core.sealer.seal(b"", bindings.idempotency("operation", name))
    begun = await _begin(core, call, name, _digest(call.operation, params))
    if begun.state == "done":
        return await _replayed(core, call, name, begun.result)
    entry = _Entry(core, name, begun.fence)
    keeping = asyncio.create_task(entry.keep())
    try:
        try:
            found = None if goes_on else await _reconciled(core, call, params, begun, read)
            result = found or await run()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    except BaseException as error:
        if isinstance(error, ServicesError):
            error.metadata.setdefault("idempotency_key", call.ledger_key)
        ending = entry.end(None, left=not _did_nothing(call, begun, error))
        if isinstance(error, Exception):  # who is cancelled does not wait
            await asyncio.shield(ending)
        raise
    await asyncio.shield(entry.end(result))
    return result


@frozen
class _Entry:
    """What this call holds of the ledger."""

    core: Core
    name: str
    fence: int

    async def keep(self) -> None:
        """Hold it for as long as the call goes on."""
        lease = self.core.worker.lease
        while True:
            await asyncio.sleep(lease / 3)  # in real time, by which the database ends leases
            try:
                await self._extend(lease)
            except (LeaseLost, StoreError) as error:
                logger.warning("the entry of a keyed call could not be held: %s", error)

    def end(self, result: OperationResult | None, *, left: bool = False) -> asyncio.Task[None]:
        """Record how the call ended. A failure to do so is logged: the call is not made again for it.

        It belongs to the runtime, which waits for it in the end, and not to the caller.
        """
        task = asyncio.create_task(self._end(result, left=left))
        self.core.tasks.add(task)
        task.add_done_callback(self.core.tasks.discard)
        return task

    async def _end(self, result: OperationResult | None, *, left: bool) -> None:
        try:
            if left:
                await self._extend(0.0)
                return
            await self.core.store.once.finish(
                "operation",
                self.name,
                owner=self.core.owner,
                fence=self.fence,
                ok=result is not None,
                result=None if result is None else await self._sealed(result),
            )
        except Exception as error:
            logger.warning("how a keyed call ended could not be recorded: %s", type(error).__name__)

    async def _extend(self, seconds: float) -> None:
        await self.core.store.once.extend(
            "operation", self.name, owner=self.core.owner, fence=self.fence, seconds=seconds
        )

    async def _sealed(self, result: OperationResult) -> Sealed | None:
        encoded = encode_result(result)
        if encoded is None or len(encoded) > LARGEST_RESULT:
            logger.warning("the result of a keyed call is not kept: it is not JSON, or too large")
            return None
        try:
            return await seal_result(self.core.sealer, SecretBytes(encoded), kind="operation", key=self.name)
        except SecretError as error:
            logger.warning("the result of a keyed call is not kept: %s", error)
            return None


async def _begin(core: Core, call: Call, name: str, digest: bytes) -> Begun:
    """Begin the entry, or wait for whoever has it as long as the call has time."""
    loop = asyncio.get_running_loop()
    left = call.until - core.clock.monotonic()
    end = loop.time() + (left if left < math.inf else call.timeout)
    pause = FIRST_LOOK
    while True:
        beginning = asyncio.create_task(
            core.store.once.begin("operation", name, digest=digest, owner=core.owner, seconds=core.worker.lease)
        )
        try:
            begun = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            freeing = asyncio.create_task(_free(core, name, beginning))
            core.tasks.add(freeing)
            freeing.add_done_callback(core.tasks.discard)
            raise
        except IdempotencyMismatch:
            raise IdempotencyMismatch(
                f"This idempotency key was used before to call {call.operation.id} with other parameters.",
                hint="Another call needs another key.",
                field="idempotency_key",
                metadata=_about(call),
            ) from None
        if begun.state != "running":
            return begun
        if core.closing or loop.time() + pause >= end:
            raise OperationRunning(
                f"A call of {call.operation.id} with this idempotency key is under way.",
                hint="Ask again with the same key: its result is kept.",
                metadata={**_about(call), "retry_in": begun.retry_in},
            )
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_LOOK)


async def _free(core: Core, name: str, beginning: asyncio.Task[Begun]) -> None:
    """Leave the entry as it was before a call that is not made: who was cancelled does not know whether it has it."""
    try:
        begun = await beginning
    except Exception:
        return
    if begun.state == "new":
        await _Entry(core, name, begun.fence).end(None, left=begun.unsettled is not None)


async def _replayed(core: Core, call: Call, name: str, sealed: Sealed | None) -> OperationResult:
    if sealed is None:
        raise ResultNotKept(
            f"A call of {call.operation.id} with this idempotency key was carried out; its result was not kept.",
            metadata=_about(call),
        )
    plaintext = await open_result(core.sealer, sealed, kind="operation", key=name)
    return evolve(decode_result(plaintext), idempotency_key=call.ledger_key, replayed=True)


async def _reconciled(
    core: Core, call: Call, params: Mapping[str, Any], begun: Begun, read: Read
) -> OperationResult | None:
    """What an earlier attempt brought of which nobody told how it ended; None where it is right to send.

    It is where there was no such attempt, and where the provider knows the key still and will not do it twice.
    """
    if begun.unsettled is None:
        return None
    instance = call.loaded.instance
    api = instance.spec.api
    assert api is not None
    if call.idempotency_key is not None and begun.unsettled < api.idempotency_seconds:
        logger.info("%s goes on with the key of an attempt that did not end", call.operation.id)
        return None
    asked = Unsettled(
        operation_id=call.operation.id,
        params=params,
        key=call.ledger_key or "",
        base_url=api.base_url,
        seconds=begun.unsettled,
    )
    steps = core.adapter(instance).reconcile(asked)
    if steps is None:
        raise OutcomeUnknown(
            f"An earlier call of {call.operation.id} with this idempotency key may have been carried out, and "
            f"{instance.id} cannot be asked by the key.",
            hint="Look at the provider. Another key makes another call.",
            plugin=instance.id,
            metadata=_about(call),
        )
    probe = evolve(call, idempotency_key=None, attempts=0)
    answer = await drive(core, probe, steps)
    call.loaded = probe.loaded
    return None if answer is None else read(probe, answer)


def _did_nothing(call: Call, begun: Begun, error: BaseException) -> bool:
    """Whether it is certain that neither this call nor an earlier one of its key was carried out."""
    if call.led_on:
        return False
    plain = call.operation.call is None
    rule = rule_of(error) if isinstance(error, (ProviderError, TransportError)) else None
    early = isinstance(error, ProviderError) and error.upstream_status in EARLY
    if rule in (REFUSED, NEVER) and not early:
        return plain or call.attempts <= 1
    if begun.unsettled is not None:
        return False
    if call.attempts == 0:
        return True
    if not early and rule not in TURNED_AWAY:
        return False
    instead = rule in (CIRCUIT, BUDGET)  # of a request, which is not counted then
    # An attempt before the last was repeated for being harmless: with a key that says nothing of how it ended.
    return call.attempts + instead <= 1 or (plain and call.idempotency_key is None)


def _about(call: Call) -> dict[str, Any]:
    return {"idempotency_key": call.ledger_key, "operation": call.operation.id}


def _digest(operation: Operation, params: Mapping[str, Any]) -> bytes:
    """What the key stands for: the path and the parameters as JSON would have them.

    One that is None is one that is not given, unless it may be null.
    """
    nullable = {param.name for param in operation.params if param.nullable}
    given = {name: value for name, value in params.items() if value is not None or name in nullable}
    plain = json.loads(json.dumps([operation.path, given], default=_stand_in))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).digest()


def _stand_in(value: Any) -> Any:
    """For a value without a JSON form: the hash of bytes, else its type and, where it has one, its length."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    return {"type": type(value).__qualname__, "length": getattr(value, "length", None)}
