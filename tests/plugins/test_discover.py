from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from go_services_core.distributions import scan
from go_services_core.plugins import PluginManager


def test_discovery_reads_names_and_versions_and_imports_nothing(site, install):
    install("acme", "raise SystemExit('imported')", version="2.1")
    manager = PluginManager(path=[str(site)])
    info = {info.id: info for info in manager.discover()}["acme"]
    assert (info.distribution, info.version, info.status) == ("go-services-acme", "2.1", "installed")
    assert info.module == "go_services_acme_plugin"
    assert "go_services_acme_plugin" not in sys.modules
    assert manager.plugins == manager.discover()


def test_discovery_lists_the_builtin_plugin_and_disabled_ones(site, install):
    install("acme")
    infos = PluginManager(path=[str(site)], disabled=["acme"]).discover()
    assert [(info.id, info.status) for info in infos] == [("acme", "disabled"), ("builtin", "installed")]


def test_an_allow_list_disables_whoever_is_not_on_it(site, install):
    install("acme")
    install("other")
    infos = PluginManager(path=[str(site)], enabled=["other"]).discover()
    assert {info.id: info.status for info in infos} == {
        "acme": "disabled",
        "builtin": "installed",
        "other": "installed",
    }


def test_other_groups_and_comments_are_passed_over(site, install):
    install(
        "acme",
        entry_points="# made by hand\n[console_scripts]\nacme = acme:main\n\n"
        "[go_services.plugins]\n; a comment\nacme = go_services_acme_plugin [extra]\n\n[other]\nx = y\n",
    )
    found = scan([str(site)])
    assert [(entry.id, entry.module, entry.problem) for entry in found] == [("acme", "go_services_acme_plugin", None)]


def test_bad_metadata_breaks_only_its_own_plugin(site, install):
    install("good")
    install("bad", entry_points="[go_services.plugins]\nthis is no entry point\n")
    install("shout", entry_points="[go_services.plugins]\nSHOUT = module\n")
    install("attr", entry_points="[go_services.plugins]\nattr = module:attribute\n")
    infos = {info.id: info for info in PluginManager(path=[str(site)]).discover()}
    assert infos["good"].status == "installed"
    assert infos["this is no entry point"].status == "broken"
    assert "line 2" in infos["this is no entry point"].error
    assert "lower-case" in infos["SHOUT"].error
    assert "name of a module" in infos["attr"].error


def test_metadata_without_version_falls_back_to_the_folder_name(site, install):
    install("acme", version="3.0")
    (site / "go_services_acme-3.0.dist-info" / "METADATA").unlink()
    (entry,) = scan([str(site)])
    assert (entry.distribution, entry.version) == ("go-services-acme", "3.0")


def test_undecodable_metadata_is_no_crash(site, install):
    install("acme")
    (site / "go_services_acme-1.0.dist-info" / "METADATA").write_bytes(b"Name: \xff\xfe\nVersion: 1\n\n")
    (site / "go_services_acme-1.0.dist-info" / "entry_points.txt").write_bytes(
        b"[go_services.plugins]\n\xff = m\nacme = go_services_acme_plugin\n"
    )
    entries = {entry.id: entry.problem for entry in scan([str(site)])}
    assert entries.pop("acme") is None
    assert all(entries.values())


def test_the_first_distribution_on_the_path_hides_the_second_of_its_name(site, install, tmp_path):
    later = tmp_path / "later"
    later.mkdir()
    install("acme", version="2.0")
    install("acme", version="1.0", folder=later)
    assert [entry.version for entry in scan([str(site), str(later), str(site), "/does/not/exist"])] == ["2.0"]
    assert [entry.version for entry in scan([str(later), str(site)])] == ["1.0"]


def test_a_distribution_that_pip_is_removing_is_not_seen(site, install):
    install("acme")
    (site / "go_services_acme-1.0.dist-info").rename(site / "~o_services_acme-1.0.dist-info")
    assert scan([str(site)]) == []


def test_plugins_in_an_archive_on_the_path_are_found(tmp_path):
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped-4.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: zipped\nVersion: 4.0\n\n")
        file.writestr("zipped-4.0.dist-info/entry_points.txt", "[go_services.plugins]\nzipped = zipped_plugin\n")
    assert [(entry.id, entry.version) for entry in scan([str(archive)])] == [("zipped", "4.0")]


def test_pins_of_dependencies_are_not_looked_at(site, install):
    install("acme")
    with (site / "go_services_acme-1.0.dist-info" / "METADATA").open("w") as file:
        file.write("Name: go-services-acme\nVersion: 1.0\nRequires-Dist: surely-not-installed>=99\n\n")
    manager = PluginManager(path=[str(site)])
    manager.load()
    assert "acme" in manager.catalog().providers


FIFTY = """
import sys
from go_services_core.plugins import PluginManager
manager = PluginManager(path=[{site!r}])
if {load}:
    assert len(manager.catalog().providers) == 50
assert len(manager.plugins) == 51
assert "importlib.metadata" not in sys.modules, "importlib.metadata"
assert "asyncio" not in sys.modules, "asyncio"
print(len(sys.modules), sum(name.startswith("go_services_acme") for name in sys.modules))
"""


def _fifty(site: Path, *, load: bool) -> tuple[int, int]:
    code = FIFTY.format(site=str(site), load=load)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules, ours = done.stdout.split()
    return int(modules), int(ours)


def test_fifty_plugins_are_listed_without_importing_one(site, install):
    for number in range(50):
        install(f"acme{number}")
    modules, ours = _fifty(site, load=False)
    assert ours == 0
    assert modules <= 240


def test_fifty_plugins_are_loaded_within_the_budget_of_modules(site, install):
    for number in range(50):
        install(f"acme{number}")
    modules, ours = _fifty(site, load=True)
    assert ours == 50
    assert modules <= 260
