"""What flows need a plugin for: signed JSON Web Tokens."""

from __future__ import annotations

from ..errors import ConfigError
from ..jose import Jose
from ..protocols import AuthContext


def required_jose(ctx: AuthContext, setting: str) -> Jose:
    """What signs; ``setting`` is what the provider's record says that needs it.

    Raises:
        ConfigError: no plugin brings it.
    """
    if ctx.jose is None:
        raise ConfigError(
            f"The provider {ctx.provider_id} has {setting}, which needs a plugin that signs JSON Web Tokens.",
            hint="Install go-services-auth-jwt.",
            field=f"providers.{ctx.provider_id}",
        )
    return ctx.jose
