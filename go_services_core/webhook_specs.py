"""The records of how a provider's deliveries are verified and read: data only, frozen, comparable.

Paths are dotted (``data.object.id``), a number in one is a position in a list, and alternatives are separated by ``|``.
They lead into the body, JSON or form fields, which is parsed only after it was verified. Records of vendors are in
:mod:`go_services_core.webhooks.vendors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol, runtime_checkable

from attrs import field, frozen

from .tuples import as_tuple


@runtime_checkable
class WebhookSpec(Protocol):
    """Any frozen record with the ``scheme`` that verifies it.

    A class attribute ``keyless``, which is true, says that the scheme has no secrets.
    """

    @property
    def scheme(self) -> str: ...


@frozen(kw_only=True)
class Handshake:
    """How a vendor asks whether the URL is ours, before it delivers to it: it wants its challenge back.

    ``query``: a GET whose parameters hold challenge and token; nothing signs it, so that the token is compared with the
    live secrets that begin with ``token_prefix``. ``body``: a delivery like any other, verified by the scheme, which
    holds the challenge; with ``token`` its token is compared besides.
    """

    where: Literal["query", "body"]
    challenge: str
    """Parameter, or path in the body, of what is sent back: at most 1 KiB."""
    token: str | None = None
    """Parameter, or path in the body, of the verification token."""
    token_prefix: str = "verify_"
    """A live secret with this prefix is a verification token and no key: tokens stand in URLs, and so in access logs.
    Choose the token at the vendor so that it begins with it."""
    when: Mapping[str, str] = field(factory=dict)
    """Parameters or paths, and the values that make the request a handshake: ``{"hub.mode": "subscribe"}``."""
    answer: Literal["text", "json"] = "text"
    """Sent back alone as ``text/plain``, or as a JSON object with the last name of ``challenge``."""


@frozen(kw_only=True)
class DeliveryFields:
    """Where a delivery says what it is. What the record does not name stays empty; the event is then ``unknown``."""

    id_header: str | None = None
    """Header of the delivery's id, the same for each repetition. A delivery without it is rejected."""
    id_field: str | None = None
    """Path of the id in the body, where no header has it."""
    id_bucket: float | None = None
    """Seconds, where deliveries have no id, or not all of them: the id is then made of the SHA-256 of the body (of the
    target, where there is none) and the number of this span of time since 1970, so that equal bodies are one delivery
    within it and not for ever."""
    id_per_channel: bool = False
    """Whether ids are unique in their channel only: the delivery's id is then ``channel:id``."""
    event_header: str | None = None
    event_field: str | None = None
    """Path of the event's name in the body."""
    channel_header: str | None = None
    """Header of the channel, whose subscription brings connection and secret. A delivery without it is rejected."""
    resource_header: str | None = None
    resource_field: str | None = None
    """What the delivery is about: what order and bursts go by."""
    handshake: Handshake | None = None


@frozen(kw_only=True)
class SignedWebhook(DeliveryFields):
    """A delivery whose signature is in a header; the fields state the vendor's variant."""

    signature_header: str
    signature_field: str | None = None
    """Name of the signatures in a header of pairs, ``v1`` of ``t=1,v1=a,v1=b``; None where it lists signatures only."""
    separator: Literal[" ", ",", ";"] = " "
    """Between the signatures or pairs that the header lists."""
    encoding: Literal["hex", "base64", "base64url"] = "hex"
    prefix: str = ""
    """Stands before each signature, e.g. ``sha256=``; one without it is skipped."""
    key: Literal["text", "hex", "base64"] = "text"
    """How the secret's text becomes the key's bytes: UTF-8, or decoded."""
    key_prefix: str = ""
    """Stands before the encoded key, e.g. ``whsec_``; it may be missing."""
    signed: tuple[str, ...] = field(default=("body",), converter=as_tuple)
    """The parts, in the order in which they are signed. ``id``, ``timestamp``, ``body``; ``method``; ``target`` (path
    and query), ``path``; ``url`` (``public_url`` and the target); ``form`` (the form's parameters sorted by name, each
    name followed by its value, nothing between them); ``header:NAME``; ``text:LITERAL``."""
    joiner: str = "."
    public_url: str = ""
    """Scheme and host that the vendor calls, ``https://app.example.com``, and the path that a proxy takes away; for
    ``url``. What a request says of its host is not believed. May have placeholders: ``{webhook_url}``."""
    body_digest_param: str | None = None
    """Parameter of the URL with the hex SHA-256 of a body that is no form; for ``form``."""
    timestamp_header: str | None = None
    """Required when ``signed`` has ``timestamp``, unless ``timestamp_field`` is given."""
    timestamp_field: str | None = None
    """Name of the timestamp in the signature's header, ``t`` of ``t=1,v1=a``."""
    timestamp_unit: Literal["seconds", "milliseconds", "iso8601"] = "seconds"
    tolerance: float = 300.0
    """Seconds that the timestamp may be off, both ways."""


@frozen(kw_only=True)
class HmacWebhook(SignedWebhook):
    """A delivery signed with HMAC (RFC 2104) over parts of it."""

    scheme: ClassVar[str] = "hmac"
    algorithm: Literal["sha256", "sha1", "sha512"] = "sha256"


@frozen(kw_only=True)
class StandardWebhook(HmacWebhook):
    """Standard Webhooks with a shared secret, ``whsec_…`` (signatures ``v1``).

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """

    scheme: ClassVar[str] = "standard"
    signature_header: str = "webhook-signature"
    encoding: Literal["hex", "base64", "base64url"] = "base64"
    prefix: str = "v1,"
    key: Literal["text", "hex", "base64"] = "base64"
    key_prefix: str = "whsec_"
    signed: tuple[str, ...] = field(default=("id", "timestamp", "body"), converter=as_tuple)
    id_header: str | None = "webhook-id"
    timestamp_header: str | None = "webhook-timestamp"
    event_field: str | None = "type"


