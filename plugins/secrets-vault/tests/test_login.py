"""Tokens, AppRole and Kubernetes: logging in, renewing, and what happens when a token dies."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from go_services_core.config.secrets import SourcedSecret
from go_services_core.errors import CannotOpen, ConfigError, KeyDenied
from go_services_core.secret import SecretStr
from go_services_core.testing.openbao import OpenBaoServer
from go_services_secrets_vault.login import AGAIN_AFTER

from .conftest import CONTEXT, ShiftedClock, Vault, documented_policy, environment, outage

pytestmark = pytest.mark.integration


def life(vault: Vault, token: SecretStr) -> dict[str, Any]:
    data: dict[str, Any] = vault.server.request("POST", "auth/token/lookup", {"token": token.reveal()})["data"]
    return data


# --- token -------------------------------------------------------------------------------------------------------------


async def test_token_is_renewed_at_two_thirds_of_its_life(vault: Vault) -> None:
    clock = ShiftedClock()
    token = vault.token(ttl="90s")
    backend = vault.open(environment(clock=clock), token=token)
    await backend.check()
    clock.shift = 55.0
    await backend.generate(CONTEXT)
    assert "last_renewal" not in life(vault, token)
    clock.shift = 62.0
    await backend.generate(CONTEXT)
    assert life(vault, token)["last_renewal"]


async def test_short_lives_are_kept_up_though_nothing_is_called(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    """In the background a token is renewed, and a role's that has reached its longest life is replaced by a login.

    A given token that has reached its longest life is announced: nothing can keep it up.
    """
    steady, capped = vault.token(ttl="4s"), vault.token(ttl="6s", explicit_max_ttl="6s")
    role = vault.approle(token_ttl="4s", token_max_ttl="4s")
    backends = [vault.open(token=steady), vault.open(**role), vault.open(token=capped)]
    await asyncio.gather(*(backend.check() for backend in backends))
    (before,) = vault.lives()
    await asyncio.sleep(5)
    await backends[0].generate(CONTEXT)
    assert life(vault, steady)["last_renewal"]
    (after,) = vault.lives()
    assert after["accessor"] != before["accessor"]
    assert len([record for record in caplog.records if "cannot be renewed" in record.getMessage()]) == 1
    await backends[2].generate(CONTEXT)


async def test_token_that_cannot_be_renewed_is_announced(vault: Vault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    token = vault.token(ttl="1h", renewable=False)
    await vault.open(token=token).check()
    (record,) = (record for record in caplog.records if record.name == "test")
    assert "secrets.vault.token ends in" in record.getMessage()
    assert token.reveal() not in record.getMessage()


async def test_token_without_the_default_policy_works(vault: Vault) -> None:
    """It may neither look at itself nor renew itself."""
    await vault.open(token=vault.token(no_default_policy=True)).check()


async def test_dead_token_is_denied_and_not_replaced(vault: Vault) -> None:
    token = vault.token()
    backend = vault.open(token=token)
    await backend.check()
    vault.server.request("POST", "auth/token/revoke", {"token": token.reveal()})
    with pytest.raises(KeyDenied, match="its token has ended"):
        await backend.generate(CONTEXT)
    with pytest.raises(KeyDenied):
        await vault.open(token=SecretStr("never-was-one")).check()


async def test_token_is_read_again_from_its_source_when_it_died(vault: Vault, tmp_path: Path) -> None:
    """An agent that keeps a token in a file replaces it there. What the file holds is not repeated."""
    file = tmp_path / "token"
    source = SourcedSecret("file:token", lambda: SecretStr(file.read_text()), clock=ShiftedClock(), ttl=3600)
    first, second = vault.token(), vault.token()
    file.write_text(first.reveal())
    backend = vault.open(token=source)
    await backend.check()
    file.write_text(second.reveal())
    await backend.check()
    vault.server.request("POST", "auth/token/revoke", {"token": first.reveal()})
    await asyncio.gather(*(backend.check() for _ in range(5)))
    file.write_text("broken by\nsomebody")
    with pytest.raises(ConfigError, match=r"secrets\.vault\.token") as caught:
        await vault.open(token=source).check()
    assert "somebody" not in str(caught.value)


async def test_renewal_that_fails_in_an_outage_keeps_the_token(vault: Vault) -> None:
    clock = ShiftedClock()
    backend = vault.open(environment(clock=clock), **vault.approle(token_ttl="10m"))
    await backend.check()
    (before,) = vault.lives()
    clock.shift = 405.0
    await asyncio.to_thread(vault.server.seal)
    try:
        await outage(backend.generate(CONTEXT), "sealed")
    finally:
        await asyncio.to_thread(vault.server.unseal)
    await backend.generate(CONTEXT)
    clock.shift += 60.0
    await backend.generate(CONTEXT)
    (after,) = vault.lives()
    assert after["accessor"] == before["accessor"]
    assert after["last_renewal"]


# --- AppRole -----------------------------------------------------------------------------------------------------------


async def test_many_callers_wait_for_one_login(vault: Vault) -> None:
    backend = vault.open(**vault.approle(token_ttl="1h"))
    made = await asyncio.gather(*(backend.generate(CONTEXT) for _ in range(30)))
    assert len({key.wrapped for key in made}) == 30
    assert len(vault.lives()) == 1


async def test_revoked_token_leads_to_one_login_for_all_callers(vault: Vault) -> None:
    backend = vault.open(**vault.approle(token_ttl="1h"))
    await backend.check()
    (before,) = vault.lives()
    vault.revoke_logins()
    await asyncio.gather(*(backend.generate(CONTEXT) for _ in range(30)))
    (after,) = vault.lives()
    assert after["accessor"] != before["accessor"]


async def test_forbidden_request_causes_no_logins(vault: Vault) -> None:
    """The token lives, so that its policy is the reason: P52 wants it told loudly, not tried again."""
    backend = vault.open(**vault.approle(token_ttl="1h"))
    await backend.check()
    (before,) = vault.lives()
    for _ in range(5):
        with pytest.raises(KeyDenied, match="rotate"):
            await backend.rotate()
    (after,) = vault.lives()
    assert after["accessor"] == before["accessor"]


async def test_forbidden_request_of_a_token_that_may_not_look_at_itself_causes_few_logins(vault: Vault) -> None:
    clock = ShiftedClock()
    backend = vault.open(environment(clock=clock), **vault.approle(token_ttl="1h", token_no_default_policy=True))
    await backend.check()
    for _ in range(5):
        with pytest.raises(KeyDenied):
            await backend.rotate()
    assert len(vault.lives()) == 2
    clock.shift = AGAIN_AFTER + 1
    with pytest.raises(KeyDenied):
        await backend.rotate()
    assert len(vault.lives()) == 3


async def test_role_token_is_renewed_at_two_thirds_of_its_life(vault: Vault) -> None:
    clock = ShiftedClock()
    backend = vault.open(environment(clock=clock), **vault.approle(token_ttl="60s", token_max_ttl="1h"))
    await backend.check()
    clock.shift = 41.0
    await backend.generate(CONTEXT)
    (renewed,) = vault.lives()
    assert renewed["last_renewal"]


@pytest.mark.parametrize("options", [{"token_type": "batch"}, {"token_no_default_policy": True}])
async def test_role_token_that_cannot_renew_itself_is_replaced_in_time(vault: Vault, options: dict[str, Any]) -> None:
    clock = ShiftedClock()
    backend = vault.open(environment(clock=clock), **vault.approle(token_ttl="60s", **options))
    await backend.check()
    before = backend._session._login._token
    clock.shift = 35.0
    await backend.generate(CONTEXT)
    assert backend._session._login._token is before
    clock.shift = 41.0
    await backend.generate(CONTEXT)
    after = backend._session._login._token
    assert before is not None
    assert after is not None
    assert after.value != before.value


async def test_token_that_ended_in_silence_is_replaced(vault: Vault) -> None:
    clock = ShiftedClock()
    backend = vault.open(environment(clock=clock), **vault.approle(token_ttl="60s"))
    await backend.check()
    vault.revoke_logins()
    clock.shift = 61.0
    await backend.generate(CONTEXT)
    assert len(vault.lives()) == 1


async def test_refused_login_is_denied_names_the_settings_and_answers_everybody(vault: Vault) -> None:
    wrong = {**vault.approle(), "secret_id": SecretStr("8a9c-wrong")}
    backend = vault.open(**wrong)
    for _ in range(2):
        with pytest.raises(KeyDenied, match="role_id and secret_id") as caught:
            await asyncio.gather(*(backend.generate(CONTEXT) for _ in range(8)))
        assert caught.value.field == "secrets.vault.auth"
        assert "8a9c-wrong" not in str(caught.value)
    with pytest.raises(KeyDenied, match="auth_mount"):
        await vault.open(**vault.approle(), auth_mount="nowhere").check()


# --- Kubernetes --------------------------------------------------------------------------------------------------------


class TokenReview:
    """The one endpoint of a Kubernetes API server that OpenBao asks: which account a token is of."""

    def __init__(self) -> None:
        self.good: set[str] = set()
        self.asked: list[str] = []
        review = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                token = body["spec"]["token"]
                review.asked.append(token)
                user = {"username": "system:serviceaccount:app:web", "uid": "u1", "groups": []}
                status = {"authenticated": True, "user": user} if token in review.good else {"error": "no"}
                out = json.dumps(
                    {"kind": "TokenReview", "apiVersion": body.get("apiVersion"), "status": status}
                ).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def account_token(self, number: int) -> str:
        now = int(time.time())
        claims = {
            "iss": "kubernetes/serviceaccount",
            "sub": "system:serviceaccount:app:web",
            "jti": str(number),
            "iat": now - 10,
            "nbf": now - 10,
            "exp": now + 3600,
            "kubernetes.io/serviceaccount/namespace": "app",
            "kubernetes.io/serviceaccount/service-account.name": "web",
            "kubernetes.io/serviceaccount/service-account.uid": "u1",
        }
        parts = [json.dumps({"alg": "RS256", "typ": "JWT"}).encode(), json.dumps(claims).encode(), bytes(256)]
        made = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
        self.good.add(made)
        return made


@pytest.fixture
def review(server: OpenBaoServer) -> Iterator[TokenReview]:
    made = TokenReview()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    server.request("POST", "sys/auth/pods", {"type": "kubernetes"})
    config = {
        "kubernetes_host": f"http://127.0.0.1:{made.server.server_port}",
        "kubernetes_ca_cert": trustme.CA().cert_pem.bytes().decode(),
        "token_reviewer_jwt": made.account_token(0),
        "disable_local_ca_jwt": True,
    }
    server.request("POST", "auth/pods/config", config)
    yield made
    server.request("DELETE", "sys/auth/pods")
    made.server.shutdown()
    thread.join()
    made.server.server_close()


async def test_kubernetes_login_reads_the_account_token_anew_each_time(
    vault: Vault, review: TokenReview, tmp_path: Path
) -> None:
    """Kubernetes replaces the file's content long before the token in it ends."""
    file = tmp_path / "token"
    vault.server.request("PUT", f"sys/policies/acl/{vault.key}", {"policy": documented_policy(vault.key)})
    role = {"bound_service_account_names": "web", "bound_service_account_namespaces": "app", "token_ttl": "1h"}
    vault.server.request("POST", f"auth/pods/role/{vault.key}", {**role, "token_policies": [vault.key]})
    env = environment(resolve=lambda text: SecretStr(Path(text.removeprefix("file:")).read_text()))
    account = {"auth": "kubernetes", "role": vault.key, "auth_mount": "pods", "jwt": f"file:{file}"}
    first, second = review.account_token(1), review.account_token(2)
    file.write_text(first)
    backend = vault.open(env, **account)
    await backend.check()
    assert review.asked == [first]
    file.write_text(second)
    review.good.discard(first)
    vault.revoke_logins()
    await backend.generate(CONTEXT)
    assert review.asked == [first, second]
    file.write_text(first)
    with pytest.raises(KeyDenied, match="role and the service account"):
        await vault.open(env, **account).check()


