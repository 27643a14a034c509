"""Every error of go_services, as one tree.

::

    ServicesError
    ├── BadInput
    │   ├── InvalidScope · UnknownParameter · DuplicateParameter · ReturnToRefused
    │   ├── RecordingInvalid · RequestRefused
    │   └── BundleInvalid    (BundleKeyWrong, BundleTruncated, BundleReordered, BundleChanged)
    ├── NotFound
    │   ├── ProviderNotFound · ConnectionNotFound (ConnectionAmbiguous) · OperationNotFound
    │   ├── PluginNotFound
    │   └── SyncJobNotFound · MetadataNotFound · ProfileNotFound
    ├── Conflict
    │   ├── VersionConflict · LeaseLost · InvalidTransition · ReplayDetected
    │   ├── RefreshLocked · SyncCursorConflict
    │   ├── IdempotencyMismatch · OperationRunning · ResultNotKept
    │   ├── RequestRunning
    │   └── HookRefused · EventsMissed
    ├── CapabilityUnsupported
    ├── PermissionDenied
    ├── AuthError
    │   ├── StateInvalid      (StateUnknown, StateUsed, StateExpired, BindingMismatch, IssuerMismatch,
    │   │                     RedirectMismatch, ProviderChanged)
    │   ├── CallbackRefused · AuthorizationPending
    │   ├── TokenEndpointError (TokenResponseInvalid, InvalidGrant, PushedRequestRefused, RegistrationRefused)
    │   ├── MetadataInvalid · ReauthRequired (ReconsentRequired) · AccountMismatch · RefreshBackingOff
    │   ├── RefreshUnknown · JwtInvalid (JwtKeyUnknown)
    │   └── EmbeddedAuthUnsupported · EmbeddedSessionInvalid · EmbeddedExchangeFailed
    ├── ConfigError
    ├── PluginError           (PluginConflict, PluginBroken, PluginIncompatible)
    ├── SigningError
    ├── TransportError        (ConnectFailed, RequestTimeout, OutcomeUnknown, CircuitOpen, EgressDenied, BodyTooLarge,
    │                         ResponseInvalid, NotRecorded)
    ├── ProviderError
    │   ├── ProviderUnauthorized · ProviderForbidden · ProviderNotFoundAnswer
    │   └── RateLimited (BudgetExhausted) · ProviderUnavailable · RedirectRefused · JobFailed
    ├── SecretError           (BackendUnavailable, CannotOpen, KeyNotFound, KeyInvalid, KeyDisabled, KeyDenied)
    ├── StoreError            (StoreUnavailable, SchemaOutOfDate, SchemaTooNew, CommitUnknown, FacetMissing)
    ├── NotificationFailed
    ├── HandlerFailed         (Unrecoverable, RetryLater, HandlerTimeout, HandlerCrashed, RequestExhausted)
    └── WebhookRejected       (WebhookTooLarge)

A class carries its ``category``, its HTTP ``status`` and its stable text ``code``. The class docstring is the
message when none is given. ``hint`` is the remedy; ``plugin`` and ``field`` say whose it is. No error holds a secret.
"""

from __future__ import annotations

from .auth import (
    AccountMismatch,
    AuthError,
    AuthorizationPending,
    BindingMismatch,
    CallbackRefused,
    EmbeddedAuthUnsupported,
    EmbeddedExchangeFailed,
    EmbeddedSessionInvalid,
    InvalidGrant,
    IssuerMismatch,
    JwtInvalid,
    JwtKeyUnknown,
    MetadataInvalid,
    ProviderChanged,
    PushedRequestRefused,
    ReauthRequired,
    ReconsentRequired,
    RedirectMismatch,
    RefreshBackingOff,
    RefreshUnknown,
    RegistrationRefused,
    StateExpired,
    StateInvalid,
    StateUnknown,
    StateUsed,
    TokenEndpointError,
    TokenResponseInvalid,
)
from .callers import (
    BadInput,
    BundleChanged,
    BundleInvalid,
    BundleKeyWrong,
    BundleReordered,
    BundleTruncated,
    CapabilityUnsupported,
    Conflict,
    ConnectionAmbiguous,
    ConnectionNotFound,
    DuplicateParameter,
    EventsMissed,
    HookRefused,
    IdempotencyMismatch,
    InvalidScope,
    InvalidTransition,
    LeaseLost,
    MetadataNotFound,
    NotFound,
    OperationNotFound,
    OperationRunning,
    PermissionDenied,
    PluginNotFound,
    ProfileNotFound,
    ProviderNotFound,
    RefreshLocked,
    ReplayDetected,
    RequestRefused,
    RequestRunning,
    ResultNotKept,
    ReturnToRefused,
    SyncCursorConflict,
    SyncJobNotFound,
    UnknownParameter,
    VersionConflict,
)
from .calls import (
    BodyTooLarge,
    BudgetExhausted,
    CircuitOpen,
    ConnectFailed,
    EgressDenied,
    JobFailed,
    NotificationFailed,
    OutcomeUnknown,
    ProviderError,
    ProviderForbidden,
    ProviderNotFoundAnswer,
    ProviderUnauthorized,
    ProviderUnavailable,
    RateLimited,
    RedirectRefused,
    RequestTimeout,
    ResponseInvalid,
    SigningError,
    TransportError,
)
from .handlers import HandlerCrashed, HandlerFailed, HandlerTimeout, RequestExhausted, RetryLater, Unrecoverable
from .plugins import ConfigError, PluginBroken, PluginConflict, PluginError, PluginIncompatible
from .recordings import NotRecorded, RecordingInvalid
from .root import ServicesError, failure_code, failure_text, nearest
from .storage import (
    BackendUnavailable,
    CannotOpen,
    CommitUnknown,
    FacetMissing,
    KeyDenied,
    KeyDisabled,
    KeyInvalid,
    KeyNotFound,
    SchemaOutOfDate,
    SchemaTooNew,
    SecretError,
    StoreError,
    StoreUnavailable,
    WebhookRejected,
    WebhookTooLarge,
)

