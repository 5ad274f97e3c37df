"""Reading configs so that every mistake is told at once: path, value, rule, and the nearest valid key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

__all__ = ["ConfigError", "Problem", "load_yaml", "parse_yaml", "validate"]

M = TypeVar("M", bound=BaseModel)

MAX_YAML_BYTES = 1_000_000
LONGEST_SHOWN = 160
MOST_TOLD = 100


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is, what stands there, and the rule it breaks (with the way out)."""

    path: str
    value: object
    rule: str

    def __str__(self) -> str:
        shown = repr(self.value)
        if len(shown) > LONGEST_SHOWN:  # paths tell at both ends
            shown = f"{shown[: LONGEST_SHOWN // 2]} ... {shown[-LONGEST_SHOWN // 2 :]}"
        return f"{self.path or '(top level)'}: {self.rule}, got {shown}"


class ConfigError(ValueError):
    """Bad input, told completely; verbs print it without a traceback and exit with code 2.

    Attributes:
        problems: every mistake found, in the order of the file.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def single(cls, path: str, value: object, rule: str) -> ConfigError:
        """The error for one mistake."""
        return cls([Problem(path, value, rule)])

    def __reduce__(self) -> tuple[Any, ...]:
        return ConfigError, (self.problems,)


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases (they can expand without bound) and duplicate keys, and with 1e-3 read as a number."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "aliases (*name) are not allowed here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a scalar", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str, name: str) -> Any:
    """Parse YAML safely: plain data only, no aliases, no duplicate keys.

    Raises:
        ConfigError: naming `name`, the line and what is wrong.
    """
    if len(text.encode(errors="replace")) > MAX_YAML_BYTES:
        raise ConfigError.single(name, f"{len(text)} characters", f"must be smaller than {MAX_YAML_BYTES:,} bytes")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError.single(name + line, error.problem, "is not plain YAML") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError.single(name, str(error).splitlines()[0], "is not plain YAML") from None
    except RecursionError:
        raise ConfigError.single(name, "thousands of nested levels", "is not plain YAML") from None


def load_yaml(path: Path) -> Any:
    """`parse_yaml` on a file.

    Raises:
        ConfigError: if the file cannot be read or is not plain YAML.
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ConfigError.single(
                str(path), f"{path.stat().st_size:,} bytes", f"must be below {MAX_YAML_BYTES:,} bytes"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError.single(str(path), error.strerror, "must be a readable YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError.single(str(path), f"byte {error.start}", "must be UTF-8 text") from None
    return parse_yaml(text, str(path))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def valid_keys(model: type[BaseModel], location: Iterable[object]) -> list[str]:
    """The keys allowed at `location`, a pydantic error location whose last item is the offending key."""
    models = [model]
    *parents, _ = location
    for item in parents:
        fields = [m.model_fields[str(item)] for m in models if str(item) in m.model_fields]
        if fields:
            models = [found for field in fields for found in _models_in(field.annotation)]
        else:  # a tag of a union
            models = [
                m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == item
            ] or models
    return sorted({key for m in models for key in m.model_fields})


def _tags(model: type[BaseModel], location: Iterable[object]) -> str:
    for item in location:
        models = _models_in(model.model_fields[str(item)].annotation)
    return ", ".join(repr(m.model_fields["kind"].default) for m in models)


def nearest(key: str, keys: Iterable[str]) -> str:
    """A hint like ", did you mean `lr`?", or the list of valid keys when none is near."""
    keys = list(keys)
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"valid keys: {', '.join(keys)}"


def _holds(node: object, item: object) -> bool:
    if isinstance(node, list | tuple):
        return isinstance(item, int) and item < len(node)
    return isinstance(node, Mapping) and item in node


def _problem(model: type[BaseModel], tree: object, error: Mapping[str, Any]) -> Problem:
    location: tuple[object, ...] = error["loc"]
    kind, context = error["type"], error.get("ctx", {})
    path, node = [], tree
    for item in location:  # union tags and pydantic's own labels are no part of the user's path
        if _holds(node, item):
            node = node[item]  # type: ignore[index]
        elif item is not location[-1] or kind != "missing":
            continue
        path.append(str(item))
    dotted = ".".join(path)
    if kind == "extra_forbidden":
        key = str(location[-1])
        return Problem(dotted, error["input"], f"unknown key, {nearest(key, valid_keys(model, location))}")
    if kind == "missing":
        return Problem(dotted, None, "is required")
    if kind == "union_tag_not_found":
        return Problem(f"{dotted}.kind", None, f"is required, one of {_tags(model, location)}")
    if kind == "union_tag_invalid":
        return Problem(f"{dotted}.kind", context["tag"], f"must be one of {context['expected_tags']}")
    if kind == "value_error":
        return Problem(dotted, error["input"], str(context["error"]))
    message = error["msg"]
    return Problem(dotted, error["input"], message.replace("Input should", "must", 1))


def validate(model: type[M], tree: object) -> M:
    """Build a pydantic model from plain data.

    Raises:
        ConfigError: with every mistake at once.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as invalid:
        problems: dict[tuple[str, str], Problem] = {}
        errors = invalid.errors(include_url=False)
        for error in errors[:MOST_TOLD]:
            problem = _problem(model, tree, error)
            if error["type"] == "literal_error" and isinstance(error["input"], Mapping):
                continue  # the mapping's own mistakes follow: the union's other member is not what was meant
            problems.setdefault((problem.path, problem.rule), problem)
        told = list(problems.values())
        if len(errors) > MOST_TOLD:
            told.append(Problem("", f"{len(errors)} mistakes", f"only the first {MOST_TOLD} are listed"))
        raise ConfigError(told) from None
