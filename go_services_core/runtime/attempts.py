"""Attempts: what a consent is tied to from its beginning to its end, on whatever worker that comes."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ..errors import BadInput, ProviderChanged
from ..model import Attempt, Observation, Scope, Sealed
from ..secret import SecretStr
from . import bindings
from .announce import let_pass
from .core import Core, logger
from .grants import asked_again
from .payload import decode_memory, encode_memory

if TYPE_CHECKING:
    from ..auth_specs import AuthSpec
    from ..providers import ProviderInstance

SHORTEST_SESSION: Final = 16
"""Characters of a value that takes the place of a random binding."""
PROVIDER: Final = "runtime.provider"
"""What the runtime itself remembers beside the flow's own: which server the person was sent to, and as which client."""
_FACTS: Final = ("issuer", "authorize_url", "device_authorization_url", "token_url")


async def begin(
    core: Core,
    instance: ProviderInstance,
    record: AuthSpec,
    scope: Scope,
    *,
    attempt_id: str,
    state_hash: bytes,
    binding: SecretStr,
    requested: tuple[str, ...],
    memory: Mapping[str, SecretStr],
    expires_at: datetime,
    redirect_uri: str = "",
    connection_id: str | None = None,
    return_to: str | None = None,
) -> Attempt:
    """Keep a consent that was begun, in one row; its secrets hashed or sealed."""
    remembered = {**memory, PROVIDER: SecretStr(json.dumps(_facts(instance, record)))}
    attempt = Attempt(
        id=attempt_id,
        state_hash=state_hash,
        binding_hash=digest(binding),
        provider_id=instance.id,
        auth_kind=record.kind,
        scope=scope,
        redirect_uri=redirect_uri,
        requested=requested,
        connection_id=connection_id,
        return_to=return_to,
        sealed=await seal(core, attempt_id, instance, scope, remembered),
        created_at=core.clock.now(),
        expires_at=expires_at,
    )
    again = None if connection_id is None else await asked_again(core, connection_id, requested)
    if again is not None:
        await let_pass(core, again.announced(instance.id, scope))
    await core.store.connections.begin_attempt(attempt, reconsent=again)
    return attempt


async def seal(
    core: Core, attempt_id: str, instance: ProviderInstance, scope: Scope, memory: Mapping[str, SecretStr]
) -> Sealed:
    """What an attempt remembers, for its row."""
    return await core.sealer.seal(encode_memory(memory), bindings.attempt(attempt_id, instance.id, scope))


async def recall(core: Core, attempt: Attempt) -> tuple[ProviderInstance, AuthSpec, dict[str, SecretStr]]:
    """The provider as it was when the attempt began, its record, and what the flow remembers.

    Raises:
        ProviderNotFound: the provider is not configured any more.
        ProviderChanged: it is another server or client now: the code must not go there (RFC 9700 §4.4).
    """
    instance = core.instance(attempt.provider_id)
    opened = await core.sealer.open(attempt.sealed, bindings.attempt(attempt.id, instance.id, attempt.scope))
    memory = decode_memory(opened)
    try:
        record = instance.auth(attempt.auth_kind)
    except BadInput:
        raise _changed(instance, "auth") from None
    began, now = json.loads(memory[PROVIDER].reveal() if PROVIDER in memory else "{}"), _facts(instance, record)
    changed = next((name for name in now if began.get(name) != now[name]), None)
    if changed is not None:
        raise _changed(instance, changed)
    return instance, record, memory


def bind(core: Core, session: SecretStr | str | None) -> SecretStr:
    """The binding of a new attempt: random, or the value that an application without a cookie holds instead.

    Raises:
        BadInput: that value could be guessed.
    """
    if session is None:
        return random_text(core)
    given = session if isinstance(session, SecretStr) else SecretStr(session)
    text = given.reveal()
    if len(text) < SHORTEST_SESSION or len(text.strip()) != len(text) or len(set(text)) == 1:
        raise BadInput(
            f"A session to bind a consent to has at least {SHORTEST_SESSION} characters and no blanks around them.",
            hint="Pass what identifies the person's own session and nobody can guess, such as a random session id.",
            field="session",
        )
    return given


def tell_of_split(core: Core, attempt: Attempt) -> None:
    """Log and observe that an attempt is bound to a session instead of a browser; never to which."""
    logger.info(
        "attempt %s of provider %s for %s is bound to a session of the application, not to a browser",
        attempt.id, attempt.provider_id, attempt.scope,
    )  # fmt: skip
    core.observe(
        Observation(
            name="consent.split",
            at=attempt.created_at,
            provider_id=attempt.provider_id,
            connection_id=attempt.connection_id,
            detail={"attempt_id": attempt.id, "scope": str(attempt.scope)},
        )
    )


def random_text(core: Core) -> SecretStr:
    """256 random bits."""
    return SecretStr(urlsafe_b64encode(core.clock.random(32)).rstrip(b"=").decode())


def digest(text: SecretStr | str) -> bytes:
    """How state and binding stand in the row."""
    plain = text.reveal() if isinstance(text, SecretStr) else text
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()


def _facts(instance: ProviderInstance, record: AuthSpec) -> dict[str, str | None]:
    settings = instance.auth_settings(record.kind)
    return {
        "auth": record.kind,
        "client_id": getattr(settings, "client_id", None),
        **{name: getattr(record, name, None) for name in _FACTS},
    }


def _changed(instance: ProviderInstance, name: str) -> ProviderChanged:
    return ProviderChanged(
        f"The {name} of provider {instance.id} was changed since the consent began.",
        hint="Begin again.",
        field=name,
    )