__all__ = [
    "AccountMismatch",
    "AuthError",
    "AuthorizationPending",
    "BackendUnavailable",
    "BadInput",
    "BindingMismatch",
    "BodyTooLarge",
    "BudgetExhausted",
    "BundleChanged",
    "BundleInvalid",
    "BundleKeyWrong",
    "BundleReordered",
    "BundleTruncated",
    "CallbackRefused",
    "CannotOpen",
    "CapabilityUnsupported",
    "CircuitOpen",
    "CommitUnknown",
    "ConfigError",
    "Conflict",
    "ConnectFailed",
    "ConnectionAmbiguous",
    "ConnectionNotFound",
    "DuplicateParameter",
    "EgressDenied",
    "EmbeddedAuthUnsupported",
    "EmbeddedExchangeFailed",
    "EmbeddedSessionInvalid",
    "EventsMissed",
    "FacetMissing",
    "HandlerCrashed",
    "HandlerFailed",
    "HandlerTimeout",
    "HookRefused",
    "IdempotencyMismatch",
    "InvalidGrant",
    "InvalidScope",
    "InvalidTransition",
    "IssuerMismatch",
    "JobFailed",
    "JwtInvalid",
    "JwtKeyUnknown",
    "KeyDenied",
    "KeyDisabled",
    "KeyInvalid",
    "KeyNotFound",
    "LeaseLost",
    "MetadataInvalid",
    "MetadataNotFound",
    "NotFound",
    "NotRecorded",
    "NotificationFailed",
    "OperationNotFound",
    "OperationRunning",
    "OutcomeUnknown",
    "PermissionDenied",
    "PluginBroken",
    "PluginConflict",
    "PluginError",
    "PluginIncompatible",
    "PluginNotFound",
    "ProfileNotFound",
    "ProviderChanged",
    "ProviderError",
    "ProviderForbidden",
    "ProviderNotFound",
    "ProviderNotFoundAnswer",
    "ProviderUnauthorized",
    "ProviderUnavailable",
    "PushedRequestRefused",
    "RateLimited",
    "ReauthRequired",
    "ReconsentRequired",
    "RecordingInvalid",
    "RedirectMismatch",
    "RedirectRefused",
    "RefreshBackingOff",
    "RefreshLocked",
    "RefreshUnknown",
    "RegistrationRefused",
    "ReplayDetected",
    "RequestExhausted",
    "RequestRefused",
    "RequestRunning",
    "RequestTimeout",
    "ResponseInvalid",
    "ResultNotKept",
    "RetryLater",
    "ReturnToRefused",
    "SchemaOutOfDate",
    "SchemaTooNew",
    "SecretError",
    "ServicesError",
    "SigningError",
    "StateExpired",
    "StateInvalid",
    "StateUnknown",
    "StateUsed",
    "StoreError",
    "StoreUnavailable",
    "SyncCursorConflict",
    "SyncJobNotFound",
    "TokenEndpointError",
    "TokenResponseInvalid",
    "TransportError",
    "UnknownParameter",
    "Unrecoverable",
    "VersionConflict",
    "WebhookRejected",
    "WebhookTooLarge",
    "failure_code",
    "failure_text",
    "nearest",
]