async def test_account_token_that_cannot_be_read_names_the_setting(vault: Vault) -> None:
    def missing(text: str) -> SecretStr:
        raise ConfigError(f"{text} cannot be read.")

    backend = vault.open(environment(resolve=missing), auth="kubernetes", role="web")
    with pytest.raises(ConfigError, match=r"secrets\.vault\.jwt: file:/var/run/secrets/kubernetes\.io") as caught:
        await backend.check()
    assert caught.value.field == "secrets.vault.jwt"


# --- namespaces --------------------------------------------------------------------------------------------------------


async def test_namespace_holds_key_and_login(vault: Vault) -> None:
    server, name = vault.server, f"team-{vault.key}"
    server.request("POST", f"sys/namespaces/{name}", {})
    server.enable("transit", "transit", namespace=name)
    server.request("POST", f"transit/keys/{vault.key}", {"derived": True}, namespace=name)
    server.request("POST", "sys/auth/approle", {"type": "approle"}, namespace=name)
    server.request("PUT", "sys/policies/acl/app", {"policy": documented_policy(vault.key)}, namespace=name)
    server.request("POST", "auth/approle/role/app", {"token_policies": ["app"]}, namespace=name)
    role_id = server.request("GET", "auth/approle/role/app/role-id", namespace=name)["data"]["role_id"]
    secret_id = server.request("POST", "auth/approle/role/app/secret-id", {}, namespace=name)["data"]["secret_id"]
    inside = {"auth": "approle", "role_id": role_id, "secret_id": SecretStr(secret_id)}
    backend = vault.open(**inside, namespace=name)
    made = await backend.generate(CONTEXT)
    assert await backend.unwrap(made.wrapped, made.key, CONTEXT) == made.plaintext
    with pytest.raises(KeyDenied):
        await vault.open(**inside).check()
    with pytest.raises(CannotOpen):
        await vault.open().unwrap(made.wrapped, made.key, CONTEXT)
