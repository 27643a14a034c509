"""The settings of one plugin or provider, as questions to ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ..catalog import Catalog
from ..config import Config
from ..config.document import quote, quote_key
from ..config.roots import StoreRoot
from ..config.structure import fields_of, hints, is_secret, type_name
from ..errors import BadInput, PluginNotFound
from ..refs import Ref
from ..specs import ProviderSpec


@attrs.frozen(kw_only=True)
class Question:
    """One setting: its key in the file, and what may be answered."""

    key: str
    name: str
    help: str
    type: str
    required: bool
    secret: bool
    example: str | None
    rare: bool
    """Not asked for where it is not set already."""

    def literal(self, answer: str) -> str:
        """The answer as TOML writes it.

        Raises:
            BadInput: a secret in clear; the value is not repeated.
        """
        if self.secret and ":" not in answer:
            raise BadInput(
                f"{self.name} is a secret and takes a reference: env:NAME or file:PATH.",
                hint="What is on a command line can be read by others; leave it out to be asked.",
                field=self.key,
            )
        if self.type.startswith("list of"):
            return "[" + ", ".join(quote(item.strip()) for item in answer.split(",") if item.strip()) + "]"
        if self.type in ("integer", "number", "true or false") or self.type.startswith("table of"):
            return answer
        return quote(answer)


@attrs.frozen(kw_only=True)
class Form:
    """The questions of one record, and the values that choose it."""

    title: str
    questions: tuple[Question, ...]
    chooses: tuple[tuple[str, str], ...] = ()
    """Keys and TOML texts that put the record to use."""


def forms(config: Config, catalog: Catalog, target: str) -> list[Form]:
    """What can be configured of a plugin (its id) or of one provider (its id, or that of an instance of it).

    Raises:
        PluginNotFound: there is no such plugin or provider, or it has nothing to configure.
    """
    found = [form for kind, id, spec in _records(config, catalog, target) if (form := _form(catalog, kind, id, spec))]
    if not found:
        known = {owner.plugin for owner in catalog.owners.values()} | {*catalog.providers, *config.table("providers")}
        if target in known:
            raise PluginNotFound(f"The plugin {target!r} has no settings.", plugin=target)
        raise PluginNotFound.named("plugin or provider", target, known)
    return found


def _records(config: Config, catalog: Catalog, target: str) -> Iterator[tuple[str, str, Any]]:
    owned = [key for key, owner in catalog.owners.items() if owner.plugin == target]
    for kind, id in owned:
        yield kind, id, getattr(catalog, kind)[id]
    if not owned:
        used = config.get(f"providers.{quote_key(target)}.use", target)
        if used in catalog.providers:
            yield "providers", target, catalog.providers[used]


def _form(catalog: Catalog, kind: str, id: str, spec: Any) -> Form | None:
    prefix, classes, chooses = _place(catalog, kind, id, spec)
    questions = tuple(question for cls in classes for question in _questions(prefix, cls))
    if not questions and not chooses:
        return None
    return Form(title=f"{kind.removesuffix('s').replace('_', ' ')} {id}", questions=questions, chooses=chooses)


def _place(catalog: Catalog, kind: str, id: str, spec: Any) -> tuple[str, list[Any], tuple[tuple[str, str], ...]]:
    if isinstance(spec, ProviderSpec):
        strategies = [catalog.auth_strategy(auth.kind).settings for auth in spec.auth]
        return f"providers.{quote_key(id)}", [spec.settings, *dict.fromkeys(strategies)], ()
    if kind == "stores":
        return "store", [StoreRoot, spec.settings], ()
    if kind == "secret_backends":
        return f"secrets.{quote_key(id)}", [spec.settings], (("secrets.backend", quote(id)),)
    if kind == "transports":
        return "transport" if id == "rest" else f"transport.{quote_key(id)}", [spec.settings], ()
    if kind == "observers":
        return f"observers.{quote_key(id)}", [spec.settings], ()
    return "", [], ()


def _questions(prefix: str, cls: Any) -> Iterator[Question]:
    resolved = cls.resolve() if isinstance(cls, Ref) else cls
    if resolved is None:
        return
    types = hints(resolved)
    for name, field in fields_of(resolved).items():
        hint = types[field.name]
        yield Question(
            key=f"{prefix}.{quote_key(name)}",
            name=name,
            help=field.metadata.get("help", ""),
            type=type_name(hint),
            required=field.default is attrs.NOTHING,
            secret=is_secret(field, hint),
            example=field.metadata.get("example"),
            rare=bool(field.metadata.get("rare")),
        )
