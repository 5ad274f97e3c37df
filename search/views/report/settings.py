"""The searched settings as the page names them, and what each trial has for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.journal.records import TrialRecord
from search.study.spec import StudySpec
from spaces import Choice, Domain, Scalar, conditions_of, path_of
from spaces.domains import option_text
from trainables.config import flatten

__all__ = ["Setting", "short", "value_text"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A searched setting: its qualified key, its name on the page (`optimizer.lr (sgd)`), and its values."""

    key: str
    label: str
    domain: Domain

    @classmethod
    def all_of(cls, spec: StudySpec) -> list[Setting]:
        """The settings of a study, in the order of its space."""
        return [
            cls(key, _label(path_of(key), [condition.partition("=")[2] for condition in conditions_of(key)]), domain)
            for key, domain in spec.parsed_space.domains().items()
        ]

    def value(self, record: TrialRecord) -> Scalar:
        """What the trial has for it; None if it has none. A recipe may have what the space has not."""
        if record.values is not None:
            found: Scalar = record.values.get(self.key)
            return found
        flat = flatten(record.config)
        conditions = [condition.partition("=") for condition in conditions_of(self.key)]
        if all(option_text(flat.get(path)) == option for path, _, option in conditions):
            value: Scalar = flat.get(path_of(self.key))
            return value
        return None

    def text(self, record: TrialRecord) -> str:
        """The trial's value in a table; empty if it has none."""
        value = self.value(record)
        if value is None and not self._may_be_none:
            return ""
        return value_text(value)

    @property
    def path(self) -> str:
        """Where it stands in a trial's config."""
        return path_of(self.key)

    def label_in(self, flat: Mapping[str, Any]) -> str:
        """Its name in a config, flattened, for which it is not searched: `optimizer.lr (adam)`."""
        conditions = [condition.partition("=")[0] for condition in conditions_of(self.key)]
        return _label(self.path, [option_text(flat.get(path)) for path in conditions])

    @property
    def _may_be_none(self) -> bool:
        return isinstance(self.domain, Choice) and None in self.domain.options

    def chart(self) -> dict[str, Any]:
        """What a chart needs to know about it."""
        if isinstance(self.domain, Choice):
            return {"label": self.label, "options": [option_text(option) for option in self.domain.options]}
        domain = self.domain
        return {"label": self.label, "low": domain.low, "high": domain.high, "log": domain.log}

    def charted(self, record: TrialRecord) -> str | float | None:
        """The trial's value as charts take it: a number of a range, the text of an option, None for none."""
        value = self.value(record)
        if value is None and not self._may_be_none:
            return None
        if isinstance(self.domain, Choice):
            return option_text(value)
        return short(float(value)) if isinstance(value, int | float) else None


def _label(path: str, options: Sequence[str]) -> str:
    return f"{path} ({', '.join(options)})" if options else path


def value_text(value: Scalar) -> str:
    """A setting's value in a table."""
    return f"{value:.4g}" if isinstance(value, float) else option_text(value)


def short(value: float, digits: int = 4) -> float | None:
    """A number as the page's data holds it, in few digits; None if it is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
