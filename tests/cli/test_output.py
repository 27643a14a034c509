"""Tables, JSON and errors."""

from __future__ import annotations

import ast
import itertools
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import go_services_core
from go_services_core.cli.output import _COMMANDS, clean, fields, show_error, show_json, show_json_line, table
from go_services_core.counted import counted
from go_services_core.errors import BudgetExhausted, ConfigError, ProviderError, ProviderUnavailable, ServicesError
from go_services_core.model import Scope
from go_services_core.secret import MASK, SecretStr

SENTENCE = (
    "The mail server smtp.example refused the recipient: 550 5.1.1 the mailbox does not exist, and it says that it will "
    "not exist tomorrow either: https://mail.example/why-it-was-refused"
)
ROWS = [("github", "a" * 60, "loaded"), ("shopify", "b" * 10, "broken")]


def _called(node: ast.AST) -> ast.Call | None:
    """The call of ``counted``, or None."""
    return (
        node if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "counted" else None
    )


def test_what_is_counted_is_in_the_singular_where_there_is_one() -> None:
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
    core = Path(go_services_core.__file__).parent
    nodes = [
        (path.name, node)
        for path in (*(core / "cli").glob("*.py"), *(core / "builtin").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    words = {ast.literal_eval(found.args[-1]) for _, node in nodes if (found := _called(node)) is not None}
    plurals = {word if word.endswith("s") else f"{word}s" for word in words}
    assert {"references", "migrations", "deliveries", "events"} <= plurals
    wrong = [
        (name, ast.unparse(node))
        for name, node in nodes
        if isinstance(node, ast.JoinedStr)
        for value, after in itertools.pairwise(node.values)
        if isinstance(value, ast.FormattedValue)
        and isinstance(after, ast.Constant)
        and re.split(r"\W+", f"{after.value}.".strip())[0] in plurals
    ]
    assert wrong == []


def test_row_that_would_be_cut_to_pieces_is_two_lines_and_its_sentence_is_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        rows = [("7" * 40, "installation.created", "dead", SENTENCE), ("8" * 40, "job.failed", "dead", None)]
        table(("id", "event", "status", "error"), rows, empty="none", whole=1, text=True)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= columns
        return lines

    wide = shown(300)
    assert [line.split() for line in wide[:1]] == [["ID", "EVENT", "STATUS", "ERROR"]]
    assert wide[1].endswith(SENTENCE)
    assert wide[2].split() == ["8" * 40, "job.failed", "dead", "-"]
    below = shown(80)
    assert [line.split() for line in below[:2]] == [
        ["ID", "EVENT", "STATUS"],
        ["7" * 40, "installation.created", "dead"],
    ]
    assert " ".join(" ".join(below[2:-1]).split()) == SENTENCE
    assert below[-1].split() == ["8" * 40, "job.failed", "dead"]
    narrow = shown(60)
    assert [line.split() for line in narrow[:4]] == [
        ["ID"],
        ["EVENT", "STATUS"],
        ["7" * 40],
        ["installation.created", "dead"],
    ]
    assert " ".join(" ".join(narrow[4:-2]).split()) == SENTENCE


def test_table_fits_the_terminal_by_cutting_its_widest_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    table(("id", "text", "status"), ROWS, empty="none")
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 40
    assert lines[0].startswith("ID")
    assert "…" in lines[1]
    assert lines[1].endswith("loaded")


def test_columns_that_have_to_be_copied_are_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    table(("id", "text", "status"), [("i" * 30, "a" * 60, "loaded")], empty="none", whole=1)
    assert capsys.readouterr().out.splitlines()[2] == "i" * 30


def test_pipe_gets_every_column_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table(("id", "text", "status"), ROWS, empty="none")
    assert "a" * 60 in capsys.readouterr().out


def test_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    table(("id",), [], empty="There is none.")
    assert capsys.readouterr().out == "There is none.\n"


def test_text_of_others_cannot_move_the_cursor_or_add_lines() -> None:
    assert clean("a\x1b[2Jb\nc\td") == "a�[2Jb c d"
    assert clean(None) == clean("") == clean(()) == "-"
    assert clean(("a", "b")) == "a, b"
    assert clean(True) == "yes"
    assert clean(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)) == "2026-01-02 03:04:05+00:00"


def test_secret_prints_its_mask_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"token": SecretStr("hunter2"), "at": datetime(2026, 1, 1, tzinfo=UTC), "scope": Scope("user", "1")}
    show_json(value)
    fields(value.items())
    show_error(ServicesError(f"wrong {SecretStr('hunter2')}"))
    out, err = capsys.readouterr()
    assert "hunter2" not in out + err
    read = json.loads(out[: out.index("}") + 1])
    assert read == {"token": "••••", "at": "2026-01-01T00:00:00+00:00", "scope": "user:1"}


