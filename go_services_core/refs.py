"""A reference to an object that is imported on first use."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

from attrs import field, frozen

from .errors import PluginBroken

T = TypeVar("T")

_MISSING: Any = object()
_resolved: dict[str, Any] = {}


@frozen
class Ref(Generic[T]):
    """``Ref("package.module:Name")``: what a plugin module points at without importing it.

    ``hint`` is the sentence shown when the import fails, usually what to install.
    """

    target: str = field()
    hint: str | None = field(default=None, kw_only=True, eq=False)

    @target.validator
    def _check(self, _: Any, value: str) -> None:
        module, colon, name = value.partition(":")
        if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise ValueError(f"a reference reads 'package.module:Name', not {value!r}")

    def resolve(self) -> T:
        """Import and return the object.

        Raises:
            PluginBroken: the module does not import, or has no such name.
        """
        found = _resolved.get(self.target, _MISSING)
        if found is _MISSING:
            found = _resolved[self.target] = self._import()
        return cast("T", found)

    def _import(self) -> Any:
        from importlib import import_module

        module, _, name = self.target.partition(":")
        try:
            return getattr(import_module(module), name)
        except (Exception, SystemExit) as error:
            raise PluginBroken(
                f"{self.target} cannot be loaded: {type(error).__name__}: {error}", hint=self.hint
            ) from error
