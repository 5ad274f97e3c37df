"""The values a hyperparameter may take. A domain that makes no sense cannot be built."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import TypeAlias

from trainables.config import ConfigError, Problem
from trainables.config.part import LARGEST_INT

__all__ = [
    "Choice", "Domain", "Entry", "Fixed", "Float", "Int", "Parameter", "Scalar", "Space", "domain_text",
    "option_text", "same", "scalar_rule",
]  # fmt: skip

Scalar: TypeAlias = str | int | float | bool | None

WHOLE = f"an integer within +-2**{LARGEST_INT.bit_length() - 1}"


def option_text(value: Scalar) -> str:
    """A scalar as YAML writes it; names the branches in qualified keys."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def scalar_rule(value: object) -> str | None:
    """The rule that `value` breaks as an option or a fixed value; None if it breaks none."""
    if not isinstance(value, str | int | float | None):
        return "must be a scalar: text, a number, true, false or null"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        return f"must be {WHOLE}"
    return None


def same(left: object, right: object) -> bool:
    """Equality that distinguishes `true` from 1, which Python does not; lists equal tuples."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _number(value: object, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, Integral):
        return abs(int(value)) <= LARGEST_INT
    return not whole and isinstance(value, Real) and math.isfinite(float(value))


def _range_problems(low: object, high: object, log: object, step: object, whole: bool) -> Iterator[Problem]:
    what = WHOLE if whole else "a finite number"
    bounds = [("low", low), ("high", high)]
    wrong = [Problem(name, value, f"must be {what}") for name, value in bounds if not _number(value, whole)]
    if not isinstance(log, bool):
        wrong.append(Problem("log", log, "must be true or false"))
    stepped = step is not None and not (whole and step == 1)
    if stepped and (not _number(step, whole) or step <= 0):  # type: ignore[operator]
        wrong.append(Problem("step", step, f"must be {what} above 0"))
    if wrong:
        yield from wrong
        return
    if low >= high:  # type: ignore[operator]
        yield Problem("", [low, high], "low must be below high; a single value is written as a plain scalar")
        return
    if not math.isfinite(high - low):  # type: ignore[operator]
        yield Problem("", [low, high], "high - low must be finite")
    if log and low <= 0:  # type: ignore[operator]
        yield Problem("low", low, "must be above 0 with log")
    if log and stepped:
        yield Problem("step", step, "must be left out with log")
    elif stepped:
        steps = (high - low) / step  # type: ignore[operator]
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-6:
            whole_steps = max(math.floor(steps), 1)
            end = _on_step(low, step, whole_steps)  # type: ignore[arg-type]
            yield Problem("step", step, f"must divide high - low, as it does with high {end:g}")


def _on_step(low: float, step: float, steps: int) -> float:
    # In decimals, so that 0 + 3 * 0.1 is 0.3 and not 0.30000000000000004.
    return float(Decimal(repr(float(low))) + steps * Decimal(repr(float(step))))


@dataclass(frozen=True, slots=True)
class Float:
    """Real numbers from `low` to `high`, both included; with `step` only low, low + step, ..., high.

    `log` asks for draws uniform in the logarithm.

    Raises:
        ConfigError: unless low < high, low > 0 with log, step divides the range and is not combined with log.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        if problems := list(_range_problems(self.low, self.high, self.log, self.step, whole=False)):
            raise ConfigError(problems)
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))

    def contains(self, value: object) -> bool:
        """Whether `value` lies in the domain, and on a step except for rounding."""
        if not _number(value, whole=False):
            return False
        number = float(value)  # type: ignore[arg-type]
        if self.step is None:
            return self.low <= number <= self.high
        steps = (number - self.low) / self.step
        return abs(steps - round(steps)) < 1e-6 and 0 <= round(steps) <= round((self.high - self.low) / self.step)

    def canonical(self, value: Scalar) -> float:
        """A contained value as the domain writes it: a Python float, exactly on its step."""
        number = float(value)  # type: ignore[arg-type]
        if self.step is None:
            return number
        return _on_step(self.low, self.step, round((number - self.low) / self.step))


