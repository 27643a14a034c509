"""Finding, choosing and loading plugins, and asking each for what it offers.

pluggy keeps the implementations and checks their arguments. The calls are made here, one plugin at a time, so that the
owner of each record is known and the failure of one plugin costs nothing but that plugin.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import pluggy
from attrs import define, evolve, frozen

from ._version import VERSION
from .catalog import KINDS, Catalog, Offer, Owner, assemble
from .distributions import Entry, scan
from .errors import PluginBroken, PluginConflict, PluginIncompatible, PluginNotFound, ServicesError, nearest
from .hookspecs import COLLECTED, CONTRACT, PROJECT, HookSpecs

if TYPE_CHECKING:
    from .config.layers import Config
    from .specs import ProviderSpec

Status = Literal["installed", "loaded", "disabled", "broken", "incompatible"]
BUILTIN = "builtin"
APPLICATION = "application"
"""Owner of the providers that the application hands in as records."""

_CORE = Entry(BUILTIN, f"{__package__}.builtin.plugin", "go-services-core", VERSION, "")
_HOOKS = frozenset(name for name in vars(HookSpecs) if name.startswith("gs_"))


@frozen(kw_only=True)
class PluginInfo:
    """A plugin and how far it got. ``kinds`` are the hooks that it implements, without ``gs_``."""

    id: str
    distribution: str | None = None
    version: str | None = None
    kinds: tuple[str, ...] = ()
    status: Status = "installed"
    error: str | None = None
    module: str | None = None


class _Hooks(pluggy.PluginManager):
    """pluggy, which looks at attributes with our prefix only: reading others may run code, and takes time."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        return super().parse_hookimpl_opts(plugin, name) if name.startswith("gs_") else None


@define
class _Plugin:
    info: PluginInfo
    explicit: bool
    """Named in ``enabled``, or handed in as an object: its failure is an error, not a warning."""

    @property
    def owner(self) -> Owner:
        return Owner(self.info.id, self.info.distribution, self.info.version)


