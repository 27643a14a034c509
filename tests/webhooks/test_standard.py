"""Standard Webhooks, against the official library and the specification's example."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from go_services_core.errors import BadInput, KeyInvalid
from go_services_core.protocols import Rejected
from go_services_core.secret import SecretStr
from go_services_core.webhook_specs import StandardWebhook
from go_services_core.webhooks.hmac import HmacVerifier
from go_services_core.webhooks.standard import new_secret, sign

from .driving import NOW, rejection, verdict, verified
from .senders import post

CHECK = HmacVerifier(StandardWebhook())
KEYS = st.binary(min_size=24, max_size=64).map(lambda key: SecretStr("whsec_" + b64encode(key).decode()))
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(secret=KEYS, text=TEXT)
def test_the_official_library_verifies_what_is_signed_here(secret: SecretStr, text: str) -> None:
    now = datetime.now(UTC)
    body = json.dumps({"t": text}).encode()
    headers = dict(sign(body, id="msg_1", timestamp=now, secrets=[secret]))
    assert Webhook(secret.reveal()).verify(body, headers) == {"t": text}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret.reveal()).verify(body + b" ", headers)


@given(secret=KEYS, text=TEXT)
def test_what_the_official_library_signs_is_verified_here(secret: SecretStr, text: str) -> None:
    signature = Webhook(secret.reveal()).sign("msg_1", NOW, text)
    headers = (
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", str(int(NOW.timestamp()))),
        ("webhook-signature", signature),
    )
    assert verified(CHECK, post(text.encode(), *headers), [secret]).delivery_id == "msg_1"
    assert isinstance(verdict(CHECK, post(text.encode() + b" ", *headers), [secret]), Rejected)


def test_the_specifications_example_is_signed_and_verified() -> None:
    """github.com/standard-webhooks/standard-webhooks, the example of its reference libraries."""
    secret, now = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), datetime.fromtimestamp(1614265330, UTC)
    body = b'{"test": 2432232314}'
    headers = sign(body, id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=now, secrets=[secret])
    assert headers == (
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    )
    assert verified(CHECK, post(body, *headers), [secret], now).timestamp == now


def test_during_a_rotation_both_secrets_sign_and_either_verifies() -> None:
    new, old = new_secret(os.urandom), new_secret(os.urandom)
    request = post(b"{}", *sign(b"{}", id="msg_1", timestamp=NOW, secrets=[new, old]))
    for live in ([new], [old], [new, old]):
        assert verified(CHECK, request, live)
    assert rejection(CHECK, request, [new_secret(os.urandom)]) == "no signature matches"


def test_an_id_with_a_full_stop_is_neither_signed_nor_verified() -> None:  # P65
    secret = new_secret(os.urandom)
    with pytest.raises(BadInput) as refused:
        sign(b"{}", id="msg.1", timestamp=NOW, secrets=[secret])
    assert refused.value.field == "id"
    request = post(b"{}", *sign(b"{}", id="msg_1", timestamp=NOW, secrets=[secret]))
    headers = tuple((name, "msg.1" if name == "webhook-id" else value) for name, value in request.headers)
    assert "joiner" in rejection(CHECK, post(b"{}", *headers), [secret])


@pytest.mark.parametrize("id", ["", "a b", "a\nb", "ä", "x" * 256])
def test_an_id_that_no_header_holds_is_refused(id: str) -> None:
    with pytest.raises(BadInput):
        sign(b"", id=id, timestamp=NOW, secrets=[new_secret(os.urandom)])


@pytest.mark.parametrize("text", ["plain-secret-0123456789", "whsec_", "whsec_!!!", "whsec_" + "QUJD", "whsk_QUJD"])
def test_a_secret_that_is_none_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(KeyInvalid) as refused:
        sign(b"", id="msg_1", timestamp=NOW, secrets=[SecretStr(text)])
    assert refused.value.field == "secrets"
    assert text not in str(refused.value) or text == "whsec_"


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(BadInput) as refused:
        sign(b"", id="msg_1", timestamp=NOW, secrets=[])
    assert refused.value.field == "secrets"


def test_new_secrets_are_of_192_bits_or_more_and_differ() -> None:
    made = {new_secret(os.urandom).reveal() for _ in range(20)}
    assert len(made) == 20
    assert all(text.startswith("whsec_") and len(text) == 6 + 44 for text in made)


def test_what_was_signed_five_minutes_ago_is_verified_and_not_later() -> None:  # P63
    secret = new_secret(os.urandom)
    request = post(b"{}", *sign(b"{}", id="msg_1", timestamp=NOW, secrets=[secret]))
    assert verified(CHECK, request, [secret], NOW + timedelta(seconds=300))
    assert "tolerance" in rejection(CHECK, request, [secret], NOW + timedelta(seconds=301))
    assert "tolerance" in rejection(CHECK, request, [secret], NOW - timedelta(seconds=301))