@dataclass(frozen=True, slots=True)
class Int:
    """Integers low, low + step, ..., high, both ends included; `log` asks for draws uniform in the logarithm.

    Raises:
        ConfigError: unless low < high, low > 0 with log, step divides the range and is not combined with log.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        if problems := list(_range_problems(self.low, self.high, self.log, self.step, whole=True)):
            raise ConfigError(problems)

    def contains(self, value: object) -> bool:
        """Whether `value` is an integer of the domain."""
        if not _number(value, whole=True):
            return False
        number: int = int(value)  # type: ignore[call-overload]
        return self.low <= number <= self.high and (number - self.low) % self.step == 0

    def canonical(self, value: Scalar) -> int:
        """A contained value as a Python int."""
        return int(value)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of `options`. `branches`, empty or as many as options, holds what else is searched when each is chosen.

    Raises:
        ConfigError: if there is no option, one is no finite scalar, or two are written alike.
    """

    options: tuple[Scalar, ...]
    branches: tuple[Space, ...] = ()

    def __post_init__(self) -> None:
        problems = [Problem("", option, rule) for option in self.options if (rule := scalar_rule(option))]
        if not self.options:
            problems.append(Problem("", list(self.options), "must hold at least one option"))
        if not problems:
            # 1 and 1.0 and true are one value to Python, 1 and "1" one name in a key.
            values: set[Scalar] = set()
            names: set[str] = set()
            for option in self.options:
                if option in values or option_text(option) in names:
                    problems.append(Problem("", option, "must differ from the options before it"))
                values.add(option)
                names.add(option_text(option))
        if self.branches and len(self.branches) != len(self.options):
            problems.append(Problem("", len(self.branches), f"must be {len(self.options)} branches, one an option"))
        if problems:
            raise ConfigError(problems)

    def _index(self, value: object) -> int | None:
        return next((i for i, option in enumerate(self.options) if same(option, value)), None)

    def contains(self, value: object) -> bool:
        """Whether `value` is an option."""
        return self._index(value) is not None

    def canonical(self, value: Scalar) -> Scalar:
        """The option that equals `value`."""
        return self.options[self._require(value)]

    def branch(self, value: Scalar) -> Space:
        """What else is searched when `value` is chosen."""
        return self.branches[self._require(value)] if self.branches else Space()

    def _require(self, value: Scalar) -> int:
        index = self._index(value)
        if index is None:
            raise ValueError(f"{value!r} is not one of the options {self.options}")
        return index


@dataclass(frozen=True, slots=True)
class Fixed:
    """Not searched: a scalar, or a tuple of scalars, that the space sets wherever it stands."""

    value: Scalar | tuple[Scalar, ...]


Domain: TypeAlias = Float | Int | Choice


def domain_text(domain: Domain | Fixed) -> str:
    """A domain in words: `0.01 to 1, log`, `32, 64, 128`."""
    if isinstance(domain, Fixed):
        values = domain.value if isinstance(domain.value, tuple) else (domain.value,)
        return f"{', '.join(option_text(value) for value in values)} (fixed)"
    if isinstance(domain, Choice):
        return ", ".join(option_text(option) for option in domain.options)
    text = f"{_plain(domain.low)} to {_plain(domain.high)}"
    if domain.log:
        text += ", log"
    if domain.step is not None and not (isinstance(domain, Int) and domain.step == 1):
        text += f", step {_plain(domain.step)}"
    return text


def _plain(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a space says about one path of a config.

    `requires` names another path: the entry only counts when the study's own config, or the option of a choice that
    searches that path, has a value there that is neither null, false, 0 nor `none`.
    """

    path: str
    domain: Domain | Fixed
    requires: str | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something searched: its qualified key, its domain, and the choices (key, option) on which it hangs."""

    key: str
    domain: Domain
    when: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched: an entry a path, those that hang on an option in that option's branch."""

    entries: tuple[Entry, ...] = ()

    def parameters(self) -> list[Parameter]:
        """Everything searched, branches included, each choice before what hangs on it."""
        found: list[Parameter] = []

        def visit(space: Space, prefix: str, when: tuple[tuple[str, Scalar], ...]) -> None:
            for entry in space.entries:
                if isinstance(entry.domain, Fixed):
                    continue
                key = prefix + entry.path
                found.append(Parameter(key, entry.domain, when))
                if isinstance(entry.domain, Choice):
                    for option in entry.domain.options:
                        below = f"{key}={option_text(option)}/"
                        visit(entry.domain.branch(option), below, (*when, (key, option)))

        visit(self, "", ())
        return found

    def domains(self) -> dict[str, Domain]:
        """Every domain by qualified key: `optimizer.kind`, `optimizer.kind=sgd/optimizer.lr`."""
        return {parameter.key: parameter.domain for parameter in self.parameters()}
