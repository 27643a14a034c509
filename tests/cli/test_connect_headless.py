"""Connecting where there is no browser, and typing what a kind needs. P103."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from go_services_core.testing.sandbox import SandboxProcess

from .conftest import Run

COMMAND = str(Path(sys.executable).with_name("go-services"))
REDIRECT = "http://127.0.0.1/callback"


class Stay(urllib.request.HTTPRedirectHandler):
    """A browser elsewhere: it is sent to an address where nobody listens, and shows it."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def consent(url: str) -> str:
    """The address in the browser's address bar in the end."""
    with pytest.raises(urllib.error.HTTPError) as moved:
        urllib.request.build_opener(Stay).open(url, timeout=30)
    moved.value.close()
    return moved.value.headers["Location"]


class Headless:
    """A command with ``--headless``, waiting for the address."""

    def __init__(self, *args: str, command: tuple[str, ...] = ("connect", "sandbox", "--scope", "user:1")) -> None:
        self.process = subprocess.Popen(
            [COMMAND, *command, "--headless", *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith("Consent here, in any browser: "), line + self.process.stderr.read()
        self.url = line.partition(": ")[2].strip()

    def paste(self, address: str) -> tuple[int, str, str]:
        out, err = self.process.communicate(address + "\n", timeout=60)
        return self.process.returncode, out, err


def test_callback_is_pasted_and_nothing_of_it_is_printed(connected_config: Path, sandbox: SandboxProcess) -> None:
    run = Headless("--redirect-uri", REDIRECT, "--json")
    assert parse_qs(urlsplit(run.url).query)["redirect_uri"] == [REDIRECT]
    address = consent(run.url)
    code, out, err = run.paste(f"  {address}#_=_")
    assert code == 0, err
    assert json.loads(out)["status"] == "active"
    parameters = parse_qs(urlsplit(address).query)
    for secret in (parameters["code"][0], parameters["state"][0], *sandbox.issued_secrets()):
        assert secret not in out + err


def test_person_is_asked_again_without_a_browser(connected_config: Path, run: Run) -> None:
    first = Headless("--redirect-uri", REDIRECT, "--json")
    made = json.loads(first.paste(consent(first.url))[1])
    again = Headless(
        "--redirect-uri", REDIRECT, "--grant", "items.write", "--json", command=("connections", "reconsent", made["id"])
    )
    assert "items.write" in parse_qs(urlsplit(again.url).query)["scope"][0].split()
    code, out, err = again.paste(consent(again.url))
    assert (code, json.loads(out)["id"]) == (0, made["id"]), err
    refused = run("connections", "reconsent", made["id"], "--redirect-uri", REDIRECT, code=2)
    assert "--headless" in refused.stderr


def test_query_alone_will_do_and_the_registered_redirect_uri_comes_from_the_settings(connected_config: Path) -> None:
    text = (connected_config / "go-services.toml").read_text()
    changed = text.replace("[providers.sandbox]\n", f'[providers.sandbox]\nredirect_uri = "{REDIRECT}"\n', 1)
    (connected_config / "go-services.toml").write_text(changed)
    run = Headless("--json")
    code, out, err = run.paste(urlsplit(consent(run.url)).query)
    assert (code, json.loads(out)["provider"]) == (0, "sandbox"), err


def test_address_of_another_attempt_is_refused_and_ends_none(connected_config: Path, run: Run) -> None:
    first, second = Headless("--redirect-uri", REDIRECT), Headless("--redirect-uri", REDIRECT)
    wrong = consent(first.url)
    code, out, err = second.paste(wrong)  # the state is right, but it began in another process
    assert (code, out) == (1, "")
    assert "came from another browser" in err
    code, out, err = first.paste(wrong)
    assert code == 0, err
    listed = json.loads(run("connections", "list", "--json").stdout)["connections"]
    assert len(listed) == 1


@pytest.mark.parametrize(
    ("pasted", "said"),
    [
        (f"{REDIRECT}?code=c&state=never-issued", "never issued here"),
        (REDIRECT, "copy it from the address bar"),
        ("rubbish", "not the address on which a consent ended"),
        (f"{REDIRECT}?code=a&code=b&state=c", "more than one 'code'"),
    ],
)
def test_what_is_no_callback_is_refused(connected_config: Path, pasted: str, said: str) -> None:
    code, out, err = Headless("--redirect-uri", REDIRECT).paste(pasted)
    assert (code in (1, 2), out) == (True, "")
    assert said in err
    assert "Traceback" not in err


def test_end_of_input_ends_the_command(connected_config: Path) -> None:
    waiting = Headless("--redirect-uri", REDIRECT)
    assert waiting.process.stdin is not None
    waiting.process.stdin.close()
    assert waiting.process.stderr is not None
    assert "the input ended" in waiting.process.stderr.read()
    assert waiting.process.wait(30) == 1
    for stream in (waiting.process.stdout, waiting.process.stderr):
        assert stream is not None
        stream.close()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--headless", "--device"), "--device does not go with --headless"),
        (("--headless", "--port", "80"), "takes no --port"),
        (("--headless", "--timeout", "9"), "takes no --timeout"),
        (("--device", "--timeout", "9"), "does not go with --timeout"),
        (("--redirect-uri", REDIRECT), "goes with --headless"),
        (("--file", "key=x"), "asks for a consent"),
        (("--headless",), "There is no redirect URI"),
        (("--device",), "not consented to on another device"),
        (("--device", "--auth", "oauth2_auth_code"), "not consented to on another device by oauth2_auth_code"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    connected_config: Path, sandbox: SandboxProcess, run: Run, args: tuple[str, ...], said: str
) -> None:
    assert said in run("connect", "sandbox", "--scope", "user:1", *args, code=2).stderr
    assert not sandbox.requests().get("authorize")


def test_headless_is_for_a_kind_with_a_callback(connected_config: Path, run: Run) -> None:
    assert "api_key has none" in run("connect", "keyed", "--scope", "user:1", "--headless", code=2).stderr


def test_device_takes_the_kind_that_has_a_code(connected_config: Path, sandbox: SandboxProcess, run: Run) -> None:
    device = f'auth = [{{kind = "oauth2_auth_code", authorize_url = "{sandbox.url}/authorize", token_url = "{sandbox.url}/token"}}, {{kind = "oauth2_device_code", device_authorization_url = "{sandbox.url}/device", token_url = "{sandbox.url}/token"}}]'
    with (connected_config / "go-services.toml").open("a") as file:
        file.write(f'[providers.both]\nclient_id = "c"\n{device}\napi = {{base_url = "{sandbox.url}"}}\n')
    would = run("connect", "both", "--scope", "user:1", "--device", "--dry-run").stdout
    assert would.startswith("Would show a page and a code for the default grants")
    assert "by oauth2_device_code for user:1" in would
    assert "by oauth2_auth_code" in run("connect", "both", "--scope", "user:1", "--dry-run").stdout


@pytest.fixture
def typed_kinds(connected_config: Path, sandbox: SandboxProcess) -> Path:
    api = f'api = {{base_url = "{sandbox.url}"}}'
    with (connected_config / "go-services.toml").open("a") as file:
        file.write(
            f'[providers.signed]\nauth = {{kind = "hmac", key_id_header = "X-Key"}}\n{api}\n'
            f'[providers.aws]\nauth = {{kind = "aws_sigv4", service = "s3", region = "eu-west-1"}}\n{api}\n'
            f'[providers.robot]\nauth = {{kind = "service_account_jwt", audience = "https://api.example"}}\n{api}\n'
        )
    return connected_config


def test_each_kind_says_which_fields_it_needs_and_which_it_may_have(typed_kinds: Path, run: Run) -> None:
    def asked(provider: str) -> str:
        return run("connect", provider, "--scope", "org:acme", "--dry-run").stdout

    assert "ask for key_id, secret and" in asked("signed")
    assert "access_key_id, secret_access_key, session_token (optional) and" in asked("aws")
    assert "service_account_json (optional), issuer (optional)" in asked("robot")


def test_optional_fields_may_be_left_out_by_an_empty_line_or_the_end_of_the_input(typed_kinds: Path, run: Run) -> None:
    arguments = ("connect", "aws", "--scope", "org:acme", "--json")
    for rest in ("\n", ""):
        result = run(*arguments, input="AKIAIOSFODNN7EXAMPLE\nsecret-0123456789\n" + rest)
        assert json.loads(result.stdout)["status"] == "active"
        assert "session_token (optional)" in result.stderr
        assert "secret-0123456789" not in result.stdout + result.stderr
    needed = run(*arguments, input="AKIAIOSFODNN7EXAMPLE\n", code=1)
    assert "the input ended" in needed.stderr


def test_a_field_of_many_lines_is_read_from_a_file(typed_kinds: Path, run: Run) -> None:
    key = generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    (typed_kinds / "key.pem").write_text(pem)
    given = ("--file", "private_key=key.pem")
    result = run("connect", "robot", "--scope", "org:acme", *given, "--json", input="\nrobot@acme.example\n\n\n")
    assert json.loads(result.stdout)["status"] == "active"
    assert pem.splitlines()[2] not in result.stdout + result.stderr
    wrong = run("connect", "robot", "--scope", "org:acme", "--file", "private_key", code=2)
    assert "FIELD=PATH" in wrong.stderr
    twice = run("connect", "robot", "--scope", "org:acme", *given, *given, code=2)
    assert "given twice" in twice.stderr
    unknown = run("connect", "signed", "--scope", "org:acme", "--file", "kye=key.pem", input="k\ns\n", code=2)
    assert "kye is not a field of it" in unknown.stderr
    missing = run("connect", "robot", "--scope", "org:acme", "--file", "private_key=key.none", code=2)
    assert "key.none cannot be read: No such file or directory" in missing.stderr
