"""Every problem of a configuration in one report, and every setting in one list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ..catalog import Catalog
from ..distributions import normalised
from ..endpoints import ENDPOINT_PROVIDER
from ..errors import ConfigError, ServicesError, nearest
from ..providers import collect_instances
from ..refs import Ref
from .document import quote_key
from .layers import Config
from .roots import ROOTS, ProviderCommon
from .secrets import resolver
from .structure import Reader, fields_of, hints, is_secret, type_name

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")


@attrs.frozen
class Setting:
    """One setting. ``default`` is ``attrs.NOTHING`` where it is required."""

    key: str
    type: str
    default: Any
    help: str
    secret: bool
    example: str | None = None


def check(config: Config, catalog: Catalog) -> list[str]:
    """Every problem of every table, each with key, origin and remedy; secrets are resolved, nothing is connected."""
    try:
        resolve = resolver(config, catalog)
    except ConfigError:
        resolve = None  # the type of a [runtime] setting is wrong; that is reported below
    reader = config.reader(resolve)
    reader.problems += config.root_problems()
    for part in (_core, _store, _secrets, _transport, _observers, _egress):
        try:
            part(config, catalog, reader)
        except ServicesError as error:
            reader.problems.append(str(error))
    return list(dict.fromkeys([*reader.problems, *reader.missing]))


def _core(config: Config, catalog: Catalog, reader: Reader) -> None:
    for root in ("runtime", "worker", "plugins"):
        config.read(reader, root, ROOTS[root])
    prefer = config.table("plugins").get("prefer", {})
    for id, preferred in (prefer if isinstance(prefer, dict) else {}).items():
        rivals = [owner for (_, known), owner in catalog.owners.items() if known == id]
        names = {normalised(name) for owner in rivals for name in (owner.plugin, owner.distribution) if name}
        schemes = {scheme for store in catalog.stores.values() for scheme in store.url_schemes}
        if isinstance(preferred, str) and normalised(preferred) not in names and id not in schemes:
            by = ", ".join(sorted({str(owner) for owner in rivals})) or "nobody"
            reader.problem(("plugins", "prefer", id), f"{preferred!r} does not offer {id!r}; {by} does.")


def _store(config: Config, catalog: Catalog, reader: Reader) -> None:
    table = config.table("store")
    url = table.get("url")
    try:
        spec = catalog.store_for(str(url))
    except ConfigError as error:
        config.read(reader, "store", ROOTS["store"], ignore=frozenset(table) - {"url"})
        reader.problem(("store", "url"), str(error))
        return
    config.read(reader, "store", ROOTS["store"], spec.settings)


def _secrets(config: Config, catalog: Catalog, reader: Reader) -> None:
    (root,) = config.read(reader, "secrets", ROOTS["secrets"])
    if root is not None:
        try:
            catalog.secret_backend(root.backend)
        except ServicesError as error:
            reader.problem(("secrets", "backend"), str(error))
    chosen = {root.backend} & catalog.secret_backends.keys() if root is not None else set()
    _by_id(config, reader, "secrets", catalog.secret_backends, always=chosen)


def _observers(config: Config, catalog: Catalog, reader: Reader) -> None:
    config.read(reader, "observers")
    _by_id(config, reader, "observers", catalog.observers, always=set(catalog.observers))


def _by_id(config: Config, reader: Reader, root: str, specs: Mapping[str, Any], *, always: set[str]) -> None:
    set_ = config.table(root)
    tables = {id for id, table in set_.items() if isinstance(table, dict)}
    for id in sorted(tables | (always - set_.keys())):
        if id not in specs:
            near = nearest(id, specs)
            known = ", ".join(sorted(specs)) or "none"
            remedy = f"Did you mean [{root}.{near}]?" if near else f"Installed: {known}."
            reader.problem((root, id), f"no installed plugin offers {id!r}. {remedy}")
        else:
            config.read(reader, f"{root}.{quote_key(id)}", specs[id].settings)


def _transport(config: Config, catalog: Catalog, reader: Reader) -> None:
    rest = catalog.transports.get("rest")
    table = config.table("transport")
    if table or rest is not None:
        config.read(reader, "transport", catalog.transport("rest").settings)
    own = _fields(rest.settings) if rest is not None else set()
    kinds = {kind: spec for kind, spec in catalog.transports.items() if kind != "rest" and spec.settings is not None}
    for kind in sorted(name for name, value in table.items() if isinstance(value, dict) and name not in own):
        if kind in kinds:
            config.read(reader, f"transport.{quote_key(kind)}", kinds[kind].settings)
        else:
            near = nearest(kind, kinds)
            known = ", ".join(sorted(kinds)) or "none"
            remedy = f"Did you mean [transport.{near}]?" if near else f"Kinds that have: {known}."
            reader.problem(("transport", kind), f"no installed transport kind has settings under {kind!r}. {remedy}")


def _fields(settings: Any) -> set[str]:
    cls = settings.resolve() if isinstance(settings, Ref) else settings
    return set() if cls is None else set(fields_of(cls))


def _egress(config: Config, catalog: Catalog, reader: Reader) -> None:
    instances = collect_instances(config, catalog, reader)
    (root,) = config.read(reader, "egress", ROOTS["egress"])
    known = {*instances, *config.table("providers"), ENDPOINT_PROVIDER}
    for id, entries in (root.allow if root is not None else {}).items():
        path = ("egress", "allow", id)
        if id not in known:
            near = nearest(id, known)
            reader.problem(path, f"there is no provider {id!r}." + (f" Did you mean {near!r}?" if near else ""))
        for entry in entries:
            if not _HOST_PORT.fullmatch(entry):
                reader.problem(path, f"{entry!r} does not read 'host:port'.")


def describe(catalog: Catalog) -> list[Setting]:
    """Every setting of the core and of the catalogue's plugins, by key; ``<id>`` stands for any provider's id."""
    found: dict[str, Setting] = {}
    for prefix, cls in _classes(catalog):
        resolved = cls.resolve() if isinstance(cls, Ref) else cls
        if resolved is None:
            continue
        types_of = hints(resolved)
        for name, field in fields_of(resolved).items():
            hint = types_of[field.name]
            found.setdefault(
                f"{prefix}.{name}",
                Setting(
                    key=f"{prefix}.{name}",
                    type=type_name(hint),
                    default=field.default,
                    help=field.metadata.get("help", ""),
                    secret=is_secret(field, hint),
                    example=field.metadata.get("example"),
                ),
            )
    return sorted(found.values(), key=lambda setting: setting.key)


def _classes(catalog: Catalog) -> Iterator[tuple[str, Any]]:
    yield from ROOTS.items()
    yield "providers.<id>", ProviderCommon
    for strategy in catalog.auth_strategies.values():
        yield "providers.<id>", strategy.settings
    for store in catalog.stores.values():
        yield "store", store.settings
    for transport in catalog.transports.values():
        yield "transport" if transport.kind == "rest" else f"transport.{transport.kind}", transport.settings
    by_id: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("providers", catalog.providers),
        ("secrets", catalog.secret_backends),
        ("observers", catalog.observers),
    )
    for root, records in by_id:
        for id, record in records.items():
            yield f"{root}.{id}", record.settings
