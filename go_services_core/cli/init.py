"""``go-services init``"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from .options import dry_run
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..secret import SecretStr

_KEY_FILE: Final = "go-services.key"
_TEXT: Final = """\
# Configuration of go_services. Every setting is described by: go-services config schema
# A value may also come from the environment: GO_SERVICES__STORE__URL sets store.url.

[store]
# Where connections, credentials and events are kept. Relative to this file.
url = "sqlite:///go-services.db"

[secrets]
# What wraps the keys of everything that is stored.
backend = "appkey"

[secrets.appkey]
# A reference, never the key itself. Whoever has this key can read the stored credentials; without it nobody can.
key = "file:{key_file}"

# [runtime]
# Where providers send the browser back to.
# callback_url = "https://app.example/callback"

# [plugins]
# All installed plugins are used unless they are listed here.
# disabled = []

# [providers.github]
# client_id = "…"
# client_secret = "env:GITHUB_CLIENT_SECRET"
"""


@click.command()
@click.option("--force", is_flag=True, help="Replace the files. What is sealed with the old key can then not be read.")
@dry_run
@pass_session
def init(session: Session, force: bool, dry_run: bool) -> None:
    """Write go-services.toml and, beside it, a key file that only you can read.

    \b
    go-services init
    go-services --config deploy/app.toml init
    """
    from ..errors import Conflict

    path = session.path
    key_path = path.with_name(_KEY_FILE)
    present = [str(file) for file in (path, key_path) if file.exists()]
    if present and not force:
        verb = "exist" if len(present) > 1 else "exists"
        raise Conflict(f"{' and '.join(present)} {verb} already.", hint="Nothing was written. --force replaces.")
    key = _generate_key()
    if not dry_run:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(key_path, key, replace=force)
        _write(path, _TEXT.format(key_file=_KEY_FILE), replace=force)
    for file in (path, key_path):
        click.echo(f"{'Would write' if dry_run else 'Wrote'} {file}")
    if not dry_run:
        click.echo("Keep the key file out of version control, and a copy of it in a safe place.")
        click.echo("Next: go-services store migrate, then go-services doctor")


def write_private(path: Path, secret: SecretStr, *, replace: bool) -> None:
    """Write a secret into a file that was made with mode 0600, so that it is never readable by others."""
    if replace:
        path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(secret.reveal() + "\n")


def _write(path: Path, text: str, *, replace: bool) -> None:
    with path.open("w" if replace else "x", encoding="utf-8") as file:
        file.write(text)


def _generate_key() -> SecretStr:
    from ..refs import Ref

    made: SecretStr = Ref(
        "go_services_secrets_appkey.key:generate_key", hint='Install it: pip install "go-services-core[standard]"'
    ).resolve()()
    return made
