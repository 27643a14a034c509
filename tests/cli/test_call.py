"""``go-services call``: operations, endpoints, pages and what would be sent; ``providers show`` documents them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from go_services_core.testing.sandbox import SandboxProcess

from .conftest import Run
from .test_connect import connect

TYPED = """
[[providers.keyed.operations]]
id = "echo.send"
method = "POST"
path = "/{part}"
capability = "echo"
summary = "Says what it was sent"
idempotency_header = "Idempotency-Key"
idempotent = false
cost = 2.5
docs_url = "https://docs.example/echo"
params = [
  {name = "part", where = "path", style = "segments"},
  {name = "state", choices = ["open", "closed"], default = "open", help = "Which"},
  {name = "size", type = "integer", minimum = 1, maximum = 9},
  {name = "tags", type = "array", style = "comma"},
  {name = "since", type = "datetime"},
  {name = "author", where = "body", wire = "commit.author"},
  {name = "milestone", where = "body", type = "integer", nullable = true},
]

[[providers.keyed.operations]]
id = "file.send"
method = "PUT"
path = "/echo"
params = [{name = "content", where = "raw", type = "bytes", required = true}]

[[providers.keyed.capabilities]]
name = "echo"
"""


@pytest.fixture
def keyed(connected_config: Path, sandbox: SandboxProcess, run: Run) -> str:
    """A connection whose operations have every kind of parameter."""
    with (connected_config / "go-services.toml").open("a") as file:
        file.write(TYPED)
    made = run("connect", "keyed", "--scope", "user:1", "--json", input=f"{sandbox.api_key.reveal()}\n")
    return str(json.loads(made.stdout[made.stdout.index("{") :])["id"])


def sent(run: Run, *arguments: str) -> dict[str, object]:
    return dict(json.loads(run("call", *arguments).stdout))


def test_parameters_are_read_as_the_operation_declares_them(keyed: str, run: Run) -> None:
    said = sent(
        run, keyed, "echo.send", "--param", "part=echo", "--param", "size=3", "--param", 'tags=["x", "y,z"]',
        "--param", "since=2026-01-02T03:04:05Z", "--param", "author=ada", "--param", "milestone=null",
        "--idempotency-key", "k-1", "--deadline", "20",
    )  # fmt: skip
    assert said["target"] == "/echo?state=open&size=3&tags=x,y%2Cz&since=2026-01-02T03%3A04%3A05Z"
    assert json.loads(str(said["body"])) == {"commit": {"author": "ada"}, "milestone": None}
    assert said["headers"]["Idempotency-Key"] == "k-1"  # type: ignore[index]


@pytest.mark.parametrize(
    ("param", "problem"),
    [
        ("state=opened", "one of open, closed"), ("size=10", "at least 1 and at most 9"), ("size=x", "size is integer"),
        ("since=yesterday", "a time with its offset"), ("part=../x", "cannot be '..'"), ("sise=1", "Did you mean 'size'"),
        ("tags=x", "tags is array"), ("size", "NAME=VALUE"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_would(
    keyed: str, sandbox: SandboxProcess, run: Run, param: str, problem: str
) -> None:
    before = sandbox.requests().get("echo", 0)
    arguments = [] if param.startswith("part") else ["--param", "part=x"]
    assert problem in run("call", keyed, "echo.send", *arguments, "--param", param, code=2).stderr
    assert sandbox.requests().get("echo", 0) == before


def test_dry_run_shows_the_final_request_without_the_credential(keyed: str, sandbox: SandboxProcess, run: Run) -> None:
    before = sandbox.requests()
    arguments = ("call", keyed, "echo.send", "--param", "part=x", "--param", "author=ada", "--dry-run")
    shown = run(*arguments).stdout
    assert shown.startswith(f"Would send, with the credential of {keyed}:\n  POST {sandbox.url}/x?state=open\n")
    assert '{"commit":{"author":"ada"}}' in shown
    told = json.loads(run(*arguments, "--json").stdout)
    assert (told["method"], told["permitted"], told["capability"]) == ("POST", True, "echo")
    endpoint = run("call", keyed, "--method", "get", "--path", "/echo/{x}", "--param", "x=a b", "--dry-run").stdout
    assert f"GET {sandbox.url}/echo/a%20b" in endpoint
    assert sandbox.requests() == before
    for printed in (shown, json.dumps(told), endpoint):
        assert sandbox.api_key.reveal() not in printed
        assert "x-api-key" not in printed.lower()


def test_dry_run_says_what_would_be_refused(connected_config: Path, sandbox: SandboxProcess, run: Run) -> None:
    text = (connected_config / "go-services.toml").read_text()
    (connected_config / "go-services.toml").write_text(
        text.replace('grants = ["items.read"]', 'grants = ["items.admin"]')
    )
    id = connect()["id"]
    before = sandbox.requests()
    would = run("call", id, "items.list", "--dry-run")
    assert would.stdout.startswith("Would be refused:")
    assert "items.admin" in would.stderr
    assert json.loads(run("call", id, "items.list", "--dry-run", "--json").stdout)["permitted"] is False
    assert sandbox.requests() == before


def test_endpoint_is_called_by_method_and_path(keyed: str, run: Run, folder: Path) -> None:
    said = sent(
        run, keyed, "--method", "POST", "--path", "/{part}", "--param", "part=echo", "--query", "t=1",
        "--query", "t=2", "--header", "X-Note=hi", "--body", '{"a": [1]}',
    )  # fmt: skip
    assert (said["target"], said["body"]) == ("/echo?t=1&t=2", '{"a":[1]}')
    assert said["headers"]["X-Note"] == "hi"  # type: ignore[index]
    (folder / "body.bin").write_bytes(b"bytes")
    assert sent(run, keyed, "--method", "PUT", "--path", "/echo", "--body", "@body.bin")["body"] == "bytes"
    assert sent(run, keyed, "file.send", "--param", "content=@body.bin")["body"] == "bytes"
    assert "No such file" in run("call", keyed, "file.send", "--param", "content=@nowhere", code=2).stderr
    assert "@PATH" in run("call", keyed, "file.send", "--param", "content=text", code=2).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("--method", "GET"), ("echo.send", "--method", "GET", "--path", "/x"), ("echo.send", "--query", "a=b"),
        ("echo.send", "--body", "{}"), ("--method", "GET", "--path", "/echo", "--limit", "3"),
        ("--method", "GET", "--path", "/a/../b"), ("--method", "GET", "--path", "/echo", "--header", "Cookie=a"),
        ("--method", "POST", "--path", "/echo", "--body", "{"), ("echo.send", "--deadline", "0"),
        ("--method", "GET", "--path", "/echo", "--param", "a=1", "--query", "a=2"), ("echo.send", "--limit", "-1"),
    ],
)  # fmt: skip
def test_call_that_makes_no_sense_is_refused_before_anything_is_sent(
    keyed: str, sandbox: SandboxProcess, run: Run, arguments: tuple[str, ...]
) -> None:
    before = sandbox.requests()
    assert run("call", keyed, *arguments, code=2).stderr.strip()
    assert sandbox.requests() == before


def test_options_of_lists_are_refused_where_there_is_none(keyed: str, run: Run) -> None:
    told = run("call", keyed, "echo.send", "--param", "part=echo", "--all-pages", code=2)
    assert "echo.send is no list; it does not take --all-pages" in told.stderr
    told = run("call", keyed, "file.send", "--upload", "go-services.toml", code=2)
    assert "file.send is no transfer of a file; it does not take --upload" in told.stderr
    told = run("call", connect()["id"], "items.list", "--limit", "1", "--idempotency-key", "1", code=2)
    assert "--idempotency-key is for one call; --limit makes several" in told.stderr


def test_name_of_a_file_tells_its_content_type(keyed: str, run: Run, folder: Path) -> None:
    (folder / "a.json").write_text("{}")
    endpoint = ("--method", "POST", "--path", "/echo", "--body", "@a.json")

    def content_type(*more: str) -> list[str]:
        headers = sent(run, keyed, *endpoint, *more)["headers"]
        assert isinstance(headers, dict)
        return [value for name, value in headers.items() if name.lower() == "content-type"]

    assert content_type() == ["application/json"]
    assert content_type("--header", "content-type=text/x") == ["text/x"]


def test_list_that_was_cut_short_goes_on_with_its_token(connected_config: Path, run: Run) -> None:
    id = connect()["id"]
    cut = run("call", id, "items.list", "--param", "per_page=10", "--limit", "13")
    first = [json.loads(line)["id"] for line in cut.stdout.splitlines()]
    token = cut.stderr.rpartition(" ")[2].strip()
    assert "--resume gsp1." in cut.stderr
    more = run("call", id, "items.list", "--param", "per_page=10", "--resume", token, "--page-limit", "2")
    second = [json.loads(line)["id"] for line in more.stdout.splitlines()]
    assert first + second == list(range(1, 31))
    page = run("call", id, "items.list", "--param", "per_page=10", "--page-limit", "1", "--json").stdout
    told = json.loads(page)
    assert (len(told["items"]), told["resume"][:5]) == (10, "gsp1.")
    wrong = run("call", id, "items.list", "--resume", token, code=2)
    assert "other parameters" in wrong.stderr
    whole = run("call", id, "items.list", "--param", "per_page=100", "--all-pages")
    assert (len(whole.stdout.splitlines()), whole.stderr) == (120, "")


def test_operation_is_documented_in_full(keyed: str, run: Run) -> None:
    told = json.loads(run("providers", "show", "keyed", "echo.send", "--json").stdout)
    assert (told["method"], told["path"], told["capability"]) == ("POST", "/{part}", "echo")
    assert (told["cost"], told["idempotency_header"], told["idempotent"]) == (2.5, "Idempotency-Key", False)
    params = {one["name"]: one for one in told["params"]}
    assert (params["part"]["required"], params["state"]["required"]) == (True, False)
    assert (params["state"]["choices"], params["state"]["default"]) == (["open", "closed"], "open")
    assert (params["size"]["minimum"], params["size"]["maximum"]) == (1, 9)
    assert (params["author"]["wire"], params["milestone"]["nullable"]) == ("commit.author", True)
    shown = run("providers", "show", "keyed", "echo.send").stdout
    for part in (
        "Says what it was sent",
        "POST /{part}",
        "may do it twice",
        "Idempotency-Key",
        "2.5 of the budget",
        "https://docs.example/echo",
        "open, closed; default open",
        "at least 1; at most 9",
        "or null",
        "Which",
    ):
        assert part in shown
    assert "pages" in run("providers", "show", "sandbox", "items.list").stdout
    assert (
        json.loads(run("providers", "show", "sandbox", "items.list", "--json").stdout)["pagination"]["style"] == "link"
    )
    assert "Did you mean 'echo.send'" in run("providers", "show", "keyed", "echo.snd", code=1).stderr
    assert "kept here and not sent" in run("providers", "show", "github", "issues.create").stdout
    assert "kept here" not in run("providers", "show", "github", "issues.get").stdout
    listed = run("providers", "show", "keyed").stdout
    assert "Says what it was sent" in listed
    assert "providers show keyed OPERATION" in listed
