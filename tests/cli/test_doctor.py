"""``doctor``: one line each, and the exit code for scripts."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Install, Run

HEALTH = """
    from go_services_core import HealthCheckSpec, Ref, hookimpl
    from go_services_core.model import Health

    GS_CONTRACT = 1

    async def check(runtime):
        return Health(ok={ok}, detail="the queue is long", remedy="Start a worker.")

    @hookimpl
    def gs_health_checks():
        return [HealthCheckSpec(id="queue", summary="Length of the queue.", check=Ref(__name__ + ":check"))]
"""


def report(run: Run, code: int) -> dict[str, dict[str, object]]:
    found = json.loads(run("doctor", "--json", code=code).stdout)
    assert found["ok"] is (code == 0)
    return {one["check"]: one for one in found["checks"]}


def test_all_is_well_after_init_and_migrate(run: Run, ready: Path) -> None:
    found = report(run, 0)
    assert {"configuration", "schema", "keys", "store", "secrets", "plugin builtin"} <= set(found)
    assert found["settings"]["detail"] == "no references"
    lines = run("doctor").stdout.splitlines()
    assert len(lines) == len(found)
    assert all(line.startswith("ok ") for line in lines)


def test_store_that_needs_migrations_is_a_failure_with_the_remedy(run: Run) -> None:
    run("init")
    found = report(run, 1)
    assert found["schema"]["remedy"] == "Run `go-services store migrate`."
    assert "keys" not in found


def test_another_key_than_the_databases_is_found(run: Run, ready: Path) -> None:
    report(run, 0)
    run("init", "--force")
    found = report(run, 1)
    assert found["keys"]["ok"] is False
    assert found["schema"]["ok"] is True


def test_problems_of_the_configuration_exit_with_3(run: Run, ready: Path) -> None:
    with (ready / "go-services.toml").open("a") as file:
        file.write("\n[worker]\nbatchh = 1\n")
    assert "batchh" in str(report(run, 3)["configuration"]["detail"])
    (ready / "go-services.toml").write_text("[")
    assert list(report(run, 3)) == ["configuration"]


def test_broken_plugin_exits_with_4_and_the_rest_is_still_examined(run: Run, ready: Path, install: Install) -> None:
    install("bad", "raise RuntimeError('no good')")
    found = report(run, 4)
    assert "no good" in str(found["plugin bad"]["detail"])
    assert "plugins disable bad" in str(found["plugin bad"]["remedy"])
    assert found["keys"]["ok"] is True


def test_health_checks_of_plugins_run(run: Run, ready: Path, install: Install) -> None:
    install("queue", HEALTH.format(ok=False))
    assert report(run, 1)["queue"] == {
        "check": "queue",
        "ok": False,
        "detail": "the queue is long",
        "remedy": "Start a worker.",
    }
    lines = run("doctor", code=1).stdout
    assert "FAIL  queue" in lines
    assert "Start a worker." in lines


def test_missing_file_that_was_named_exits_with_3(run: Run) -> None:
    assert "does not exist" in run("--config", "nowhere.toml", "doctor", code=3).stdout


def test_one_reference_is_one(run: Run, connected_config: Path) -> None:
    assert report(run, 0)["settings"]["detail"] == "1 reference to secrets, it leads to one"
