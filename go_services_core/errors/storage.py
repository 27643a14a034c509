"""What can go wrong with secrets, the store, and webhooks."""

from __future__ import annotations

from .root import ServicesError


class SecretError(ServicesError):
    """A secret cannot be handled."""


class BackendUnavailable(SecretError):
    """The secret backend does not answer."""

    category = "external"
    status = 503
    code = "SERVICE_EXTERNAL_FAILURE"
    retryable = True


class CannotOpen(SecretError):
    """The ciphertext does not open: wrong key, moved to another record, or changed."""


class KeyNotFound(SecretError):
    """The key that the ciphertext names is not here."""

    status = 503
    retryable = True
    """A key that was just made primary elsewhere may be on its way to this process."""


class KeyInvalid(SecretError):
    """The key material cannot be used."""


class KeyDisabled(SecretError):
    """The key is disabled, about to be deleted, retired, or outside its window."""


class KeyDenied(SecretError):
    """The secret backend does not allow this process to use the key."""

    category = "authorization"
    status = 403
    code = "SERVICE_FORBIDDEN"


class StoreError(ServicesError):
    """The store failed."""


class StoreUnavailable(StoreError):
    """The database cannot be opened or does not answer."""

    status = 503
    retryable = True


class SchemaOutOfDate(StoreError):
    """The database needs migrations: run `go-services store migrate`."""


class SchemaTooNew(StoreError):
    """The database was migrated by a newer release; this one refuses to touch it."""


class CommitUnknown(StoreError):
    """The connection was lost while committing; whether the change is there is not known."""


class FacetMissing(StoreError):
    """The configured store does not have the facet that this feature needs."""


class WebhookRejected(ServicesError):
    """The delivery's signature, time or shape is not acceptable."""

    category = "authentication"
    status = 401
    code = "SERVICE_UNAUTHORIZED"


class WebhookTooLarge(WebhookRejected):
    """The delivery's body is larger than a provider ever sends; nothing of it was verified."""

    category = "validation"
    status = 413
    code = "SERVICE_BAD_INPUT"
