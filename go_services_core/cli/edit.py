"""Changing the configuration file: the change is tried on a copy first, so that a wrong one changes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING

import click

from ..config import Config, check, set_value, unset_value
from ..errors import ConfigError
from .output import clean
from .survey import survey

if TYPE_CHECKING:
    from .session import Session


def edit(session: Session, changes: Mapping[str, str | None], *, dry_run: bool) -> None:
    """Set each key to its TOML text, or take it out where that is None, and say so.

    Raises:
        ConfigError: there is no file, or a changed key would not be valid; the file was not changed.
    """
    path = session.path
    if not path.exists():
        raise ConfigError(f"There is no configuration file {path}.", hint="`go-services init` writes one.")
    handle, name = mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)  # beside it: relative paths stay right
    trial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(path.read_bytes())
        _apply(trial, changes)
        config = Config.load(trial, environ={**_stand_ins(changes), **os.environ})
        problems = check(config, survey(config).catalog())
    finally:
        trial.unlink()
    caused = [problem.replace(trial.name, path.name) for problem in problems if _about(problem, changes)]
    if caused:
        raise ConfigError(problems=caused, hint="The file was not changed.")
    if not dry_run:
        _apply(path, changes)
    for key, text in changes.items():
        done = ("Would set" if dry_run else "Set") if text is not None else ("Would unset" if dry_run else "Unset")
        click.echo(f"{done} {key}{'' if text is None else ' = ' + clean(text)} in {path}")


def _stand_ins(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Values for the environment variables that the changes refer to: they may be set only where the file is used."""
    texts = [text.strip("\"' ") for text in changes.values() if text is not None]
    return {text.removeprefix("env:"): "set elsewhere" for text in texts if text.startswith("env:")}


def _apply(path: Path, changes: Mapping[str, str | None]) -> None:
    for key, text in changes.items():
        if text is None:
            unset_value(path, key)
        else:
            set_value(path, key, text)


def _about(problem: str, changes: Mapping[str, str | None]) -> bool:
    named = problem.partition(" ")[0].rstrip(":")
    return any(
        changed is not None
        and (named == key or named.startswith((f"{key}.", f"{key}[")) or key.startswith(f"{named}."))
        for key, changed in changes.items()
    )
