"""The step ``dead-letter``: a handler gives a webhook up, an operator sees why and has it handled once more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..errors import Unrecoverable
from ..model import Event
from .quiet import quiet

if TYPE_CHECKING:
    from ..handler_protocols import HandlerContext
    from .steps import Stage

HANDLER: Final = "demo-letter"
REASON: Final = "The item's owner is unknown."


async def dead_letter(stage: Stage, require: Callable[[bool, str], None]) -> str:
    """Let a handler fail for good, look at what is dead, mend the cause, and replay."""
    runtime, name = stage.runtime, f"{stage.delivery_id()}-dead"
    is_mended, handled = False, 0

    async def handler(event: Event, context: HandlerContext) -> None:
        nonlocal handled
        if event.payload["delivery_id"] != name:
            return
        if not is_mended:
            raise Unrecoverable(REASON)
        handled += 1

    await runtime.on("webhook.item.*", handler, name=HANDLER)
    with quiet("go_services.outbox", logging.CRITICAL):
        status = await stage.sandbox.deliver(stage.webhook_url, event="item.created", data={"id": 7}, delivery_id=name)
        require(status == 204, f"the webhook was answered with {status}")
        for _ in range(2):
            await runtime.drain()
    dead = [one for one in (await runtime.deliveries(dead=True)).items if one.delivery_id == name]
    require(len(dead) == 1, f"{len(dead)} deliveries are dead instead of one")
    reasons = [row.error for row in dead[0].handlers if row.status == "dead"]
    require(reasons == [REASON], f"the reasons are {reasons}")
    is_mended = True
    first, second = [await runtime.replay(dead[0].id) for _ in range(2)]
    require((first.handlers, second.handlers) == (1, 0), "of two replays not exactly one had an effect")
    for _ in range(2):
        await runtime.drain()
    require(handled == 1, f"the replayed webhook was handled {handled} times")
    left = [row.status for row in (await runtime.delivery(dead[0].id)).handlers if row.handler == HANDLER]
    require(left == ["delivered"], "the replayed webhook is not done")
    return "given up once with its reason, found dead, replayed by one of two operators: handled once"
