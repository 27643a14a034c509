"""Keyrings as texts, and what stands in them."""

from __future__ import annotations

from go_services_core.model import Binding, Scope
from go_services_core.secret import SecretStr
from go_services_secrets_appkey.key import parse_key
from go_services_secrets_appkey.passphrase import ScryptParameters, derive_key
from go_services_secrets_appkey.wrapping import WrappingKey

from .conftest import PASSPHRASE

CONTEXT = bytes(32)
BINDING = Binding(purpose="credential", provider_id="github", scope=Scope("user", "u1"), record_id="r-1")
WEAK = ScryptParameters(n=1 << 14, r=8, p=5, salt=bytes(range(16)))
"""As strong as the cheat sheet's cheapest row, and weaker than today's."""


def derived(passphrase: str = PASSPHRASE) -> WrappingKey:
    return WrappingKey(derive_key(SecretStr(passphrase), WEAK, field="f"))


FINGERPRINT = derived().fingerprint
FROM_PASSPHRASE = (
    '[[keys]]\nstate = "primary"\npassphrase = "env:PASSPHRASE"\n'
    f'fingerprint = "{FINGERPRINT}"\n'
    'kdf = { name = "scrypt", n = 16384, r = 8, p = 5, salt = "AAECAwQFBgcICQoLDA0ODw==" }\n'
)


def id_of(text: str) -> str:
    return WrappingKey(parse_key(SecretStr(text), field="key")).key_id


def entry(state: str, text: str, more: str = "") -> str:
    return f'[[keys]]\nstate = "{state}"\nkey = "{text}"\n{more}'
