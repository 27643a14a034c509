"""Files up and down, and calls that go on where an earlier one stopped."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from ..errors import BadInput, RequestTimeout, ServicesError
from ..model import OperationResult
from ..secret import SecretStr
from ..sources import TransferProgress, WatchedSource, source_of
from .call import Call
from .call_tokens import state_of, with_token
from .core import Core
from .exchanges import asked_of, kind_of
from .keyed import key_of, keyed
from .load import load
from .observed import observed, permitted
from .operations import exchanged, made_of, plan_of, started
from .receiving import Receiver
from .requests import Plan
from .sending import outcome_unknown

_SOURCE: Final = "the source"
"""Stands beside the parameters, none of which can be called so."""

logger = logging.getLogger("go_services.runtime")


async def upload(
    core: Core,
    connection_id: str,
    operation_id: str,
    source: Any,
    params: Mapping[str, Any] | None,
    *,
    content_type: str | None,
    filename: str | None,
    progress: TransferProgress | None,
    resume: SecretStr | None,
    idempotency_key: str | None,
    deadline: float | None,
) -> OperationResult:
    """See ``Runtime.upload``."""
    body, name = source_of(source)
    if progress is not None:
        body = WatchedSource(body, _guarded(progress))
    return await _bounded(
        core,
        connection_id,
        operation_id,
        params,
        state=_state(resume, connection_id, operation_id),
        direction="upload",
        deadline=deadline,
        idempotency_key=idempotency_key,
        source=body,
        content_type=content_type or "application/octet-stream",
        filename=filename or name,
    )


async def download(
    core: Core,
    connection_id: str,
    operation_id: str,
    target: Any,
    params: Mapping[str, Any] | None,
    *,
    progress: TransferProgress | None,
    resume: SecretStr | None,
    deadline: float | None,
) -> OperationResult:
    """See ``Runtime.download``."""
    state = _state(resume, connection_id, operation_id)
    mark = core.clock.random(8).hex() if state is None else str(state.get("part", ""))
    receiver = Receiver.of(target, _guarded(progress) if progress is not None else None, mark)
    done = False
    have = await receiver.open()
    keep = False
    try:
        if state is not None:
            state = {**state, "have": have}
        result = await _bounded(
            core,
            connection_id,
            operation_id,
            params,
            state=state,
            direction="download",
            deadline=deadline,
            idempotency_key=None,
            receiver=receiver,
        )
        await receiver.finish()
        done = True
        return result
    except ServicesError as error:
        keep = error.resume is not None
        raise
    finally:
        receiver.close(keep=keep or done)


async def resume(
    core: Core, connection_id: str, operation_id: str, token: SecretStr, *, deadline: float | None
) -> OperationResult:
    """See ``Runtime.resume``."""
    return await _bounded(
        core,
        connection_id,
        operation_id,
        None,
        state=_state(token, connection_id, operation_id),
        direction=None,
        deadline=deadline,
        idempotency_key=None,
    )


def _state(token: SecretStr | None, connection_id: str, operation_id: str) -> Mapping[str, Any] | None:
    return None if token is None else state_of(token, connection_id=connection_id, operation_id=operation_id)


def _guarded(progress: TransferProgress) -> TransferProgress:
    """``progress``, which cannot hurt the transfer: what it raises is logged, and it is not called again."""
    broken = False

    def told(done: int, total: int | None) -> None:
        nonlocal broken
        if not broken:
            try:
                progress(done, total)
            except Exception:
                broken = True
                logger.exception("the progress of a file cannot be told any more")

    return told


async def _bounded(
    core: Core,
    connection_id: str,
    operation_id: str,
    params: Mapping[str, Any] | None,
    *,
    state: Mapping[str, Any] | None,
    direction: str | None,
    deadline: float | None,
    idempotency_key: str | None,
    receiver: Receiver | None = None,
    **given: Any,
) -> OperationResult:
    call: Call | None = None
    try:
        async with asyncio.timeout(deadline):
            loaded = await load(core, connection_id)
            plan = plan_of(core, loaded, operation_id)
            _require(core, plan, direction)
            permitted(core, loaded, plan.operation)
            key = key_of(core, plan, idempotency_key) if direction == "upload" else None
            call = started(
                core,
                loaded,
                plan.operation,
                idempotency_key=key if plan.idempotency_header is not None else None,
                ledger_key=key,
                deadline=deadline,
            )
            if deadline is None:
                longest = getattr(plan.operation.call, "longest", math.inf)
                call.until = core.clock.monotonic() + longest
            if params is None and state is not None:
                params = state.get("params")
            asked = asked_of(core, call, plan, params or {}, resume=state, **given)
            go = partial(exchanged, core, call, asked, receiver=receiver)
            if key is not None:
                stands_for = {**(params or {}), _SOURCE: _about(given)}
                go = partial(keyed, core, call, stands_for, go, made_of, goes_on=state is not None)
            return await observed(core, call, go)
    except TimeoutError:
        if call is not None and call.doubt is not None:
            raise with_token(call, outcome_unknown(call)) from call.doubt
        late = RequestTimeout(f"{operation_id} was not done within {deadline:g} s.")
        if call is not None and call.ledger_key is not None:
            late.metadata["idempotency_key"] = call.ledger_key
        raise (late if call is None else with_token(call, late)) from None


def _about(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What tells one file from another without reading it."""
    source = given.get("source")
    return {"length": source.length if source is not None else None, "filename": given.get("filename")}


def _require(core: Core, plan: Plan, direction: str | None) -> None:
    record = plan.operation.call
    kind = kind_of(core, record.kind) if record is not None else None
    if not hasattr(kind, "exchange") or getattr(record, "direction", None) != direction:
        what = {"upload": "an upload", "download": "a download"}.get(direction or "", "one that goes on")
        raise BadInput(f"Operation {plan.operation.id} is not {what}.", hint="Use execute.", field="operation")