class PluginManager:
    """The plugins of one runtime.

    ``enabled`` is an allow list, and whoever is on it must work. ``disabled`` plugins are not imported. ``prefer``
    maps an id that several plugins offer to the plugin (or distribution) that gets it. ``strict`` makes every broken
    plugin an error. ``path`` says where metadata is looked for instead of ``sys.path``; modules always come from
    ``sys.path``. The built-in plugin (``builtin``) is loaded unless it is disabled.
    """

    def __init__(
        self,
        *,
        enabled: Iterable[str] | None = None,
        disabled: Iterable[str] = (),
        prefer: Mapping[str, str] | None = None,
        strict: bool = False,
        path: Sequence[str] | None = None,
    ) -> None:
        self._enabled = None if enabled is None else frozenset(enabled)
        self._disabled = frozenset(disabled)
        self._prefer = dict(prefer or {})
        self._strict = strict
        self._path = path
        self._given: Mapping[str, object] | None = None
        self._loaded: dict[str, _Plugin] | None = None
        self._hooks = _Hooks(PROJECT)
        self._offers: list[Offer] | None = None

    @classmethod
    def of(cls, plugins: Mapping[str, object], **options: Any) -> PluginManager:
        """A manager of these plugin objects (modules, instances) and the built-in one, without discovery.

        An object without ``GS_CONTRACT`` counts as written for this release. ``options`` are those of the class.
        """
        made = cls(**options)
        made._given = dict(plugins)
        return made

    @classmethod
    def from_config(cls, config: Config) -> PluginManager:
        """A manager for the installed plugins, as ``[plugins]`` chooses."""
        return cls(
            enabled=config.get("plugins.enabled"),
            disabled=config.get("plugins.disabled"),
            prefer=config.get("plugins.prefer"),
            strict=config.get("plugins.strict"),
        )

    # --- finding and loading ---------------------------------------------------------------------------------------

    def discover(self) -> tuple[PluginInfo, ...]:
        """What is installed, by id, from metadata alone: nothing is imported, nothing raised.

        Status is ``installed``, ``disabled`` or, for metadata that cannot be used, ``broken``.
        """
        found = []
        for id, entries in self._installed().items():
            for entry in entries:
                info = _info(entry)
                if not self._wanted(id):
                    info = evolve(info, status="disabled")
                elif len(entries) > 1:
                    info = evolve(info, status="broken", error=_twice(entries))
                elif entry.problem is not None:
                    info = evolve(info, status="broken", error=entry.problem)
                found.append(info)
        return tuple(found)

    def load(self) -> None:
        """Import the chosen plugins and register their hooks; doing it again does nothing.

        Raises:
            PluginNotFound: an enabled plugin is not installed.
            PluginConflict: two distributions bring a plugin of the same name.
            PluginBroken, PluginIncompatible: an enabled plugin cannot be used, or any, under ``strict``.
        """
        if self._loaded is not None:
            return
        installed = self._installed()
        for name in sorted((self._enabled or frozenset()) - self._disabled):
            if name not in installed:
                hint = f"Install go-services-{name}, or take it out of plugins.enabled."
                raise PluginNotFound.named("plugin", name, installed, hint=hint)
        hooks = _Hooks(PROJECT)
        hooks.add_hookspecs(HookSpecs)
        loaded: dict[str, _Plugin] = {}
        for id, entries in installed.items():
            if len(entries) > 1 and self._wanted(id):
                hint = f"Uninstall one of them, or put {id!r} into plugins.disabled."
                raise PluginConflict(_twice(entries), hint=hint, plugin=id)
            plugin = _Plugin(_info(entries[0]), explicit=self._is_explicit(id))
            loaded[id] = plugin
            if self._wanted(id):
                self._load_one(plugin, entries[0], hooks)
            else:
                plugin.info = evolve(plugin.info, status="disabled")
        self._hooks, self._loaded = hooks, loaded

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """Every plugin, by id, with what became of it; what ``discover`` says before ``load``."""
        if self._loaded is None:
            return self.discover()
        return tuple(plugin.info for plugin in self._loaded.values())

    def _installed(self) -> dict[str, list[Entry]]:
        by_id: dict[str, list[Entry]] = {BUILTIN: [_CORE]}
        entries = [Entry(id, "", "", "", "") for id in self._given] if self._given is not None else scan(self._path)
        for entry in entries:
            by_id.setdefault(entry.id, []).append(entry)
        return dict(sorted(by_id.items()))

    def _wanted(self, id: str) -> bool:
        if id in self._disabled:
            return False
        return self._enabled is None or id in self._enabled or id == BUILTIN

    def _is_explicit(self, id: str) -> bool:
        return id == BUILTIN or self._given is not None or (self._enabled is not None and id in self._enabled)

    def _load_one(self, plugin: _Plugin, entry: Entry, hooks: _Hooks) -> None:
        id = plugin.info.id
        if entry.problem is not None:
            self._fail(plugin, entry.problem)
            return
        given = None if self._given is None else self._given.get(id)
        if given is None:
            from importlib import import_module

            try:
                given = import_module(entry.module)
            except (Exception, SystemExit) as error:
                self._fail(plugin, f"importing {entry.module} failed: {_said(error)}", error)
                return
            contract = getattr(given, "GS_CONTRACT", None)
        else:
            contract = getattr(given, "GS_CONTRACT", CONTRACT)
        if contract != CONTRACT:
            says = "does not say for which contract it was written" if contract is None else f"is for {contract!r}"
            what = f"it {says} (GS_CONTRACT), and this core has contract {CONTRACT}"
            self._fail(plugin, what, status="incompatible")
            return
        fault = _misnamed(given)
        if fault is None:
            try:
                hooks.register(given, name=id)
            except Exception as error:
                fault = " ".join(str(error).split())  # pluggy says it in several lines
        if fault is not None:
            self._fail(plugin, fault)
            return
        kinds = tuple(
            name.removeprefix("gs_")
            for name in sorted(_HOOKS)
            if any(implementation.plugin_name == id for implementation in getattr(hooks.hook, name).get_hookimpls())
        )
        plugin.info = evolve(plugin.info, status="loaded", kinds=kinds)

    def _fail(
        self, plugin: _Plugin, what: str, cause: BaseException | None = None, *, status: Status = "broken"
    ) -> None:
        """Take a plugin out; the others go on, unless this one was asked for."""
        plugin.info = evolve(plugin.info, status=status, error=what)
        who = f"The plugin {plugin.info.id!r}"
        if plugin.info.distribution:
            who += f" of {plugin.owner}"
        if plugin.explicit or self._strict:
            error = PluginIncompatible if status == "incompatible" else PluginBroken
            hint = f"Repair it, or put {plugin.info.id!r} into plugins.disabled."
            raise error(f"{who} cannot be used: {what}.", hint=hint, plugin=plugin.info.id) from cause
        _warn(f"{who} is left out: {what}")

    # --- collecting ------------------------------------------------------------------------------------------------

    def catalog(self, declared: Iterable[ProviderSpec] = ()) -> Catalog:
        """Load, and put everything that the plugins offer, and the ``declared`` providers, into one catalogue.

        A plugin whose hook fails or whose records are wrong is taken out and the catalogue made without it. At the
        end every ``gs_catalog_ready`` is called.

        Raises:
            PluginConflict: two plugins offer the same id of one kind, and ``prefer`` does not choose.
            PluginBroken: an enabled plugin is broken, or ``gs_catalog_ready`` refuses.
            PluginNotFound, PluginIncompatible: as ``load``.
        """
        self.load()
        if self._offers is None:
            self._offers = [offer for plugin in self._working() if (offer := self._collected(plugin)) is not None]
        own = tuple(declared)
        offers = [*self._offers, Offer(Owner(APPLICATION), {"gs_providers": own})] if own else self._offers
        while True:
            catalog, faults = assemble(offers, self._prefer, warn=_warn)
            if not faults:
                break
            for id, what in faults.items():
                if id == APPLICATION:
                    raise PluginBroken(f"A provider that the application declares cannot be used: {what}.")
                self._fail(self._by_id(id), what)
            offers = [offer for offer in offers if offer.owner.plugin not in faults]
            self._offers = [offer for offer in self._offers if offer.owner.plugin not in faults]
        for plugin, implementation in self._implementations("gs_catalog_ready"):
            try:
                _call(implementation, {"catalog": catalog})
            except Exception as error:
                refused = f"The plugin {plugin.info.id!r} refuses the start: {_said(error)}"
                raise PluginBroken(refused, plugin=plugin.info.id) from error
        return catalog

    def offered(self, id: str) -> Mapping[str, tuple[Any, ...]]:
        """What one plugin returns from its collected hooks, by hook name, whoever else offers the same.

        Raises:
            PluginNotFound: it is not installed.
            PluginBroken: it is not loaded, or one of its hooks fails.
        """
        self.load()
        if self._loaded is None or id not in self._loaded:
            raise PluginNotFound.named("plugin", id, self._loaded or ())
        plugin = self._loaded[id]
        offer = self._collected(plugin) if plugin.info.status == "loaded" else None
        if offer is None:
            why = plugin.info.error or plugin.info.status
            raise PluginBroken(f"The plugin {id!r} is not loaded: {why}", plugin=id)
        return offer.records

    def first(self, hook: str, provider_id: str) -> Any | None:
        """The first object that a plugin gives for ``provider_id``, by plugin id and the core last, or None.

        A plugin that fails here is taken out with a warning, and the next one is asked.
        """
        return self.first_with_owner(hook, provider_id)[1]

    def first_with_owner(self, hook: str, provider_id: str) -> tuple[str, Any | None]:
        """As ``first``, with the id of the plugin that gives it, or an empty one."""
        if hook not in _HOOKS:
            _unknown_hook(hook)
        self.load()
        for plugin, implementation in self._implementations(hook):
            try:
                found = _call(implementation, {"provider_id": provider_id})
            except (Exception, SystemExit) as error:
                self._fail(plugin, f"{hook} failed for {provider_id!r}: {_said(error)}", error)
                continue
            if found is not None:
                return plugin.info.id, found
        return "", None

    def lifespans(self, runtime: Any) -> list[Any]:
        """The async context managers that plugins want entered while ``runtime`` is open, by plugin id."""
        self.load()
        found = []
        for plugin, implementation in self._implementations("gs_lifespan"):
            try:
                lifespan = _call(implementation, {"runtime": runtime})
            except (Exception, SystemExit) as error:
                self._fail(plugin, f"gs_lifespan failed: {_said(error)}", error)
                continue
            if hasattr(lifespan, "__aenter__") and hasattr(lifespan, "__aexit__"):
                found.append(lifespan)
            elif lifespan is not None:
                self._fail(plugin, f"gs_lifespan returned {_a(lifespan)}, not an async context manager")
        return found

    def _by_id(self, id: str) -> _Plugin:
        assert self._loaded is not None
        return self._loaded[id]

    def _working(self) -> Iterator[_Plugin]:
        """Loaded plugins by id, the core last."""
        assert self._loaded is not None
        working = [plugin for plugin in self._loaded.values() if plugin.info.status == "loaded"]
        yield from sorted(working, key=lambda plugin: plugin.info.id == BUILTIN)

    def _implementations(self, hook: str) -> Iterator[tuple[_Plugin, Any]]:
        by_plugin = {found.plugin_name: found for found in getattr(self._hooks.hook, hook).get_hookimpls()}
        for plugin in self._working():
            if plugin.info.id in by_plugin:
                yield plugin, by_plugin[plugin.info.id]

    def _collected(self, plugin: _Plugin) -> Offer | None:
        records: dict[str, tuple[Any, ...]] = {}
        for hook in COLLECTED:
            if hook.removeprefix("gs_") not in plugin.info.kinds:
                continue
            for found in getattr(self._hooks.hook, hook).get_hookimpls():
                if found.plugin_name != plugin.info.id:
                    continue
                try:
                    records[hook] = _records(hook, _call(found, {}))
                except (Exception, SystemExit) as error:
                    self._fail(plugin, f"{hook} {_said(error)}", error)
                    return None
        return Offer(plugin.owner, records)


