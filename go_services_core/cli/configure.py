"""``go-services configure``"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from .options import dry_run
from .session import Session, pass_session

if TYPE_CHECKING:
    from ..config import Config
    from ..secret import SecretStr
    from .configurable import Form, Question


@click.command()
@click.argument("target", metavar="PLUGIN")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="Answer one question; then nothing is asked.")
@dry_run
@pass_session
def configure(session: Session, target: str, given: tuple[str, ...], dry_run: bool) -> None:
    """Ask for the settings of PLUGIN, a plugin or a provider, and write them into the configuration file.

    A secret is written as a reference: to an environment variable, or to a file that only you can read and that is
    made from what you type, unseen. Enter keeps what is set. Settings that few need, such as a client certificate, are
    asked for only where they are set; --set sets them.

    \b
    go-services configure github
    go-services configure github --set client_id=Iv1.0 --set client_secret=env:GITHUB_CLIENT_SECRET
    """
    from .configurable import forms
    from .edit import edit
    from .survey import survey

    config = session.config()
    catalog = survey(config).catalog()
    found = forms(config, catalog, target)
    typed: dict[str, SecretStr] = {}
    changes = _given(found, given) if given else _asked(found, config, tuple(catalog.secret_sources), typed)
    changes |= dict(
        choice for form in found for choice in form.chooses if choice[1].strip('"') != config.get(choice[0])
    )
    if changes:
        edit(session, changes, dry_run=dry_run)
    for key, secret in typed.items():
        _keep(session, key, secret, dry_run=dry_run)
    if not changes and not typed:
        click.echo("Nothing to change.")


def _given(found: Iterable[Form], given: Iterable[str]) -> dict[str, str | None]:
    from ..errors import nearest

    questions = {question.name: question for form in found for question in form.questions}
    changes: dict[str, str | None] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{name} has no value; write NAME=VALUE", param_hint="--set")
        if name not in questions:
            near = nearest(name, questions)
            remedy = f"Did you mean {near!r}?" if near else f"There are {', '.join(questions) or 'none'}."
            raise click.BadParameter(f"there is no setting {name!r}. {remedy}", param_hint="--set")
        changes[questions[name].key] = questions[name].literal(value)
    return changes


def _asked(
    found: Iterable[Form], config: Config, schemes: tuple[str, ...], typed: dict[str, SecretStr]
) -> dict[str, str | None]:
    changes: dict[str, str | None] = {}
    for form in found:
        if form.questions:
            click.echo(f"Settings of the {form.title}. Enter keeps what is set, or leaves the default.", err=True)
        for question in form.questions:
            present = config.get(question.key) is not None
            if question.rare and not present:
                continue
            if question.secret:
                answer = _ask_secret(question, schemes, present, typed)
            else:
                answer = _ask(question, config, present)
            if answer:
                changes[question.key] = question.literal(answer)
    return changes


def _ask(question: Question, config: Config, present: bool) -> str:
    from .questions import ask

    click.echo(f"# {question.help}", err=True)
    current = str(config.get(question.key)) if present else None
    must = question.required and not present
    answer = ask(question.name, default=None if must else current or "")
    return "" if answer == current else answer


def _ask_secret(question: Question, schemes: tuple[str, ...], present: bool, typed: dict[str, SecretStr]) -> str:
    """A reference, or nothing when it was skipped or typed; what was typed goes to ``typed``."""
    from .questions import ask, ask_secret

    click.echo(f"# {question.help}", err=True)
    suggested = question.key.removeprefix("providers.").replace(".", "_").replace("-", "_").upper()
    ways = "env (in a variable), file (type it now)" + (", or Enter to keep it" if present else ", or Enter for none")
    while True:
        answer = ask(f"{question.name}: {ways}", default="")
        if answer == "env":
            return f"env:{ask('Name of the variable', default=suggested)}"
        if answer == "file":
            typed[question.key] = ask_secret(question.name)
            return ""
        if answer.partition(":")[0] in schemes and ":" in answer:
            return answer
        if not answer and (present or not question.required):
            return ""
        click.echo(f"Answer env, file or a reference ({', '.join(f'{scheme}:…' for scheme in schemes)}).", err=True)


def _keep(session: Session, key: str, secret: SecretStr, *, dry_run: bool) -> None:
    """Write a typed secret beside the configuration file, and the reference into it."""
    from .edit import edit
    from .init import write_private

    path = session.path.parent / "secrets" / key
    click.echo(f"{'Would write' if dry_run else 'Wrote'} {path} (readable by you only)")
    if dry_run:
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, secret, replace=True)
    edit(session, {key: f'"file:secrets/{key}"'}, dry_run=False)
