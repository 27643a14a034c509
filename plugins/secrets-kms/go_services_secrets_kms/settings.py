"""What ``[secrets.kms]`` may hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import Attribute

from go_services_core.config import setting, settings
from go_services_core.errors import ConfigError
from go_services_core.secret import SecretStr
from go_services_envelope.policy import KeyRules

from .names import REGION, parse, without_version

KEY_VERSION: Final = 1
"""The version in every key reference: KMS keeps the earlier material of a key itself and finds the right one from the
ciphertext, so a rotation inside KMS makes no other version here."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _refused(field: str, reason: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{field} {reason}.", hint=hint, plugin="secrets-kms", field=field)


def _key(_: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and parse(value) is None:
        raise _refused(
            attribute.name, f"{value!r} names no KMS key", "Give a key id, key ARN, alias/NAME or alias ARN."
        )


def _region(_: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not REGION.fullmatch(value):
        raise _refused(attribute.name, f"{value!r} is not a Region such as eu-west-1")


def _url(_: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None:
        _check_url(attribute.name, value)


def _check_url(field: str, value: str) -> None:
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise _refused(field, "is not a URL") from None
    if url.scheme not in ("https", "http") or not url.hostname or url.query or url.fragment:
        raise _refused(field, "must be a URL such as https://kms.eu-west-1.amazonaws.com")
    if url.username is not None or url.password is not None:
        raise _refused(field, "may hold no user name or password")
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise _refused(field, "must begin with https: data keys cross it in clear", "http is for this machine alone.")


def _endpoints(_: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for entry in value:
        region, equals, url = entry.partition("=")
        if not REGION.fullmatch(region):
            raise _refused(attribute.name, f"{entry!r} is neither REGION nor REGION=URL")
        if region in seen:
            raise _refused(attribute.name, f"names the Region {region} twice")
        seen.add(region)
        if equals:
            _check_url(attribute.name, url)


def _text(_: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and (not value or value != value.strip()):
        raise _refused(attribute.name, "may not be blank or have spaces around it")


def _within(least: float, most: float) -> Callable[[object, Attribute[Any], float], None]:
    def check(_: object, attribute: Attribute[Any], value: float) -> None:
        if not (math.isfinite(value) and least <= value <= most):
            raise _refused(attribute.name, f"must be {least:g} to {most:g}")

    return check


@settings
class KmsSettings(KeyRules):
    """Which key of KMS, where it is, and how it is asked.

    Raises:
        ConfigError: a value cannot be used, or two contradict; ``field`` names it.
    """

    key: str | None = setting(
        default=None,
        help="The key that new secrets are sealed under: key id, key ARN, alias/NAME or alias ARN.",
        example="alias/go-services",
        validator=_key,
    )
    region: str | None = setting(
        default=None,
        help="Region of the key; else that of its ARN, else what AWS_DEFAULT_REGION or the profile says.",
        example="eu-west-1",
        validator=_region,
    )
    endpoint_url: str | None = setting(
        default=None, help="URL of KMS instead of the Region's own, such as a VPC endpoint.", validator=_url
    )
    endpoints: tuple[str, ...] = setting(
        default=(),
        help="Further Regions that have the key, as REGION or REGION=URL, tried in order while the first fails.",
        example="us-east-1",
        validator=_endpoints,
    )
    secrets_manager_url: str | None = setting(
        default=None, help="URL of Secrets Manager instead of the Region's own, for aws-sm: references.", validator=_url
    )
    access_key_id: SecretStr | None = setting(
        default=None,
        secret=True,
        help="Access key, with secret_access_key; without them boto3 finds credentials as it always does.",
        example="env:KMS_ACCESS_KEY_ID",
    )
    secret_access_key: SecretStr | None = setting(
        default=None, secret=True, help="Secret of access_key_id.", example="env:KMS_SECRET_ACCESS_KEY"
    )
    session_token: SecretStr | None = setting(
        default=None, secret=True, help="Session token of a temporary access key.", example="env:KMS_SESSION_TOKEN"
    )
    profile: str | None = setting(default=None, help="Profile of the AWS configuration files.", validator=_text)
    connect_timeout: float = setting(
        default=2.0, help="Seconds that one attempt may take to connect.", validator=_within(0.01, 60)
    )
    read_timeout: float = setting(
        default=5.0, help="Seconds that one attempt may wait for an answer.", validator=_within(0.01, 60)
    )
    timeout: float = setting(
        default=15.0,
        help="Seconds that one operation may take in all, over its attempts and endpoints.",
        validator=_within(0.01, 600),
    )
    max_attempts: int = setting(
        default=3, help="Attempts at one endpoint, with botocore's standard retry mode.", validator=_within(1, 10)
    )
    max_concurrency: int = setting(
        default=8, help="Threads and connections that ask KMS at the same time.", validator=_within(1, 64)
    )
    go_envelopes: bool = setting(
        default=False, help="Whether envelopes of the Go system with the algorithm kms are read."
    )

    def __attrs_post_init__(self) -> None:
        self._check_credentials()
        named = parse(self.key) if self.key is not None else None
        if (
            named is not None
            and self.region
            and named.region
            and self.region != named.region
            and not named.multi_region
        ):
            raise _refused("region", f"is {self.region}, but the key is in {named.region}")
        first = self.home_region
        if first is not None and any(entry.partition("=")[0] == first for entry in self.endpoints):
            raise _refused(
                "endpoints", f"names {first} again, which is the first Region", "Name further Regions alone."
            )
        self._check_rules()

    @property
    def home_region(self) -> str | None:
        """The Region that is asked first, as far as the settings tell."""
        named = parse(self.key) if self.key is not None else None
        return self.region or (named.region if named is not None and named.region else None)

    def _check_credentials(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            missing = "access_key_id" if self.access_key_id is None else "secret_access_key"
            raise _refused(missing, "is missing beside the other half of the access key")
        if self.session_token is not None and self.access_key_id is None:
            raise _refused("session_token", "needs access_key_id and secret_access_key")
        if self.profile is not None and self.access_key_id is not None:
            raise _refused("profile", "and access_key_id cannot both be given")

    def _check_rules(self) -> None:
        """Rows name keys by their ARN and version 1: a rule that is written otherwise would never hold."""
        spelled = {} if self.key is None else {_family(self.key): self.key}
        rules = [("compatible", text) for text in self.compatible] + [
            ("windows", window.key) for window in self.windows
        ]
        for field, text in rules:
            key_id, version = without_version(text)
            name = parse(key_id)
            if not self.go_envelopes and (name is None or not name.is_key_arn or version not in (None, KEY_VERSION)):
                raise _refused(
                    field,
                    f"{text!r} is not the ARN of a key",
                    "Rows name keys by ARN: `go-services secrets status` shows it. KMS keeps versions itself.",
                )
            if spelled.setdefault(_family(key_id), key_id) != key_id:
                raise _refused(
                    field,
                    f"{key_id!r} names the multi-Region key {spelled[_family(key_id)]!r} once more",
                    "Write such a key everywhere with the same Region.",
                )


def _family(text: str) -> str:
    name = parse(text)
    return text if name is None else name.family