class _WrongResult(Exception):
    """A hook returned something else than records; the message continues the hook's name."""


def _records(hook: str, result: Any) -> tuple[Any, ...]:
    expected = KINDS[hook].record
    if result is None:
        return ()
    if inspect.iscoroutine(result):
        result.close()
        raise _WrongResult("is an async function; hooks are plain functions")
    if isinstance(result, (str, bytes, Mapping)) or not isinstance(result, Iterable):
        raise _WrongResult(f"returned {_a(result)}; it must return {expected.__name__} records in a list or tuple")
    records = tuple(result)
    for record in records:
        if not isinstance(record, expected):
            raise _WrongResult(f"returned {_a(record)} among its records; all must be {expected.__name__}")
    return records


def _call(implementation: Any, arguments: Mapping[str, Any]) -> Any:
    return implementation.function(*[arguments[name] for name in implementation.argnames])


def _misnamed(plugin: object) -> str | None:
    """What is wrong with the ``gs_`` names of a plugin: unknown, not marked, or a wrapper."""
    for name in dir(plugin):
        if not name.startswith("gs_"):
            continue
        member = inspect.getattr_static(plugin, name)
        function = getattr(member, "__func__", member)
        options = getattr(function, f"{PROJECT}_impl", None)
        if options is None:
            if name in _HOOKS and inspect.isfunction(function) and not hasattr(function, f"{PROJECT}_spec"):
                return f"{name} is not marked with @hookimpl, so it would never be called"
        elif name not in _HOOKS or options.get("specname"):
            near = nearest(name, _HOOKS)
            meant = f"; did you mean {near}?" if near else ""
            return f"it implements {name}, which core {VERSION} does not know{meant}"
        elif options.get("wrapper") or options.get("hookwrapper"):
            return f"{name} is a wrapper, and these hooks have none"
    return None


def _unknown_hook(name: str) -> NoReturn:
    near = nearest(name, _HOOKS)
    raise PluginBroken(f"There is no hook {name!r}.", hint=f"Did you mean {near}?" if near else None)


def _info(entry: Entry) -> PluginInfo:
    return PluginInfo(
        id=entry.id,
        distribution=entry.distribution or None,
        version=entry.version or None,
        module=entry.module or None,
    )


def _twice(entries: Sequence[Entry]) -> str:
    origins = " and ".join(entry.origin for entry in entries)
    return f"The plugin {entries[0].id!r} is there twice: {origins}."


def _said(error: BaseException) -> str:
    if isinstance(error, _WrongResult):
        return str(error)
    text = str(error.message if isinstance(error, ServicesError) else error).partition("\n")[0]
    return f"raised {type(error).__name__}: {text}" if text else f"raised {type(error).__name__}"


def _a(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _warn(text: str) -> None:
    import logging  # only needed here, and slow to import

    logging.getLogger("go_services.plugins").warning("%s", text)
