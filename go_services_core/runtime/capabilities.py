"""What a connection may do: decided without calling."""

from __future__ import annotations

from ..errors import PermissionDenied
from ..model import Decision
from ..specs import Operation
from .core import Core, Loaded
from .grants import decide, tells_grants
from .load import load


async def can(core: Core, connection_id: str, capability: str) -> Decision:
    """Whether a capability may be used; see ``Runtime.can``."""
    return decision(await load(core, connection_id), capability)


def decision(loaded: Loaded, name: str) -> Decision:
    """Whether the connection may use the capability; made once for each version of its credential."""
    made = loaded.decisions.get(name)
    if made is None:
        made = loaded.decisions[name] = decide(
            loaded.instance.capability(name),
            loaded.credential.granted,
            loaded.instance.spec.implies,
            tells=tells_grants(loaded.key.auth),
        )
    return made


def permit(loaded: Loaded, operation: Operation) -> None:
    """Refuse an operation whose capability the connection does not have.

    Raises:
        PermissionDenied: it lacks grants; the message names them.
    """
    if operation.capability is None:
        return
    made = decision(loaded, operation.capability)
    if not made.allowed:
        raise PermissionDenied(
            f"Operation {operation.id} needs the capability {made.capability}: {made.reason}.",
            hint="Ask for it with Runtime.reconsent, or connect with a credential that has it.",
            plugin=loaded.instance.id,
            metadata={"missing": list(made.missing), "connection_id": loaded.connection.id},
        )
