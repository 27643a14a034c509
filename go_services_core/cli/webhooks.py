"""``go-services webhooks``: the deliveries of providers."""

from __future__ import annotations

import click

from .lazy import Group
from .webhooks_verify import verify


@click.group(cls=Group)
def webhooks() -> None:
    """Verify deliveries.

    \b
    go-services webhooks verify delivery.http --provider github
    """


webhooks.add_command(verify)
