"""``plugins list, show, check, enable, disable`` over plugins that work and plugins that do not."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest

from .conftest import Install, Run, go_services

GOOD = """
    from go_services_core import ApiKey, ProviderSpec, hookimpl

    GS_CONTRACT = 1

    @hookimpl
    def gs_providers():
        return [ProviderSpec(id="acme", name="Acme", auth=ApiKey())]
"""
BROKEN = "raise RuntimeError('no good')"
EXITS = "raise SystemExit(3)"
FUTURE = "GS_CONTRACT = 99"
WRONG_HOOK = """
    from go_services_core import hookimpl

    GS_CONTRACT = 1

    @hookimpl
    def gs_providers():
        raise KeyError("boom")
"""


def listed(run: Run, *args: str, code: int = 0) -> dict[str, dict[str, object]]:
    found = json.loads(run("plugins", "list", "--json", *args, code=code).stdout)
    assert set(found) == {"plugins"}
    return {plugin["id"]: plugin for plugin in found["plugins"]}


def test_list_prints_exactly_the_promised_fields(run: Run, install: Install) -> None:
    install("acme", GOOD)
    assert listed(run)["acme"] == {
        "id": "acme",
        "distribution": "go-services-acme",
        "version": "1.2.3",
        "kinds": ["providers"],
        "status": "loaded",
        "error": None,
    }


def test_broken_and_incompatible_plugins_are_listed_beside_the_others_with_exit_code_4(
    run: Run, install: Install
) -> None:
    for id, source in (("acme", GOOD), ("bad", BROKEN), ("exits", EXITS), ("future", FUTURE), ("hook", WRONG_HOOK)):
        install(id, source)
    found = listed(run, code=4)
    assert {id: found[id]["status"] for id in ("acme", "bad", "exits", "future", "hook", "builtin")} == {
        "acme": "loaded",
        "bad": "broken",
        "exits": "broken",
        "future": "incompatible",
        "hook": "broken",
        "builtin": "loaded",
    }
    assert "no good" in str(found["bad"]["error"])
    assert "boom" in str(found["hook"]["error"])
    result = run("plugins", "list", code=4)
    assert "bad" in result.stdout
    assert "bad: " in result.stderr
    assert result.stderr.count("no good") == 1


def test_broken_plugin_that_was_explicitly_enabled_is_listed_too(run: Run, install: Install, folder: Path) -> None:
    install("acme", GOOD)
    install("bad", BROKEN)
    (folder / "go-services.toml").write_text('[plugins]\nenabled = ["acme", "bad", "absent"]\n')
    found = listed(run, code=4)
    assert (found["acme"]["status"], found["bad"]["status"]) == ("loaded", "broken")
    assert found["absent"]["error"] == "It is in plugins.enabled and not installed."


def test_disabled_plugin_is_listed_and_not_imported(run: Run, install: Install, folder: Path) -> None:
    module = install("bad", BROKEN)
    (folder / "go-services.toml").write_text('[plugins]\ndisabled = ["bad"]\n')
    assert listed(run)["bad"]["status"] == "disabled"
    assert module not in sys.modules


def test_no_load_reads_metadata_only(run: Run, install: Install) -> None:
    module = install("bad", BROKEN)
    found = listed(run, "--no-load")
    assert (found["bad"]["status"], found["bad"]["version"]) == ("installed", "1.2.3")
    assert module not in sys.modules


def test_two_plugins_with_one_provider_name_both_and_the_setting(run: Run, install: Install) -> None:
    install("acme", GOOD)
    install("other", GOOD)
    result = run("plugins", "list", code=4)
    assert "go-services-acme" in result.stderr
    assert "go-services-other" in result.stderr
    assert "plugins.prefer.acme" in result.stderr
    assert listed(run, code=4)["other"]["status"] == "loaded"
    run("init")
    assert "plugins.prefer.acme" in run("doctor", code=4).stdout
    assert "plugins.prefer.acme" in run("providers", "list", code=4).stderr
    run("config", "set", "plugins.prefer.acme", "other")
    assert listed(run)["acme"]["status"] == "loaded"


def test_plugin_that_refuses_the_start_is_listed_as_broken(run: Run, install: Install) -> None:
    install(
        "picky",
        """
        from go_services_core import hookimpl

        GS_CONTRACT = 1

        @hookimpl
        def gs_catalog_ready(catalog):
            raise RuntimeError("not with these plugins")
        """,
    )
    found = listed(run, code=4)["picky"]
    assert found["status"] == "broken"
    assert "not with these plugins" in str(found["error"])


def test_show_says_what_a_plugin_offers(run: Run, install: Install) -> None:
    module = install("acme", GOOD)
    shown = json.loads(run("plugins", "show", "acme", "--json").stdout)
    assert (shown["offers"], shown["module"]) == ({"providers": ["acme"]}, module)
    assert "providers     acme" in run("plugins", "show", "acme").stdout


def test_show_of_a_broken_plugin_says_why_with_exit_code_4(run: Run, install: Install) -> None:
    install("bad", BROKEN)
    assert "no good" in run("plugins", "show", "bad", code=4).stdout
    assert "Did you mean 'bad'?" in run("plugins", "show", "baad", code=4).stderr


def test_disable_and_enable_change_the_file_and_keep_its_comments(run: Run, install: Install, folder: Path) -> None:
    install("acme", GOOD)
    path = folder / "go-services.toml"
    path.write_text("# ours\n[plugins]\nstrict = false # yes\n")
    run("plugins", "disable", "acme", "--dry-run")
    assert "disabled" not in path.read_text()
    run("plugins", "disable", "acme")
    assert tomllib.loads(path.read_text())["plugins"]["disabled"] == ["acme"]
    assert listed(run)["acme"]["status"] == "disabled"
    assert run("plugins", "disable", "acme").stdout == "acme is disabled already.\n"
    run("plugins", "enable", "acme")
    assert tomllib.loads(path.read_text())["plugins"]["disabled"] == []
    assert listed(run)["acme"]["status"] == "loaded"
    assert "# ours" in path.read_text()
    assert "# yes" in path.read_text()


def test_enable_and_disable_keep_an_allow_list_up_to_date(run: Run, install: Install, folder: Path) -> None:
    install("acme", GOOD)
    path = folder / "go-services.toml"
    path.write_text('[plugins]\nenabled = ["github"]\n')
    run("plugins", "enable", "acme")
    assert tomllib.loads(path.read_text())["plugins"]["enabled"] == ["github", "acme"]
    run("plugins", "disable", "acme")
    assert tomllib.loads(path.read_text())["plugins"] == {"enabled": ["github"], "disabled": ["acme"]}


def test_switching_an_unknown_plugin_changes_nothing(run: Run, folder: Path) -> None:
    (folder / "go-services.toml").write_text("")
    assert "Did you mean 'github'?" in run("plugins", "disable", "githb", code=4).stderr
    assert (folder / "go-services.toml").read_text() == ""


def test_check_reports_each_rule_and_fails_when_a_must_is_broken(run: Run, install: Install) -> None:
    install("acme", GOOD.replace('id="acme"', 'id="ac-me"'))
    result = run("plugins", "check", "acme", "--json", code=1)
    report = json.loads(result.stdout)
    by_id = {one["id"]: one for one in report["checks"] if one["subject"] == "ac-me"}
    assert report["ok"] is False
    assert by_id["PRV-001"]["outcome"] == "failed"
    assert "google_gmail" in by_id["PRV-001"]["detail"]
    assert by_id["PRV-004"]["outcome"] == "passed"
    assert by_id["PRV-020"]["outcome"] == "skipped"
    assert any(one["id"].startswith("PLG-") for one in report["checks"])
    shown = run("plugins", "check", "acme", code=1).stdout
    broken = [one for one in report["checks"] if one["outcome"] == "failed"]
    advice = [one["id"] for one in broken if one["level"] == "should"]
    assert advice
    rows = [line.split()[:2] for line in shown.splitlines()[1:-1]]
    assert [id for outcome, id in rows if outcome == "advice"] == advice
    count = len(broken) - len(advice)
    assert [outcome for outcome, _ in rows].count("failed") == count
    assert f" checks, {count} failed, {len(advice)} not as advised.\n" in shown


@pytest.mark.parametrize(("source", "said"), [(BROKEN, "no good"), (FUTURE, "contract"), (WRONG_HOOK, "boom")])
def test_check_of_a_plugin_that_does_not_load_exits_with_4(run: Run, install: Install, source: str, said: str) -> None:
    install("bad", source)
    assert said in run("plugins", "check", "bad", code=4).stderr


def test_check_of_the_installed_github_plugin_passes(run: Run) -> None:
    assert json.loads(run("plugins", "check", "github", "--json").stdout)["ok"] is True


def test_check_of_a_folder_needs_no_installation(run: Run, folder: Path) -> None:
    run("plugins", "new", "zeta-crm")
    before = list(sys.path)
    done = go_services("plugins", "check", "./go-services-zeta-crm", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert {(one["plugin"], one["subject"]) for one in report["checks"]} == {
        ("zeta-crm", "zeta-crm"),
        ("zeta-crm", "zeta_crm"),
    }
    assert not [one for one in report["checks"] if one["outcome"] == "failed"]
    assert sys.path == before
    source = folder / "go-services-zeta-crm/go_services_zeta_crm/plugin.py"
    source.write_text(source.read_text().replace("https://zeta-crm.example/oauth/token", "http://zeta-crm.example/t"))
    worse = go_services("plugins", "check", "./go-services-zeta-crm")
    assert worse.returncode == 1
    assert "token_url is not https" in worse.stdout
    source.write_text("import nothing_of_that_name\n")
    gone = go_services("plugins", "check", "./go-services-zeta-crm")
    assert gone.returncode == 4
    assert "nothing_of_that_name" in gone.stderr


def test_check_of_a_folder_without_plugin_says_what_to_add(run: Run, folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\n')
    result = run("plugins", "check", ".", code=4)
    assert 'go_services.plugins"] with one line: id = "module".' in result.stderr
    assert "cannot be read" in run("plugins", "check", "./nowhere", code=4).stderr
