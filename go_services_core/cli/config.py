"""``go-services config``: what is set, where it comes from, and changing it."""

from __future__ import annotations

import click

from .exits import CONFIGURATION, FAILED, OK
from .lazy import Group
from .options import as_json, dry_run
from .output import clean, show_json, table
from .session import Session, pass_session


@click.group(cls=Group)
def config() -> None:
    """Show, change and validate the configuration. Secrets are never shown, only the references to them.

    \b
    go-services config show --origin
    go-services config set store.url sqlite:///app.db
    go-services config validate
    """


@config.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@as_json
@pass_session
def show(session: Session, origin: bool, as_json: bool) -> None:
    """Show every value that is set and the defaults of the core's own settings."""
    from .survey import survey

    loaded = session.config()
    values = loaded.values(survey(loaded).catalog())
    if as_json:
        show_json({"values": [{"key": one.key, "value": one.value, "origin": one.origin} for one in values]})
        return
    rows = [(one.key, one.value, one.origin) if origin else (one.key, one.value) for one in values]
    table(("key", "value", "origin") if origin else ("key", "value"), rows, empty="Nothing is set.")


@config.command()
@click.argument("key")
@as_json
@pass_session
def get(session: Session, key: str, as_json: bool) -> int:
    """Print one value, or the values below a key; exit with 1 when it is not set."""
    from .survey import survey

    loaded = session.config()
    values = loaded.values(survey(loaded).catalog())
    found = {one.key: one.value for one in values if one.key == key or one.key.startswith(f"{key}.")}
    if as_json:
        show_json(found)
    elif key in found:
        click.echo(clean(found[key]))
    else:
        for name, value in found.items():
            click.echo(f"{name} = {clean(value)}")
    return OK if any(value is not None for value in found.values()) else FAILED


@config.command("set")
@click.argument("key")
@click.argument("value")
@dry_run
@pass_session
def set_(session: Session, key: str, value: str, dry_run: bool) -> None:
    """Set KEY to VALUE, a TOML value or plain text; everything else in the file stays, comments too.

    A secret is set as a reference: `go-services config set secrets.appkey.key env:GO_SERVICES_KEY`.
    """
    from .edit import edit

    edit(session, {key: value}, dry_run=dry_run)


@config.command()
@click.argument("key")
@dry_run
@pass_session
def unset(session: Session, key: str, dry_run: bool) -> None:
    """Take KEY out of the file, so that its default holds."""
    from .edit import edit

    edit(session, {key: None}, dry_run=dry_run)


@config.command()
@as_json
@pass_session
def validate(session: Session, as_json: bool) -> int:
    """Check the whole configuration and print every problem; exit with 3 when there is one."""
    from ..config import check

    loaded = session.config()
    problems = check(loaded, session.plugins(loaded).catalog())
    if as_json:
        show_json({"ok": not problems, "problems": problems})
    elif problems:
        for problem in problems:
            click.echo(clean(problem))
    else:
        click.echo(f"{loaded.path or 'The configuration'} is valid.")
    return CONFIGURATION if problems else OK


@config.command()
@click.argument("prefix", required=False)
@as_json
@pass_session
def schema(session: Session, prefix: str | None, as_json: bool) -> None:
    """List every setting of the core and of the installed plugins; with PREFIX only those below it.

    \b
    go-services config schema providers.github
    """
    import attrs

    from ..config import describe
    from .survey import survey

    found = describe(survey(session.config()).catalog())
    if prefix is not None:
        found = [one for one in found if one.key == prefix or one.key.startswith(f"{prefix}.")]
    if as_json:
        show_json(
            {
                "settings": [
                    {
                        "key": one.key,
                        "type": one.type,
                        "required": one.default is attrs.NOTHING,
                        "default": None if one.default is attrs.NOTHING else one.default,
                        "secret": one.secret,
                        "help": one.help,
                    }
                    for one in found
                ]
            }
        )
        return
    rows = [(one.key, one.type, "required" if one.default is attrs.NOTHING else one.default, one.help) for one in found]
    table(("key", "type", "default", "help"), rows, empty=f"There is no setting {prefix}.")
