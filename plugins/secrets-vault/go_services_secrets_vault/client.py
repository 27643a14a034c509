"""One hvac client: the calls that this plugin makes, and what the network may do to them. The only user of hvac.

Clients are not shared between threads at the same time: requests does not promise that a session may be.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import requests
from hvac.adapters import JSONAdapter
from hvac.api.auth_methods import AppRole, Kubernetes, Token
from hvac.api.secrets_engines import KvV2, Transit

from go_services_core.errors import ServicesError
from go_services_core.secret import SecretBytes, SecretStr

from .failures import Refused, outage, unavailable
from .settings import VaultSettings

T = TypeVar("T")


class _Adapter(JSONAdapter):  # type: ignore[misc]  # hvac has no types
    """Keeps the time limit of the call, and raises this plugin's errors in place of hvac's and requests'."""

    deadline = 0.0

    def request(self, method: str, url: str, **kwargs: Any) -> Any:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise unavailable("timeout")
        try:
            answer = super().request(method, url, **{**kwargs, "raise_exception": False, "timeout": left})
        except requests.Timeout:
            raise unavailable("timeout") from None
        except requests.exceptions.SSLError:
            raise unavailable("tls") from None
        except requests.RequestException:
            raise unavailable("connection") from None
        except OSError:  # a certificate file that cannot be read
            raise unavailable("tls") from None
        if isinstance(answer, Mapping):
            return answer
        if answer.status_code < 300:
            if answer.content:
                raise unavailable("answer")
            return {}
        capability = "read" if method == "get" else "update"
        refused = Refused(answer.status_code, _errors(answer), needs=f'"{capability}" on {url.removeprefix("/v1/")}')
        raise outage(refused) or refused


class Client:
    """A connection to the server, for one call at a time."""

    def __init__(self, settings: VaultSettings) -> None:
        # Neither proxies, .netrc nor CA bundles of the environment: the server is what the settings say.
        session = requests.Session()
        session.trust_env = False
        session.verify = True if settings.ca_file is None else str(settings.ca_file)
        if settings.client_cert is not None:
            certificate = str(settings.client_cert)
            session.cert = certificate if settings.client_key is None else (certificate, str(settings.client_key))
        self._adapter = _Adapter(
            base_uri=settings.address,
            session=session,
            namespace=settings.namespace,
            allow_redirects=False,  # requests would send the token on to any host
        )
        self._transit = Transit(self._adapter)
        self._kv = KvV2(self._adapter)

    def call(self, do: Callable[[Client], T], *, token: SecretStr | None, deadline: float) -> T:
        """``do``, with this token, until that monotonic time.

        Raises:
            Refused: the server's error.
            BackendUnavailable: there is no answer that can be used.
        """
        self._adapter.token = None if token is None else token.reveal()
        self._adapter.deadline = deadline
        failure: Exception
        try:
            return do(self)
        except (Refused, ServicesError) as error:
            failure = error.with_traceback(None)
        except (KeyError, TypeError, ValueError):
            failure = unavailable("answer")
        finally:
            self._adapter.token = None
        failure.__context__ = None  # it and the frames below hold tokens and data keys
        raise failure

    def close(self) -> None:
        """Close its connections."""
        self._adapter.close()

    # --- transit ---------------------------------------------------------------------------------------------------

    def data_key(self, mount: str, key: str, context: bytes) -> tuple[SecretBytes, str]:
        """A fresh data key of 256 bits: in clear, and as a transit ciphertext."""
        made = self._transit.generate_data_key(key, "plaintext", context=_base64(context), bits=256, mount_point=mount)[
            "data"
        ]
        return _plain(made), str(made["ciphertext"])

    def encrypt(self, mount: str, key: str, plaintext: SecretBytes, context: bytes) -> str:
        """A transit ciphertext."""
        answer = self._transit.encrypt_data(
            key, plaintext=_base64(plaintext.reveal()), context=_base64(context), mount_point=mount
        )
        return str(answer["data"]["ciphertext"])

    def decrypt(self, mount: str, key: str, ciphertext: str, context: bytes | None) -> SecretBytes:
        """The plaintext of a transit ciphertext; a key that is not derived has no context."""
        bound = None if context is None else _base64(context)
        return _plain(self._transit.decrypt_data(key, ciphertext=ciphertext, context=bound, mount_point=mount)["data"])

    def rewrap(self, mount: str, key: str, batch: Sequence[tuple[str, bytes]]) -> list[tuple[str, str]]:
        """Ciphertext and context of each → its ciphertext under the newest version, or an empty text and the error."""
        items = [{"ciphertext": ciphertext, "context": _base64(context)} for ciphertext, context in batch]
        answer = self._transit.rewrap_data(key, ciphertext="", batch_input=items, mount_point=mount)
        results = answer["data"]["batch_results"]
        if len(results) != len(items):
            raise unavailable("answer")
        return [(str(result.get("ciphertext") or ""), str(result.get("error") or "")) for result in results]

    def read_key(self, mount: str, key: str) -> Mapping[str, Any]:
        """What the engine tells of a key."""
        data: Mapping[str, Any] = self._transit.read_key(key, mount_point=mount)["data"]
        return data

    def rotate_key(self, mount: str, key: str) -> None:
        """Make a new version of a key."""
        self._transit.rotate_key(key, mount_point=mount)

    def set_least_encrypting(self, mount: str, key: str, version: int) -> None:
        """Set the lowest version that may wrap."""
        self._transit.update_key_configuration(key, min_encryption_version=version, mount_point=mount)

    def set_least_decrypting(self, mount: str, key: str, version: int) -> None:
        """Set the lowest version that may unwrap; not above the lowest that may wrap, if that is set."""
        self._transit.update_key_configuration(key, min_decryption_version=version, mount_point=mount)

    # --- KV, version 2 ---------------------------------------------------------------------------------------------

    def read_secret(self, mount: str, path: str) -> Mapping[str, Any]:
        """The newest version of a secret: field → value."""
        answer = self._kv.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
        data: Mapping[str, Any] = answer["data"]["data"]
        return data

    # --- logging in: each gives what the answer says of the token ---------------------------------------------------

    def login_approle(self, mount: str, role_id: str, secret_id: SecretStr) -> Mapping[str, Any]:
        """Log in with a role's id and secret."""
        return _auth(AppRole(self._adapter).login(role_id, secret_id.reveal(), use_token=False, mount_point=mount))

    def login_kubernetes(self, mount: str, role: str, jwt: SecretStr) -> Mapping[str, Any]:
        """Log in with the token of a service account."""
        return _auth(Kubernetes(self._adapter).login(role, jwt.reveal(), use_token=False, mount_point=mount))

    def renew_token(self) -> Mapping[str, Any]:
        """Have the token live on."""
        return _auth(Token(self._adapter).renew_self())

    def look_up_token(self) -> Mapping[str, Any]:
        """What the server knows of the token."""
        data: Mapping[str, Any] = Token(self._adapter).lookup_self()["data"]
        return data


def _auth(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    auth: Mapping[str, Any] = answer["auth"]
    return auth


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _plain(data: Mapping[str, Any]) -> SecretBytes:
    return SecretBytes(base64.b64decode(data["plaintext"], validate=True))


def _errors(answer: requests.Response) -> list[str]:
    try:
        errors = answer.json()["errors"]
    except (ValueError, KeyError, TypeError):
        return []
    return [error for error in errors if isinstance(error, str)] if isinstance(errors, list) else []