def test_problems_of_a_configuration_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ConfigError(problems=["a is wrong", "b is wrong"], hint="Repair both."))
    assert capsys.readouterr().err == (
        "error: The configuration has 2 problems:\n    - a is wrong\n    - b is wrong\n  Repair both.\n"
    ).replace("    - ", "  - ")


TOKEN = "tok-0123456789abcdef"


def test_whatever_is_printed_is_printed_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:  # P45
    SecretStr(TOKEN)
    show_json({"said": f"cannot use {TOKEN}", "at": [TOKEN], "n": 1, "scope": Scope("user", TOKEN)})
    show_json_line([TOKEN])
    table(("error",), [(f"cannot use {TOKEN}",)], empty="none")
    fields([("last error", TOKEN)])
    show_error(ServicesError(f"cannot use {TOKEN}"))
    show_error(OSError(f"cannot open https://u:{TOKEN}@host/ with password=1234"))
    out, err = capsys.readouterr()
    assert TOKEN not in out + err
    assert "1234" not in err
    assert (out + err).count(MASK) == 9
    assert json.loads(out[: out.index("}") + 1])["n"] == 1


def test_a_number_in_json_stays_a_number_whatever_the_secrets_are(capsys: pytest.CaptureFixture[str]) -> None:
    SecretStr("1234567890123456")
    show_json({"id": 1234567890123456})
    assert json.loads(capsys.readouterr().out) == {"id": 1234567890123456}


def test_a_result_that_is_a_secret_is_printed_where_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    SecretStr(TOKEN)
    show_json_line({"client_secret": TOKEN}, with_secrets=True)
    assert TOKEN in capsys.readouterr().out


def test_error_of_a_provider_is_shown_with_its_words_and_what_it_is_asked_about_by(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_error(
        ProviderUnavailable(
            "acme is failing (503).",
            upstream_status=503,
            request_id="Req-1",
            excerpt='{"message":\n "No\x1b[2J disk"}',
            attempts=3,
            retry_after=20.0,
        )
    )
    error, says, numbers = capsys.readouterr().err.splitlines()
    assert error == "error: acme is failing (503)."
    assert says.startswith('  It says: {"message": "No')
    assert "\x1b" not in says
    assert numbers == "  Its request id: Req-1. Requests made: 3. It asks to wait 20 s."


def test_long_answer_of_a_provider_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ProviderError("acme refused the call (400).", excerpt="x" * 2000))
    assert len(capsys.readouterr().err.splitlines()[1]) < 450


def test_wait_for_a_unit_of_the_budget_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(BudgetExhausted("Nothing left. It has units again in 58.6 s.", retry_after=58.6))
    assert capsys.readouterr().err == "error: Nothing left. It has units again in 58.6 s.\n"


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("Ask for it with Runtime.reconsent, or not.", "Ask for it with `go-services connections reconsent`, or not."),
        ("Use Runtime.connect and Runtime.complete.", "Use `go-services connect`."),
        ("Use Runtime.connect_device.", "Use `go-services connect --device`."),
    ],
)
def test_hint_names_the_command_and_not_the_method(capsys: pytest.CaptureFixture[str], hint: str, shown: str) -> None:
    show_error(ServicesError("It is missing.", hint=hint))
    assert capsys.readouterr().err == f"error: It is missing.\n  {shown}\n"


def test_every_hint_that_names_a_method_of_the_runtime_is_known_here() -> None:
    unknown = set()
    for path in Path(go_services_core.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                unknown |= set(re.findall(r"Runtime\.\w+", ast.unparse(node.value))) - set(_COMMANDS)
    assert unknown <= {
        "Runtime.complete",
        "Runtime.download",
        "Runtime.on_request",
        "Runtime.stream",
    }  # the command never leads to these
