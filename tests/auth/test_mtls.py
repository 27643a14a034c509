"""Client certificates that a person enters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from go_services_core.auth.fields import concealed
from go_services_core.auth.mtls import MtlsFlow
from go_services_core.auth_specs import ApiKey, Mtls
from go_services_core.errors import BadInput, ReauthRequired, SigningError
from go_services_core.http import HttpRequest
from go_services_core.model import Credential, Scope, TokenSet
from go_services_core.protocols import AuthContext, SigningContext, SigningKey
from go_services_core.secret import SecretStr
from go_services_core.signing.mtls import MtlsSigner
from go_services_core.testing.clock import FrozenClock

from .driving import run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2026, 6, 1, tzinfo=UTC)
AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("one@acme.example", not_after=END)
CERTIFICATE = ISSUED.cert_chain_pems[0].bytes().decode()
KEY = ISSUED.private_key_pem.bytes().decode()
FLOW = MtlsFlow()


def context(now: datetime = NOW) -> AuthContext:
    return AuthContext(
        provider_id="acme", auth=Mtls(), settings=None, scope=Scope("org", "o1"), now=now, random=FrozenClock().random
    )


def taken(params: Any, now: datetime = NOW) -> TokenSet:
    tokens, requests = run(FLOW.complete(context(now), concealed(params)))
    assert requests == []
    return tokens


def locked(form: serialization.PrivateFormat) -> str:
    key = serialization.load_pem_private_key(KEY.encode(), None)
    lock = serialization.BestAvailableEncryption(b"right")
    return key.private_bytes(serialization.Encoding.PEM, form, lock).decode()


def test_certificate_and_key_become_a_credential_that_ends_with_the_certificate() -> None:
    chain = CERTIFICATE + AUTHORITY.cert_pem.bytes().decode()
    assert taken({"certificate": chain, "private_key": KEY}) == TokenSet(
        access_token=SecretStr(KEY), token_type="mtls", expires_at=END, extra={"certificate": SecretStr(chain)}
    )


@pytest.mark.parametrize(
    "pasted",
    [
        lambda text: "\n  " + text.strip() + "  \n\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\\n"),
    ],
)
def test_pasted_text_is_read_as_the_file(pasted: Any) -> None:
    plain = taken({"certificate": CERTIFICATE, "private_key": KEY})
    assert taken({"certificate": pasted(CERTIFICATE), "private_key": pasted(KEY)}) == plain


@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_encrypted_key_needs_its_passphrase_and_another_has_none(form: serialization.PrivateFormat) -> None:
    params = {"certificate": CERTIFICATE, "private_key": locked(form)}
    assert taken({**params, "passphrase": "right"}).extra["passphrase"].reveal() == "right"
    for wrong in (params, {**params, "passphrase": ""}, {**params, "private_key": KEY, "passphrase": "right"}):
        with pytest.raises(BadInput) as caught:
            taken(wrong)
        assert caught.value.field == "passphrase"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"certificate": ""}, "certificate"),
        ({"certificate": "hunter2"}, "certificate"),
        ({"certificate": KEY}, "certificate"),
        ({"certificate": CERTIFICATE + KEY}, "certificate"),
        ({"certificate": CERTIFICATE.replace("MII", "AII", 1)}, "certificate"),
        ({"certificate": 1}, "certificate"),
        ({"private_key": ""}, "private_key"),
        ({"private_key": "hunter2"}, "private_key"),
        ({"private_key": CERTIFICATE}, "private_key"),
        ({"private_key": KEY + KEY}, "private_key"),
        ({"private_key": KEY + CERTIFICATE}, "private_key"),
        ({"private_key": KEY.encode()}, "private_key"),
        ({"key": "hunter2"}, "key"),
    ],
)
def test_what_is_no_certificate_or_key_is_refused_by_name(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        taken({"certificate": CERTIFICATE, "private_key": KEY, **changed})
    assert caught.value.field == field
    assert "hunter2" not in str(caught.value)
    assert KEY.splitlines()[1] not in str(caught.value)


def test_certificate_whose_time_is_over_is_refused() -> None:
    with pytest.raises(BadInput, match="ended on 2026-06-01"):
        taken({"certificate": CERTIFICATE, "private_key": KEY}, now=END)


def test_there_is_no_consent_page_nothing_to_renew_and_nothing_to_revoke() -> None:
    credential = Credential(
        connection_id="c", version=1, auth_kind="mtls", tokens=taken({"certificate": CERTIFICATE, "private_key": KEY})
    )
    with pytest.raises(BadInput, match="certificate, private_key"):
        run(FLOW.begin(context()))
    with pytest.raises(ReauthRequired):
        run(FLOW.refresh(context(), credential))
    assert run(FLOW.revoke(context(), credential)) == (False, [])


def test_signer_changes_nothing_but_the_certificate_that_is_presented() -> None:
    tokens = taken(
        {"certificate": CERTIFICATE, "private_key": locked(serialization.PrivateFormat.PKCS8), "passphrase": "right"}
    )
    credential = Credential(connection_id="c", version=1, auth_kind="mtls", tokens=tokens)
    record = Mtls(server_ca=AUTHORITY.cert_pem.bytes().decode())
    request = HttpRequest("GET", "https://api.example/?a=1", (("Accept", "*/*"),))
    key = SigningKey(secret=tokens.access_token, auth=record, credential=credential)
    signed = MtlsSigner().sign(request, key, SigningContext(NOW, FrozenClock().random))
    presented = signed.client_certificate
    assert presented is not None
    assert presented.certificate == CERTIFICATE
    assert presented.private_key == tokens.access_token
    assert presented.passphrase == SecretStr("right")
    assert presented.server_ca == record.server_ca
    assert signed.with_client_certificate(None) == request


@pytest.mark.parametrize("auth", [Mtls(), ApiKey()])
def test_signer_refuses_a_credential_of_another_kind(auth: Any) -> None:
    key = SigningKey(secret=SecretStr("s3cr3t-key"), auth=auth)
    with pytest.raises(SigningError):
        MtlsSigner().sign(HttpRequest("GET", "https://x"), key, SigningContext(NOW, FrozenClock().random))
