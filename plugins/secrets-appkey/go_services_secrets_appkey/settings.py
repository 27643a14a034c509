"""What ``[secrets.appkey]`` may hold."""

from __future__ import annotations

from go_services_core.config import setting, settings
from go_services_core.secret import SecretStr


@settings
class AppKeySettings:
    """The application's keys. Each is a reference to text that ``generate_key`` made."""

    key: SecretStr | None = setting(
        default=None, secret=True, help="The key that new secrets are sealed under.", example="env:GO_SERVICES_KEY"
    )
    decrypt_only: tuple[SecretStr, ...] = setting(
        default=(),
        secret=True,
        help="Earlier keys, which still open what was sealed under them.",
        example="env:GO_SERVICES_OLD_KEY",
    )
