"""The layers of the configuration: defaults < file < environment < arguments, and where each value came from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Final

import attrs

from ..errors import ConfigError, nearest
from ..refs import Ref
from ..secret import MASK, SecretStr
from .document import Path, join_key, scan, split_key
from .roots import BY_ID, ROOTS
from .structure import Reader, Text, fields_of, hints, is_secret

if TYPE_CHECKING:
    from ..catalog import Catalog

FILE_NAME: Final = "go-services.toml"
FILE_VARIABLE: Final = "GO_SERVICES_CONFIG"
_PREFIX: Final = "GO_SERVICES__"
_SECRET_NAME = re.compile(r"(secret|passw|passphrase|token|credential|private|material|(^|_)key)", re.IGNORECASE)
_NOT_SECRET_NAME = re.compile(r"(_url|_uri|_id|_ids|_path|_header|_field|_seconds|_style|_name)$", re.IGNORECASE)
_SECRET_TABLE = re.compile(r"(secret|password|token|credential)s$", re.IGNORECASE)
"""A table of secrets, whose keys are whose they are."""
_URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):\S*@")


@attrs.frozen
class ConfigValue:
    """One value for display: ``value`` never shows a secret."""

    key: str
    value: Any
    origin: str


class Config:
    """All layers as one tree. Made by :meth:`load`.

    ``path`` is the file, absolute, or None; ``folder`` is what relative paths and store URLs are relative to: the
    file's folder, else the working directory; ``environ`` is the environment that the layers were read from.
    """

    def __init__(self, path: FilePath | None, environ: Mapping[str, str]) -> None:
        self.path = path
        self.folder = path.parent if path is not None else FilePath.cwd()
        self.environ = environ
        self._tree: dict[str, Any] = {}
        self._origins: dict[Path, str] = {}

    @classmethod
    def load(
        cls,
        path: str | FilePath | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Config:
        """Read all layers.

        Args:
            path: The file; else that of ``GO_SERVICES_CONFIG``; else ``go-services.toml`` in the working directory,
                if there is one.
            environ: Instead of the process's environment. ``GO_SERVICES__STORE__URL`` sets ``store.url``.
            arguments: Dotted keys, or tables, that beat everything else.

        Raises:
            ConfigError: the file that was named does not exist, or a layer cannot be read.
        """
        environ = os.environ if environ is None else environ
        config = cls(_find(path, environ), environ)
        if config.path is not None:
            config._add_file(config.path)
        config._add_environment()
        for key, value in (arguments or {}).items():
            config._merge(_split(key), value, lambda _: "argument")
        config._place_store()
        return config

    # --- layers ----------------------------------------------------------------------------------------------------

    def _add_file(self, path: FilePath) -> None:
        import tomllib

        try:
            text = path.read_text(encoding="utf-8")
            tree = tomllib.loads(text)
        except OSError as error:
            raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error
        lines = scan(text).lines()

        def origin(at: Path) -> str:
            while at not in lines and at:
                at = at[:-1]
            return f"{path.name} line {lines[at]}" if at else path.name

        self._merge((), tree, origin)

    def _add_environment(self) -> None:
        for name in sorted(self.environ):
            if not name.upper().startswith(_PREFIX):
                continue
            parts = tuple(name[len(_PREFIX) :].lower().split("__"))
            if len(parts) < 2 or not all(parts):
                problem = f"the environment variable {name} does not name a setting; {_PREFIX}STORE__URL sets store.url"
                raise ConfigError(problems=[problem])
            self._merge(self._spelled(parts), Text(self.environ[name]), partial(_from_variable, name))

    def _spelled(self, parts: tuple[str, ...]) -> Path:
        """The path with the hyphens of a key that is there already: a variable's name cannot have any."""
        node: Any = self._tree
        spelled: Path = ()
        for part in parts:
            names = {name.lower().replace("-", "_"): name for name in node} if isinstance(node, Mapping) else {}
            name = names.get(part, part)
            spelled = (*spelled, name)
            node = node.get(name) if isinstance(node, Mapping) else None
        return spelled

    def _merge(self, path: Path, value: Any, origin: Callable[[Path], str]) -> None:
        if isinstance(value, Mapping):
            if path:
                self._origins.setdefault(path, origin(path))
            for name, inner in value.items():
                self._merge((*path, name), inner, origin)
            if path and not value:
                self._node(path)
            return
        node, name = self._node(path[:-1]), str(path[-1])
        if name in node:  # what stood there may have had inner origins
            for known in [known for known in self._origins if known[: len(path)] == path]:
                del self._origins[known]
        node[name] = value
        self._origins[path] = origin(path)
        if isinstance(value, (list, tuple)):
            for index in range(len(value)):
                self._origins[(*path, index)] = origin((*path, index))

    def _node(self, path: Path) -> dict[str, Any]:
        node = self._tree
        for depth, part in enumerate(path):
            inner = node.setdefault(str(part), {})
            if not isinstance(inner, dict):
                where = path[: depth + 1]
                raise ConfigError(
                    problems=[f"{join_key(where)} ({self._origin(where)}): is a value, and {join_key(path)} a table."]
                )
            node = inner
        return node

    def _place_store(self) -> None:
        """Make a relative SQLite URL relative to the configuration file, not to the working directory."""
        store = self._tree.setdefault("store", {})
        if not isinstance(store, dict):
            return
        url = store.get("url", attrs.fields(ROOTS["store"]).url.default)
        if isinstance(url, str):
            scheme, mark, rest = url.partition(":///")
            if mark and scheme.startswith("sqlite") and rest and not rest.startswith(("/", ":memory:")):
                url = f"{scheme}:///{(self.folder / rest).resolve()}"
            store["url"] = url
            self._origins.setdefault(("store", "url"), "default")

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key; else ``default``; else, for the core's own settings, their default.

        Values of the core's own settings have their field's type, also when they come from the environment.

        Raises:
            ConfigError: the value does not fit its field.
        """
        path = _split(key)
        field = self._core_field(path)
        value = self._at(path)
        if value is None:
            if default is None and field is not None:
                return field.default
            return default
        if field is None:
            return str(value) if isinstance(value, Text) else _copied(value)
        reader = self.reader(None)
        made = reader.value(hints(ROOTS[str(path[0])])[field.name], value, path)
        if reader.problems:
            raise ConfigError(problems=reader.problems, field=key)
        return made

    def origin(self, key: str) -> str:
        """Where the value of a dotted key comes from: ``go-services.toml line 14``, ``environment variable …``,
        ``argument`` or ``default``."""
        return self._origin(_split(key))

    def table(self, key: str) -> dict[str, Any]:
        """A copy of the table at a dotted key; empty when there is none.

        Raises:
            ConfigError: the key has a value, not a table.
        """
        value = self._at(_split(key))
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ConfigError(problems=[f"{key} ({self.origin(key)}): must be a table."], field=key)
        return {name: _copied(inner) for name, inner in value.items()}

    def bind(self, key: str, *classes: Any, resolve: Callable[[str], SecretStr]) -> tuple[Any, ...]:
        """Instances of the settings classes that share the table at ``key``.

        Args:
            key: Dotted key of the table.
            classes: Settings classes, ``Ref``s of them, or None, which gives None.
            resolve: What turns references into secrets: :func:`~go_services_core.config.resolver`.

        Raises:
            ConfigError: with every problem of the table at once, and of the roots' names.
        """
        reader = self.reader(resolve)
        reader.problems += self.root_problems()
        made = self.read(reader, key, *classes)
        problems = reader.problems + reader.missing
        if problems:
            raise ConfigError(problems=problems, field=key)
        return made

    def read(self, reader: Reader, key: str, *classes: Any, ignore: frozenset[str] = frozenset()) -> tuple[Any, ...]:
        """As :meth:`bind`, but problems go to ``reader`` and stand for None."""
        path = _split(key)
        found = self._at(path)
        if found is not None and not isinstance(found, dict):
            reader.problem(path, "must be a table.")
            return tuple(None for _ in classes)
        table = {name: value for name, value in (found or {}).items() if name not in ignore}
        resolved = [cls.resolve() if isinstance(cls, Ref) else cls for cls in classes]
        known = {name for cls in resolved if cls is not None for name in fields_of(cls)}
        if key in BY_ID:
            table = {name: value for name, value in table.items() if name in known or not isinstance(value, dict)}
        reader.unknown(path, table, known)
        return tuple(None if cls is None else reader.record(cls, table, path) for cls in resolved)

    def reader(self, resolve: Callable[[str], SecretStr] | None) -> Reader:
        """A reader of this configuration's tables. Without ``resolve`` references stay as they are."""
        return Reader(origin=self._origin, folder=self.folder, resolve=resolve)

    def root_problems(self) -> list[str]:
        """A problem for each table that the core does not know."""
        problems = []
        for name, value in self._tree.items():
            where = f"{join_key((name,))} ({self._origin((name,))})"
            if name not in ROOTS:
                near = nearest(name, ROOTS)
                remedy = f"did you mean [{near}]?" if near else f"there are {', '.join(f'[{root}]' for root in ROOTS)}."
                problems.append(f"{where}: there is no such table; {remedy}")
            elif not isinstance(value, dict):
                problems.append(f"{where}: must be a table.")
        return problems

    def values(self, catalog: Catalog | None = None) -> tuple[ConfigValue, ...]:
        """Every value that is set, and the defaults of the core's own settings, by key; secrets are masked.

        With a ``catalog``, references of its secret sources (``vault:…``) are shown as such, not masked.
        """
        schemes = {"env", "file", *(catalog.secret_sources if catalog is not None else ())}
        leaves = dict(self._leaves((), self._tree))
        for root, cls in ROOTS.items():
            if cls is not None:
                for name, field in fields_of(cls).items():
                    if not any(path[:2] == (root, name) for path in leaves):
                        leaves[root, name] = field.default
        return tuple(
            ConfigValue(join_key(path), self._printable(path, value, schemes), self._origin(path))
            for path, value in sorted(leaves.items(), key=lambda item: join_key(item[0]))
        )

    def _printable(self, path: Path, value: Any, schemes: set[str]) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._printable(path, item, schemes) for item in value]
        if isinstance(value, Mapping):
            return {name: self._printable((*path, name), item, schemes) for name, item in value.items()}
        if isinstance(value, SecretStr):
            return MASK
        if not isinstance(value, str):
            return value
        name = str(path[-1])
        field = self._core_field(path)
        known = field is not None and path[0] in ROOTS
        secret = (
            is_secret(field, hints(ROOTS[str(path[0])])[field.name])
            if known and field is not None
            else (bool(_SECRET_NAME.search(name)) and not _NOT_SECRET_NAME.search(name))
            or (len(path) > 2 and _SECRET_TABLE.search(str(path[-2])) is not None)
        )
        if secret and value.partition(":")[0] not in schemes:
            return MASK
        return _URL_PASSWORD.sub(rf"\1:{MASK}@", str(value))

    def _leaves(self, path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from self._leaves((*path, name), inner)
        else:
            yield path, value

    def _core_field(self, path: Path) -> attrs.Attribute[Any] | None:
        cls = ROOTS.get(str(path[0]))
        return fields_of(cls).get(str(path[1])) if cls is not None and len(path) == 2 else None

    def _at(self, path: Path) -> Any:
        node: Any = self._tree
        for part in path:
            if not isinstance(node, Mapping):
                return None
            node = node.get(part)
        return node

    def _origin(self, path: Path) -> str:
        if path in self._origins:
            return self._origins[path]
        inherited = path[:-1]
        if self._at(path) is None and not any(isinstance(part, int) for part in path):
            return "default"
        while inherited and inherited not in self._origins:
            inherited = inherited[:-1]
        return self._origins.get(inherited, "default")


def _from_variable(name: str, _: Path) -> str:
    return f"environment variable {name}"


def _find(path: str | FilePath | None, environ: Mapping[str, str]) -> FilePath | None:
    named = path if path is not None else environ.get(FILE_VARIABLE) or None
    found = FilePath(named).expanduser() if named is not None else FilePath(FILE_NAME)
    if found.is_file():
        return found.absolute()
    if named is None:
        return None
    by = "" if path is not None else f", which {FILE_VARIABLE} names,"
    hint = "Make one with `go-services init`, or name another with --config."
    raise ConfigError(f"The configuration file {found}{by} does not exist.", hint=hint)


def _split(key: str) -> Path:
    try:
        return split_key(key)
    except ValueError:
        raise ConfigError(f"{key!r} is not a dotted key such as store.url.") from None


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(inner) for name, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
