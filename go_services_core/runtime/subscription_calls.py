"""The provider's side of a subscription: what is sent to create, renew and end one, and what the answers say."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from ..errors import CapabilityUnsupported, ProviderError, ResponseInvalid, ServicesError, TransportError
from ..specs import Operation
from ..subscription_specs import SubscriptionAnswer, SubscriptionRequest, SubscriptionSpec
from .answers import MISSING, at
from .core import Core
from .operations import execute

if TYPE_CHECKING:
    from ..providers import ProviderInstance
    from ..resources import Subscription
    from ..secret import SecretStr

DEADLINE: Final = 60.0
"""Seconds for one call, with its repetitions; less than the lease under which it is made."""


def spec_of(instance: ProviderInstance, resource_type: str) -> SubscriptionSpec:
    """How the provider's resources of that type are subscribed to.

    Raises:
        CapabilityUnsupported: its record does not say.
    """
    for spec in instance.spec.subscriptions:
        if spec.resource_type == resource_type:
            return spec
    known = ", ".join(spec.resource_type for spec in instance.spec.subscriptions) or "nothing"
    raise CapabilityUnsupported(
        f"The provider {instance.id!r} does not say how {resource_type!r} is subscribed to.",
        hint=f"Its record has subscriptions to {known}.",
        plugin=instance.id,
        field="resource_type",
    )


async def create(core: Core, row: Subscription, token: SecretStr) -> SubscriptionAnswer:
    """Subscribe, as ``row`` says.

    Raises:
        ServicesError: the provider refused, or nobody knows whether it did; see :func:`is_definite`.
    """
    return await _ask(core, "create", row, token)


async def renew(core: Core, row: Subscription) -> SubscriptionAnswer:
    """Move the end of a subscription; the record has an operation for that.

    Raises:
        ServicesError: as :func:`create`; and see :func:`is_gone`.
    """
    return await _ask(core, "renew", row, None)


async def cancel(core: Core, row: Subscription) -> bool:
    """End a subscription; False where the provider has no way to, or it was never confirmed.

    One that is gone has ended.

    Raises:
        ServicesError: as :func:`create`.
    """
    spec = spec_of(core.instance(row.provider_id), row.resource_type)
    if spec.cancel is None or row.confirmed_at is None:
        return False
    try:
        await _ask(core, "cancel", row, None)
    except ProviderError as error:
        if not is_gone(spec, error):
            raise
    return True


async def _ask(
    core: Core, action: Literal["create", "renew", "cancel"], row: Subscription, token: SecretStr | None
) -> SubscriptionAnswer:
    instance = core.instance(row.provider_id)
    spec = spec_of(instance, row.resource_type)
    operation_id = {"create": spec.create, "renew": spec.renew, "cancel": spec.cancel}[action]
    assert operation_id is not None
    now = core.clock.now()
    request = SubscriptionRequest(
        action=action,
        resource_type=row.resource_type,
        resource_id=row.resource_id,
        channel_id=row.channel_id,
        callback_url=row.callback_url,
        token=token,
        events=row.events,
        expires_at=None if spec.lifetime is None else now + timedelta(seconds=spec.lifetime),
        remote_id=row.remote_subscription_id,
        remote_resource_id=row.remote_resource_id,
        metadata=row.metadata,
    )
    adapter = core.adapter(instance)
    params = adapter.subscription_params(request)
    if params is None:
        params = params_of(spec, instance.operation(operation_id), request)
    result = await execute(
        core,
        row.connection_id,
        operation_id,
        params,
        method=None,
        path=None,
        body=None,
        headers=None,
        idempotency_key=None,
        deadline=DEADLINE,
        retry=None,
        background=True,
    )
    if action == "cancel":
        return SubscriptionAnswer()
    own = adapter.subscription_answer(request, result.data)
    return own if own is not None else answer_of(spec, request, result.data)


def params_of(spec: SubscriptionSpec, operation: Operation, request: SubscriptionRequest) -> dict[str, Any]:
    """The parameters of ``operation``: of what the record sends, what it declares and there is a value for."""
    values: dict[str, Any] = {
        "callback_url": request.callback_url,
        "channel": request.channel_id,
        "token": None if request.token is None else request.token.reveal(),
        "expires": request.expires_at,
        "events": request.events or None,
        "resource": request.resource_id,
        "resource_type": request.resource_type,
        "remote_id": request.remote_id,
        "remote_resource": request.remote_resource_id,
    }
    types = {param.name: param.type for param in operation.params}
    given: dict[str, Any] = {}
    for what, name in spec.send.items():
        value = values[what]
        if name not in types or value is None:
            continue
        if isinstance(value, datetime):
            value = _time(spec, value, types[name])
        elif isinstance(value, tuple):
            value = list(value) if types[name] == "array" else ",".join(value)
        given[name] = value
    return given


def _time(spec: SubscriptionSpec, moment: datetime, kind: str) -> Any:
    if spec.time == "iso":
        return moment if kind == "datetime" else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    number = math.floor(moment.timestamp() * (1000 if spec.time == "milliseconds" else 1))
    return str(number) if kind == "string" else number


def answer_of(spec: SubscriptionSpec, request: SubscriptionRequest, data: Any) -> SubscriptionAnswer:
    """What the record finds in an answer.

    Raises:
        ResponseInvalid: the answer to ``create`` lacks the provider's id, or its end cannot be read.
    """
    remote_id = _text(data, spec.remote_id)
    if request.action == "create" and spec.remote_id is not None and remote_id is None:
        raise ResponseInvalid(f"The answer to {spec.create} has no id at {spec.remote_id!r}.")
    ends = None if spec.expires is None else at(data, spec.expires)
    return SubscriptionAnswer(
        remote_id=remote_id,
        remote_resource_id=_text(data, spec.remote_resource),
        channel_id=remote_id if spec.channel == "remote" else None,
        expires_at=request.expires_at if ends is None or ends is MISSING else _moment(spec, ends),
    )


def _text(data: Any, path: str | None) -> str | None:
    found = None if path is None else at(data, path)
    return None if found is None or found is MISSING or found == "" else str(found)


def _moment(spec: SubscriptionSpec, value: Any) -> datetime:
    try:
        if spec.time == "iso":
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return datetime.fromtimestamp(float(value) / (1000 if spec.time == "milliseconds" else 1), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ResponseInvalid(f"The end of the subscription at {spec.expires!r} cannot be read.") from None


def is_gone(spec: SubscriptionSpec, error: BaseException) -> bool:
    """Whether the provider says that there is no such subscription."""
    return isinstance(error, ProviderError) and error.upstream_status in spec.gone


def is_definite(error: BaseException) -> bool:
    """Whether it is certain that the provider made no subscription."""
    if isinstance(error, TransportError):
        return not error.sent
    if isinstance(error, ProviderError):
        status = error.upstream_status
        return status is not None and 400 <= status < 500 and status != 408
    return isinstance(error, ServicesError)


def retry_after(error: BaseException) -> float | None:
    """Seconds that the provider asks to wait."""
    found: Any = getattr(error, "retry_after", None)
    return found if isinstance(found, (int, float)) else None
