"""Plug-ins: code of other packages that a study or a config names by its `kind`.

A plug-in is named by an entry point of an installed distribution, or by a dotted path (`package.module:Name`). No file
alone may run code: entry points are what the user installed, and a dotted path is imported only from a package that
was allowed by name (`--plugin package` on the command line, `plugins=["package"]` in Python). What was recorded is read
without any of that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from pathlib import Path
from sysconfig import get_path
from traceback import extract_tb
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from trainables.config.hints import nearest
from trainables.config.problems import ConfigError, Problem, validate

__all__ = [
    "PluginKind",
    "allow_plugins",
    "allowed_plugins",
    "allowing",
    "as_recorded",
    "checked_settings",
    "dotted_path",
    "is_dotted_path",
    "is_recorded",
    "load_plugin",
    "named_plugins",
    "package_of",
    "plugin_names",
    "plugin_settings",
    "said",
]

T = TypeVar("T", bound=BaseModel)
PluginKind = Literal["searcher", "scheduler", "model", "data_source", "listener"]

_DOTTED_PATH = re.compile(r"([A-Za-z_]\w*)(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_LIBRARIES = ("<frozen", get_path("stdlib"), get_path("purelib"))
_allowed: dict[str, None] = {}
_named: dict[str, None] = {}
_reading: ContextVar[bool] = ContextVar("reading", default=False)


def allow_plugins(packages: Iterable[str]) -> None:
    """Allow dotted paths into these top-level packages, in this process, until it ends.

    Raises:
        ConfigError: if one is no package's name, such as a file's or `package.module`.
    """
    for package in packages:
        if not package.isidentifier():
            meant = package_of(Path(package).name)
            hint = f": --plugin {meant}" if meant.isidentifier() else ""
            raise ConfigError.single("--plugin", package, f"must be a package's name without path, .py or module{hint}")
        _allowed[package] = None


def allowed_plugins() -> tuple[str, ...]:
    """The packages that were allowed, in order."""
    return tuple(_allowed)


def named_plugins() -> tuple[str, ...]:
    """The packages that were allowed, and those that records name: what a run of the same needs."""
    return tuple(_allowed | _named)


@contextmanager
def as_recorded() -> Iterator[None]:
    """Configs and studies that are read in here name plug-ins without loading them, with settings as they stand there.

    Also a decorator. To build what they name still needs `load_plugin`, which asks whether it was allowed.
    """
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


def is_recorded(kind: str) -> bool:
    """Whether `kind` is read as it was recorded, and must not be loaded; its package is among `named_plugins` then."""
    if _reading.get() and is_dotted_path(kind):
        _named[package_of(kind)] = None
    return _reading.get()


def allowing(kind: str) -> str:
    """The option that allows what `kind` names, with a space before it; empty where nothing has to be allowed."""
    return f" --plugin {package_of(kind)}" if is_dotted_path(kind) else ""


def package_of(path: str) -> str:
    """The package that a dotted path names: what has to be allowed."""
    return path.partition(":")[0].partition(".")[0]


def is_dotted_path(kind: str) -> bool:
    """Whether `kind` has the form `package.module:Name`."""
    return _DOTTED_PATH.fullmatch(kind) is not None


def dotted_path(plugin: PluginKind, loaded: Any) -> str:
    """The dotted path of a class or function that was passed as an object; its package is allowed from now on.

    Raises:
        ConfigError: if another process could not import it: it stands in a notebook, a script or a function.
    """
    path = f"{loaded.__module__}:{loaded.__qualname__}"
    if loaded.__module__ == "__main__" or not is_dotted_path(path):
        rule = "must be a class or function of a module that the workers can import: write it into a file of its own"
        raise ConfigError.single(plugin, path, rule)
    allow_plugins([package_of(path)])
    return path


@cache
def _entry_points(plugin: PluginKind) -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=f"resnet_search.{plugin}s")}


def plugin_names(plugin: PluginKind) -> list[str]:
    """The names that installed distributions give to plug-ins of this sort (`resnet_search.searchers`, ...)."""
    return sorted(_entry_points(plugin))


def load_plugin(plugin: PluginKind, kind: str) -> Any:
    """What an entry point or a dotted path names.

    Raises:
        ValueError: saying the rule, if there is no such thing, it cannot be imported, or its package was not allowed.
    """
    if kind in _entry_points(plugin):
        try:
            return _entry_points(plugin)[kind].load()
        except Exception as error:  # noqa: BLE001 (their module's own code runs)
            raise ValueError(f"is an entry point that cannot be loaded ({said(error)})") from None
    if not is_dotted_path(kind):
        known = ", ".join(plugin_names(plugin)) or "none is installed"
        raise ValueError(f"must be a plug-in's entry point ({known}) or a dotted path like package.module:Name")
    module, _, name = kind.partition(":")
    package = package_of(kind)
    if package not in _allowed:
        raise ValueError(f"names code of the package {package}, which runs only if you allow it: --plugin {package}")
    try:
        return attrgetter(name)(import_module(module))
    except Exception as error:  # noqa: BLE001 (their module's own code runs)
        raise ValueError(_unloadable(module, name, error)) from None


def _unloadable(module: str, name: str, error: Exception) -> str:
    """The rule that a dotted path breaks: there is no such module, no such name in it, or its own code fails."""
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        places = "the current folder, on PYTHONPATH or among the installed packages"
        return f"names the module {error.name}, and there is none in {places}"
    if isinstance(error, AttributeError) and (loaded := sys.modules.get(module)) is not None:  # so it was imported
        own = [key for key, value in vars(loaded).items() if getattr(value, "__module__", None) == module]
        return f"names `{name}`, and {module} has no such name; {nearest(name, own, 'it defines')}"
    return f"cannot be loaded ({said(error)})"


def said(error: Exception) -> str:
    """What an error of a plug-in's code says, in a line, and where in that code, if it got so far."""
    text = (str(error).strip().splitlines() or [""])[0]
    called = extract_tb(error.__traceback__)[1:]  # the first frame is the caller's
    theirs = [frame for frame in called if not frame.filename.startswith(_LIBRARIES)]
    place = f", {Path(theirs[-1].filename).name} line {theirs[-1].lineno}" if theirs else ""
    return f"{type(error).__name__}: {text}{place}"


def plugin_settings(loaded: Any, settings: Mapping[str, Any]) -> Any:
    """`settings` checked by the plug-in's own pydantic model, its attribute `Settings`; None if it has no settings.

    Raises:
        ConfigError: with every mistake, its path relative to `settings`.
        ValueError: if there are settings and the plug-in takes none.
    """
    model = getattr(loaded, "Settings", None)
    if model is not None:
        return checked_settings(model, settings)
    if settings:
        raise ValueError(f"must be empty: {getattr(loaded, '__name__', loaded)} takes no settings")
    return None


def checked_settings(model: type[T], settings: Mapping[str, Any]) -> T:
    """`settings` as `model` has them, which decides itself about unknown keys if it sets pydantic's `extra`.

    Raises:
        ConfigError: with every mistake, its path relative to `settings`.
    """
    known = list(model.model_fields)
    unknown = [key for key in settings if key not in known]
    if unknown and "extra" not in model.model_config:  # pydantic's own default ignores what is misspelled
        raise ConfigError(Problem(key, settings[key], f"unknown key, {nearest(key, known)}") for key in unknown)
    return validate(model, dict(settings))
