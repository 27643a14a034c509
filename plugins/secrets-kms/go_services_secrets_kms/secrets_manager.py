"""The secret source ``aws-sm:``: secrets of settings in AWS Secrets Manager.

Source: AWS Secrets Manager API Reference, GetSecretValue; User Guide, "JSON structure of secrets".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from go_services_core.errors import BackendUnavailable, ConfigError, KeyDenied, ServicesError
from go_services_core.secret import SecretStr

from .aws import Endpoint, Session, ask, attempt
from .failures import PLUGIN, unavailable
from .settings import KmsSettings

if TYPE_CHECKING:
    from go_services_core.config.secrets import SourceSettings
    from go_services_core.protocols import PluginEnv

_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@!-]{1,512}")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):[0-9]{12}:secret:[A-Za-z0-9/_+=.@!-]+")


class SecretsManagerSource:
    """``aws-sm://NAME`` is the whole secret, ``aws-sm://NAME#FIELD`` one member of a secret that is a JSON object.

    NAME is a secret's name or ARN. Region, credentials, attempts and their time limits are those of ``[secrets.kms]``;
    an ARN is asked in its own Region. Each ``get`` is one GetSecretValue, of the current version.
    """

    def __init__(self, settings: SourceSettings, env: PluginEnv) -> None:
        self._settings: KmsSettings = settings.settings
        self._session = Session(self._settings)

    def get(self, name: str) -> SecretStr:
        """The secret; blocks.

        Args:
            name: the reference after ``aws-sm:``, beginning with ``//``.

        Raises:
            ConfigError: the reference is not one, or the secret or its field does not exist, is empty, is not text, or
                is denied; the message names the reference.
            BackendUnavailable: Secrets Manager does not answer.
        """
        reference = f"aws-sm:{name}"
        secret_id, hash_sign, field = name.removeprefix("//").partition("#")
        arn = _ARN.fullmatch(secret_id)
        if not name.startswith("//") or not (arn or _NAME.fullmatch(secret_id)) or (hash_sign and not field):
            raise _refused(reference, "is not a reference", "Write aws-sm://NAME or aws-sm://NAME#FIELD.")
        text = self._read(reference, secret_id, arn["region"] if arn else self._settings.home_region)
        found = _member(text, field) if hash_sign else text
        if not found:
            raise _refused(reference, "is empty, or has no such field with text in it")
        return found

    def _read(self, reference: str, secret_id: str, region: str | None) -> SecretStr:
        def work() -> dict[str, Any]:
            endpoint = Endpoint(region, self._settings.secrets_manager_url)
            with closing(self._session.client("secretsmanager", endpoint)) as client:
                return ask(client, "get_secret_value", {"SecretId": secret_id})

        answer = attempt(work, subject=reference, region=region)
        if isinstance(answer, BackendUnavailable):
            about = {name: value for name, value in answer.metadata.items() if name != "reason"}
            raise unavailable(f"{reference} cannot be read: {answer.message}", answer.metadata["reason"], about)
        if isinstance(answer, ServicesError):
            raise _unreadable(reference, region, answer)
        if "SecretString" not in answer:
            raise _refused(reference, "holds bytes, not text")
        text: SecretStr = answer["SecretString"]
        return text


def _member(text: SecretStr, field: str) -> SecretStr | None:
    """One member of a JSON object; None when there is none that is text. What raises here would show the secret."""
    try:
        found = json.loads(text.reveal())
    except ValueError:
        return None
    value = found.get(field) if isinstance(found, dict) else None
    return SecretStr(value) if isinstance(value, str) else None


def _unreadable(reference: str, region: str | None, error: ServicesError) -> ConfigError:
    code = error.metadata.get("aws_code")
    if isinstance(error, ConfigError):
        reason, hint = "cannot be read: " + error.message.rstrip("."), error.hint
    elif isinstance(error, KeyDenied):
        reason = f"cannot be read: {error.message.rstrip('.')}"
        hint = "The credentials need secretsmanager:GetSecretValue for it, and kms:Decrypt for a key of your own."
    elif code == "ResourceNotFoundException":
        reason, hint = "does not exist", f"It is looked for in {region or 'the Region of the AWS configuration'}."
    elif code == "InvalidRequestException":
        reason, hint = "cannot be read: it is marked for deletion", "`aws secretsmanager restore-secret` restores it."
    else:
        reason, hint = f"cannot be read: AWS answered with {code}", None
    return _refused(reference, reason, hint, error.metadata)


def _refused(
    reference: str, reason: str, hint: str | None = None, metadata: Mapping[str, Any] | None = None
) -> ConfigError:
    return ConfigError(f"{reference} {reason}.", hint=hint, plugin=PLUGIN, metadata=metadata)
