"""What AWS answers or does not, as typed errors.

Sources: the "Errors" of each operation and "Common Errors" in the API References of AWS KMS and AWS Secrets Manager;
"Key states of AWS KMS keys" in the KMS Developer Guide. AWS's own message is not repeated, since it may quote what was
sent; the error code, the action that was denied and the request id go to ``metadata``.
"""

from __future__ import annotations

import re
from typing import Any, Final

from go_services_core.errors import (
    BackendUnavailable,
    CannotOpen,
    ConfigError,
    Conflict,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SecretError,
    ServicesError,
)

PLUGIN: Final = "secrets-kms"
_THROTTLED: Final = frozenset(
    {
        "LimitExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
_DENIED: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidGrantTokenException",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_UNKNOWN_KEY: Final = frozenset({"InvalidArnException", "InvalidKeyId", "NotFoundException"})
_UNUSABLE: Final = frozenset({"InvalidKeyUsageException", "UnsupportedOperationException"})
_DAMAGED: Final = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})
_STATES: Final = {
    "pendingreplicadeletion": "pending-deletion",
    "pendingdeletion": "pending-deletion",
    "pendingimport": "pending-import",
    "disabled": "disabled",
}
"""A KMSInvalidStateException's message names the state of the key, in words; the others pass by themselves."""
_PASSING: Final = ("unavailable", "creating", "updating", "keystore")
_OPENING: Final = frozenset({"Decrypt", "ReEncrypt"})
"""A denial of these that names no action speaks of the key inside the ciphertext ("The ciphertext refers to a customer
master key that does not exist …"), which is not the one that the request names: the ciphertext was changed."""
_ACTION: Final = re.compile(r"\b(?:kms|secretsmanager|sts):[A-Za-z]{3,60}\b")
_CODE: Final = re.compile(r"[A-Za-z0-9_.]{1,80}")


def refused(
    *, operation: str, subject: str, region: str, code: str, status: int, message: str, request_id: str | None
) -> ServicesError:
    """The error for AWS's error answer.

    Args:
        operation: name of the API's operation, such as ``Decrypt``.
        subject: the key or the secret, for the message.
        region: the Region that answered.
        code: AWS's error code.
        status: HTTP status of the answer.
        message: AWS's message, which is only looked at.
        request_id: AWS's id of the request.
    """
    code = code if _CODE.fullmatch(code) else "unreadable"
    metadata: dict[str, Any] = {
        "operation": operation,
        "region": region,
        "aws_code": code,
        "aws_request_id": request_id,
    }
    said = f"AWS answered {operation} with {code}"
    if operation == "RotateKeyOnDemand" and code in ("LimitExceededException", "ConflictException"):
        return Conflict(
            f"The key {subject} cannot be rotated now: {said}.",
            hint="A rotation is running, or the number of on-demand rotations of this key is used up.",
            plugin=PLUGIN,
            metadata=metadata,
        )
    action = _ACTION.search(message)
    if code in _DAMAGED or (code == "AccessDeniedException" and operation in _OPENING and action is None):
        return CannotOpen(plugin=PLUGIN, metadata=metadata)
    if code == "DisabledException":
        return _disabled(subject, "disabled", metadata)
    if code == "KMSInvalidStateException":
        return _invalid_state(subject, said, message, metadata)
    if code in _THROTTLED or status == 429:
        return unavailable(f"{said} too often.", "throttled", metadata)
    if status >= 500 or status == 408:
        return unavailable(f"{said}.", "failing", metadata)
    if code in _DENIED:
        if action is not None:
            metadata["action"] = action[0]
        return KeyDenied(
            f"AWS does not allow {action[0] if action else operation} with {subject}: {code}.",
            hint="Check the credentials, and the IAM and key policies against the list in the documentation.",
            plugin=PLUGIN,
            metadata=metadata,
        )
    if code in _UNKNOWN_KEY:
        return KeyNotFound(
            f"There is no key {subject} in {region}: {said}.",
            hint="Check secrets.kms.key, secrets.kms.region and the account of the credentials.",
            plugin=PLUGIN,
            metadata=metadata,
        )
    if code in _UNUSABLE:
        return KeyInvalid(
            f"The key {subject} is not one for this: {said}.",
            hint="It takes a symmetric encryption key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT).",
            plugin=PLUGIN,
            metadata=metadata,
        )
    return SecretError(f"{said} for {subject}.", plugin=PLUGIN, metadata=metadata)


def unavailable(message: str, reason: str, metadata: dict[str, Any]) -> BackendUnavailable:
    """AWS does not answer, or not as it should; ``reason`` goes to the metadata and tells why, in one word."""
    return BackendUnavailable(
        message,
        hint="It is tried again with the next use.",
        plugin=PLUGIN,
        metadata={**metadata, "reason": reason},
    )


def misconfigured(kind: str) -> ConfigError:
    """boto3 cannot begin: no Region, no such profile, a configuration file that cannot be read."""
    return ConfigError(
        f"boto3 cannot be set up: {kind}.",
        hint="Set secrets.kms.region, and check secrets.kms.profile and the AWS configuration files.",
        plugin=PLUGIN,
        field="secrets.kms.region" if kind == "NoRegionError" else "secrets.kms",
    )


def no_credentials(kind: str) -> KeyDenied:
    """There are no credentials for AWS, or they are over."""
    return KeyDenied(
        f"There are no usable credentials for AWS: {kind}.",
        hint="Set secrets.kms.access_key_id and secret_access_key, or give the process a role or a profile.",
        plugin=PLUGIN,
        metadata={"reason": "credentials"},
    )


def _disabled(subject: str, state: str, metadata: dict[str, Any]) -> KeyDisabled:
    remedy = {
        "disabled": "Enable it in AWS.",
        "pending-deletion": "Cancel its deletion in AWS, and enable it.",
        "pending-import": "Import its key material in AWS.",
    }
    return KeyDisabled(
        f"The key {subject} is {state.replace('-', ' ')} in AWS.",
        hint=remedy.get(state, "Look at the key's state in AWS."),
        plugin=PLUGIN,
        metadata={**metadata, "state": state},
    )


def _invalid_state(subject: str, said: str, message: str, metadata: dict[str, Any]) -> ServicesError:
    words = re.sub(r"[^a-z]", "", message.lower())
    for words_of_state, state in _STATES.items():
        if words_of_state in words:
            return _disabled(subject, state, metadata)
    if any(word in words for word in _PASSING):
        return unavailable(f"The key {subject} cannot be used at the moment: {said}.", "key-unavailable", metadata)
    return _disabled(subject, "unusable", metadata)
