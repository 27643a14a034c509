"""``go-services plugins``: what is installed, whether it works, which are used, and a new one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..counted import counted
from .exits import FAILED, OK, PLUGIN
from .lazy import Group
from .options import as_json, dry_run
from .output import clean, fields, show_error, show_json, table
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..catalog import Catalog
    from ..plugins import PluginInfo
    from ..testing.kit import Result


@click.group(cls=Group)
def plugins() -> None:
    """List, show, check, switch and make plugins.

    \b
    go-services plugins list
    go-services plugins check ./go-services-acme
    """


@plugins.command("list")
@click.option("--no-load", is_flag=True, help="Read the installed packages' metadata only; import no plugin.")
@as_json
@pass_session
def list_plugins(session: Session, no_load: bool, as_json: bool) -> int:
    """List all plugins with their status: loaded, disabled, broken or incompatible.

    One that is broken or incompatible does not hide the others; the exit code is then 4.
    """
    from ..plugins import PluginManager
    from .survey import survey

    config = session.config()
    conflict = None
    if no_load:
        found = PluginManager.from_config(config).discover()
    else:
        surveyed = survey(config)
        found, conflict = surveyed.plugins, surveyed.conflict
    if as_json:
        show_json({"plugins": [_summary(info) for info in found]})
    else:
        rows = [(info.id, info.version, info.status, info.kinds, info.distribution) for info in found]
        table(("id", "version", "status", "kinds", "distribution"), rows, empty="No plugin is installed.")
        for info in found:
            if info.error:
                click.echo(f"{info.id}: {clean(info.error)}", err=True)
    if conflict is not None:
        show_error(conflict)
    return PLUGIN if conflict is not None or any(_unusable(info) for info in found) else OK


@plugins.command()
@click.argument("plugin")
@as_json
@pass_session
def show(session: Session, plugin: str, as_json: bool) -> int:
    """Show one plugin: where it comes from, how far it got and what it registers.

    \b
    go-services plugins show github
    """
    from .survey import survey

    surveyed = survey(session.config())
    info = _find(surveyed.plugins, plugin)
    offers = _offers(surveyed.catalog(), plugin) if info.status == "loaded" else {}
    if as_json:
        show_json({**_summary(info), "module": info.module, "offers": offers})
    else:
        rows: list[tuple[str, Any]] = [
            ("id", info.id),
            ("status", info.status),
            ("distribution", info.distribution),
            ("version", info.version),
            ("module", info.module),
        ]
        rows += [(kind.replace("_", " "), ids) for kind, ids in offers.items()]
        if info.error:
            rows.append(("error", info.error))
        fields(rows)
    return PLUGIN if _unusable(info) else OK


@plugins.command()
@click.argument("target", metavar="ID|PATH")
@as_json
@pass_session
def check(session: Session, target: str, as_json: bool) -> int:
    """Run the conformance checks on a plugin, installed (ID) or in a folder with a pyproject.toml (PATH).

    Exits with 1 when a check of level `must` fails, with 4 when the plugin does not load. One of level `should` that is
    not kept is shown as advice.

    \b
    go-services plugins check github
    go-services plugins check ./go-services-acme
    """
    from .check_plugin import check_plugin
    from .source_tree import importable
    from .survey import survey

    folder = Path(target)
    in_folder = folder.is_dir() and (folder / "pyproject.toml").exists()
    config = session.config()
    reports = []
    with importable(folder) if in_folder or "/" in target else nullcontext((target,)) as ids:
        surveyed = survey(config, wanted=ids if in_folder else ())
        for plugin in ids:
            info = _find(surveyed.plugins, plugin)
            reports.append((plugin, check_plugin(info, surveyed)))
    results = [(plugin, subject, result) for plugin, checked in reports for subject, result in checked]
    outcomes = [_outcome(result) for _, _, result in results]
    failed = outcomes.count("failed")
    if as_json:
        show_json(
            {
                "ok": not failed,
                "checks": [
                    {
                        "plugin": plugin,
                        "subject": subject,
                        "id": result.check.id,
                        "level": result.check.level,
                        "outcome": result.outcome,
                        "rule": result.check.rule,
                        "detail": result.detail,
                    }
                    for plugin, subject, result in results
                ],
            }
        )
    else:
        rows = [
            (outcome, result.check.id, subject, result.detail or result.check.rule)
            for outcome, (_, subject, result) in zip(outcomes, results, strict=True)
        ]
        table(("outcome", "check", "subject", "rule"), rows, empty="There is nothing to check.")
        advised = f", {outcomes.count('advice')} not as advised" if "advice" in outcomes else ""
        click.echo(f"{counted(len(results), 'check')}, {failed} failed{advised}.")
    return FAILED if failed else OK


def _outcome(result: Result) -> str:
    """As people read it: what is only advice does not fail a plugin."""
    return "advice" if result.outcome == "failed" and result.check.level == "should" else result.outcome


@plugins.command()
@click.argument("plugin")
@dry_run
@pass_session
def enable(session: Session, plugin: str, dry_run: bool) -> None:
    """Use a plugin again: take it off `plugins.disabled`, and put it on `plugins.enabled` where that list is used."""
    config = session.config()
    info = _find(_discovered(session), plugin)
    changes: dict[str, list[str]] = {}
    disabled = list(config.get("plugins.disabled") or ())
    enabled = config.get("plugins.enabled")
    if info.id in disabled:
        changes["plugins.disabled"] = [other for other in disabled if other != info.id]
    if enabled is not None and info.id not in enabled:
        changes["plugins.enabled"] = [*enabled, info.id]
    _write(session, changes, dry_run, unchanged=f"{info.id} is enabled already.")


@plugins.command()
@click.argument("plugin")
@dry_run
@pass_session
def disable(session: Session, plugin: str, dry_run: bool) -> None:
    """Stop using a plugin: it stays installed and is not imported any more."""
    config = session.config()
    info = _find(_discovered(session), plugin)
    changes: dict[str, list[str]] = {}
    disabled = list(config.get("plugins.disabled") or ())
    enabled = config.get("plugins.enabled")
    if info.id not in disabled:
        changes["plugins.disabled"] = [*disabled, info.id]
    if enabled is not None and info.id in enabled:
        changes["plugins.enabled"] = [other for other in enabled if other != info.id]
    _write(session, changes, dry_run, unchanged=f"{info.id} is disabled already.")


@plugins.command()
@click.argument("name")
@click.option(
    "--dir",
    "parent",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to make the folder; by default here.",
)
@dry_run
def new(name: str, parent: Path, dry_run: bool) -> None:
    """Make a package with a new provider plugin in it, to change to what the vendor's documentation says.

    \b
    go-services plugins new acme
    pip install -e "./go-services-acme[test]"
    go-services plugins check acme
    """
    from .new_plugin import new_package, write_package

    made = new_package(name)
    folder = parent / f"go-services-{name.replace('_', '-')}"
    if not dry_run:
        write_package(made, folder)
    click.echo(f"{'Would make' if dry_run else 'Made'} {folder} with {counted(len(made), 'file')}:")
    for path in made:
        click.echo(f"  {path}")
    if not dry_run:
        click.echo(f'Next: pip install -e "{folder}[test]"')


def _summary(info: PluginInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "distribution": info.distribution,
        "version": info.version,
        "kinds": list(info.kinds),
        "status": info.status,
        "error": info.error,
    }


def _unusable(info: PluginInfo) -> bool:
    return info.status in ("broken", "incompatible")


def _discovered(session: Session) -> tuple[PluginInfo, ...]:
    from ..plugins import PluginManager

    return PluginManager.from_config(session.config()).discover()


def _find(found: tuple[PluginInfo, ...], plugin: str) -> PluginInfo:
    from ..errors import PluginNotFound

    for info in found:
        if info.id == plugin:
            return info
    raise PluginNotFound.named(
        "plugin", plugin, [info.id for info in found], hint="`go-services plugins list` shows what is installed."
    )


def _offers(catalog: Catalog, plugin: str) -> Mapping[str, list[str]]:
    offers: dict[str, list[str]] = {}
    for (kind, id), owner in sorted(catalog.owners.items(), key=lambda item: item[0]):
        if owner.plugin == plugin:
            offers.setdefault(kind, []).append(id)
    return offers


def _write(session: Session, changes: Mapping[str, list[str]], dry_run: bool, *, unchanged: str) -> None:
    import json

    from .edit import edit

    if changes:
        # a JSON array of strings is a TOML array too
        edit(session, {key: json.dumps(ids) for key, ids in changes.items()}, dry_run=dry_run)
    else:
        click.echo(unchanged)