@frozen(kw_only=True)
class Ed25519Webhook(SignedWebhook):
    """A delivery signed with Ed25519 (RFC 8032) over parts of it; the secrets are the vendor's public keys, 32 bytes.

    The plugin ``auth-jwt`` verifies it.
    """

    scheme: ClassVar[str] = "ed25519"
    key: Literal["text", "hex", "base64"] = "hex"


@frozen(kw_only=True)
class StandardKeyWebhook(Ed25519Webhook):
    """Standard Webhooks with the sender's public key, ``whpk_…`` (signatures ``v1a``).

    The plugin ``auth-jwt`` verifies it.
    """

    scheme: ClassVar[str] = "standard_key"
    signature_header: str = "webhook-signature"
    encoding: Literal["hex", "base64", "base64url"] = "base64"
    prefix: str = "v1a,"
    key: Literal["text", "hex", "base64"] = "base64"
    key_prefix: str = "whpk_"
    signed: tuple[str, ...] = field(default=("id", "timestamp", "body"), converter=as_tuple)
    id_header: str | None = "webhook-id"
    timestamp_header: str | None = "webhook-timestamp"
    event_field: str | None = "type"


@frozen(kw_only=True)
class TokenWebhook(DeliveryFields):
    """A delivery that shows a shared token in a header or a parameter of the URL; nothing protects its body but TLS."""

    scheme: ClassVar[str] = "token"
    header: str | None = None
    param: str | None = None
    """One of both. A parameter stands in access logs: prefer a header where the vendor has a choice."""


@frozen(kw_only=True)
class BearerWebhook(DeliveryFields):
    """A delivery with a shared token as ``Authorization: Bearer …`` (RFC 6750 §2.1)."""

    scheme: ClassVar[str] = "bearer"


@frozen(kw_only=True)
class BasicWebhook(DeliveryFields):
    """A delivery with ``Authorization: Basic …`` (RFC 7617); a secret is ``user:password``."""

    scheme: ClassVar[str] = "basic"


@frozen(kw_only=True)
class OidcWebhook(DeliveryFields):
    """A push with an OpenID Connect token of the sender's service account, as Google Pub/Sub sends it.

    The defaults are Pub/Sub's: https://docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions. There is no
    secret. The plugin ``auth-jwt`` verifies it.
    """

    scheme: ClassVar[str] = "oidc"
    keyless: ClassVar[bool] = True
    audience: str
    """The push subscription's audience, by default its endpoint URL. May have placeholders: ``{webhook_url}``."""
    email: str
    """The service account of the push subscription: any Google account can get a token for any audience."""
    issuers: tuple[str, ...] = field(default=("https://accounts.google.com", "accounts.google.com"), converter=as_tuple)
    jwks_url: str = "https://www.googleapis.com/oauth2/v3/certs"
    algorithms: tuple[str, ...] = field(default=("RS256",), converter=as_tuple)
    leeway: float = 60.0
    """Seconds that the clocks may be apart."""
    data_field: str | None = "message.data"
    """Path of base64 in the body that handlers get in place of it; None gives them the body as it came. Where it holds
    JSON, other paths reach into it as ``data.…``."""
    id_field: str | None = "message.messageId"
    resource_field: str | None = "message.orderingKey"


@frozen(kw_only=True)
class SnsWebhook:
    """A push that Amazon SNS signed with the key of a certificate; subscriptions are confirmed.

    The event is that of ``event_field``, a path into the message where that is JSON; ``sns.notification`` without. Raw
    message delivery is not signed and therefore rejected. There is no secret. The plugin ``auth-jwt`` verifies it.
    Source: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
    """

    scheme: ClassVar[str] = "sns"
    keyless: ClassVar[bool] = True
    topics: tuple[str, ...] = field(converter=as_tuple)
    """ARNs of the topics that may push; everybody can make a topic and have its messages signed."""
    event_field: str | None = None
    resource_field: str | None = None
    versions: tuple[Literal["1", "2"], ...] = field(default=("1", "2"), converter=as_tuple)
    """``SignatureVersion`` 1 is SHA-1, 2 is SHA-256. Set the topic to 2 and allow only that."""
    confirm: bool = True
    """Whether a confirmation of a topic in ``topics`` is answered by fetching its ``SubscribeURL``."""
    tolerance: float = 3900.0
    """Seconds that the timestamp may be off, both ways. Repetitions keep it, and a delivery policy may let them last
    for 3600 seconds (https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html)."""


@frozen(kw_only=True)
class MtlsWebhook(DeliveryFields):
    """A delivery over TLS in which the sender presented a certificate; the server checked where that comes from.

    One of the names, and one of the fingerprints where there are any, must fit. There is no secret. The plugin
    ``auth-jwt`` verifies it.
    """

    scheme: ClassVar[str] = "mtls"
    keyless: ClassVar[bool] = True
    subjects: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Common names of the certificate's subject."""
    dns_names: tuple[str, ...] = field(default=(), converter=as_tuple)
    """DNS names among the certificate's alternative names (RFC 5280 §4.2.1.6), without wildcards."""
    uris: tuple[str, ...] = field(default=(), converter=as_tuple)
    """URIs among them, such as SPIFFE ids."""
    fingerprints: tuple[str, ...] = field(default=(), converter=as_tuple)
    """Hex SHA-256 of the certificate in DER form; colons may stand between the bytes."""
