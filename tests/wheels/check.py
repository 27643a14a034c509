"""Build every wheel, install them with plain pip into an empty environment, and look from there.

Run by ``make wheels``. Nothing of the working tree is on the path: what is missing from a wheel is missing here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = sorted(
    path.parent for pattern in ("plugins", "contrib") for path in (ROOT / pattern).glob("*/pyproject.toml")
)
EXTRAS = "standard,github,serve,testing"


def main() -> int:
    """Exit code 0 when everything that was built is found."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with tempfile.TemporaryDirectory(prefix="go-services-wheels-") as name:
        folder = Path(name)
        wheels, env = folder / "wheels", folder / "env"
        for member in (ROOT, *MEMBERS):
            run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(member))
        built = sorted(wheels.glob("*.whl"))
        check(len(built) == len(MEMBERS) + 1, f"{len(built)} wheels were built of {len(MEMBERS) + 1} distributions")

        venv.create(env, with_pip=True)
        python = str(env / "bin" / "python")
        core = next(wheel for wheel in built if wheel.name.startswith("go_services_core-"))
        others = [str(wheel) for wheel in built if wheel != core]
        run(
            python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "-c", str(ROOT / "constraints.txt"), "--find-links", str(wheels), f"{core}[{EXTRAS}]", *others,
            env=environ,
        )  # fmt: skip

        command = str(env / "bin" / "go-services")
        listed = json.loads(run(command, "plugins", "list", "--json", cwd=folder, env=environ))["plugins"]
        found = {plugin["id"]: plugin["status"] for plugin in listed}
        expected = {id for member in MEMBERS for id in plugin_ids(member)} | {"builtin"}
        check(set(found) == expected, f"plugins found: {sorted(found)}; built: {sorted(expected)}")
        broken = [plugin for plugin in listed if plugin["status"] != "loaded"]
        check(not broken, f"not loaded: {broken}")
        demo = json.loads(run(command, "demo", "--json", cwd=folder, env=environ))
        check(demo["ok"], f"the demo failed: {demo}")
        typed = run(python, "-c", "import go_services_core, pathlib; "
                    "print((pathlib.Path(go_services_core.__file__).parent / 'py.typed').exists())", env=environ)  # fmt: skip
        check(typed.strip() == "True", "py.typed is not in the wheel")
    print(f"wheels: {len(built)} built and installed, {len(found)} plugins loaded, the demo passed")
    return 0


def plugin_ids(member: Path) -> set[str]:
    """The plugins of a distribution; a library has none."""
    project = tomllib.loads((member / "pyproject.toml").read_text())["project"]
    return set(project.get("entry-points", {}).get("go_services.plugins", {}))


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def check(holds: bool, otherwise: str) -> None:
    """End the run unless it holds."""
    if not holds:
        sys.exit(f"wheels: {otherwise}")


if __name__ == "__main__":
    sys.exit(main())
