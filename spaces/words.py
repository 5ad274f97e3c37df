"""How other tools write what is searched, and how it is written here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainables.config.part import LARGEST_INT

__all__ = ["RANGE_WORDS", "WRAPPERS", "as_written_here"]

_FLOAT, _INT, _CHOICE = "{{float: [{low}, {high}]{more}}}", "{{int: [{low}, {high}]{more}}}", "{{choice: [{options}]}}"
_LOG, _STEP = ", log: true", ", step: STEP"
# In lower case: Ray Tune and hyperopt; Optuna; W&B; Hydra, NePS, NNI, ConfigSpace, Syne Tune and Ax; scikit-learn and
# NumPy.
_TABLE = (
    (_FLOAT, "", """uniform randn
        suggest_float suggest_uniform floatdistribution
        distribution normal min max min_value max_value
        interval range low high lower upper lower_bound upper_bound bounds _type type value_type
        floatparameter uniformfloathyperparameter
        float real"""),
    (_FLOAT, _LOG, """loguniform qloguniform lognormal qlognormal
        suggest_loguniform
        log_uniform log_uniform_values inv_log_uniform_values q_log_uniform q_log_uniform_values log_normal
        tag logfinrange
        reciprocal logspace geomspace"""),
    (_FLOAT, _STEP, """quniform qrandn qnormal
        suggest_discrete_uniform
        q_uniform q_normal
        finrange
        linspace"""),
    (_INT, "", """randint uniformint
        suggest_int intdistribution
        int_uniform
        integerparameter uniformintegerhyperparameter
        int integer arange"""),
    (_INT, _LOG, "lograndint qlograndint"),
    (_INT, _STEP, "qrandint quniformint"),
    (_CHOICE, "", """choice grid_search sample_from pchoice
        suggest_categorical categoricaldistribution
        values value constant probabilities categorical
        grid discrete categories choices options ordinal logordinal categoricalparameter categoricalhyperparameter"""),
)  # fmt: skip
_WORDS = {word: (form, more) for form, more, words in _TABLE for word in words.split()}
_LOWS = ("min", "low", "lower", "min_value", "lower_bound")
_HIGHS = ("max", "high", "upper", "max_value", "upper_bound")
_UNTYPED = (*_LOWS, *_HIGHS, "range", "bounds", "type", "value_type", "distribution", "_type")
# Keys beside a range.
RANGE_WORDS = {
    "q": "step",
    "quantization": "step",
    "sampling": "log",
    "scale": "log",
    "log_scale": "log",
    "prior": "log",
}
# Keys that other tools put around a space.
WRAPPERS = ("parameters", "params", "param_space", "search_space", "hyperparameters", "pipeline_space", "space")
_CALL = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)\s*\((.*)\)", re.DOTALL)


def as_written_here(value: object) -> str | None:
    """The leaf of a space that `value`, a mapping or a call in another tool's words, stands for; None for none."""
    if isinstance(value, str):
        call = _CALL.fullmatch(value.strip())
        name = call.group(1).lower() if call else ""
        if call is None or name not in _WORDS:
            return None
        items = [item.strip(" []()") for item in re.split("[,(]", call.group(2)) if "=" not in item]
        return _form(name, items, "log=true" in value.lower().replace(" ", ""))
    if not isinstance(value, Mapping):
        return None
    words = [key for key in value if _word(key) in _WORDS]
    if words and isinstance(below := value[words[0]], Mapping):  # log_uniform: {min: -5, max: 0}
        return _form(_word(words[0]), list(_bounds(below)), False) if as_written_here(below) else None
    if not words:
        return None
    said = [_word(below) for below in value.values() if _word(below) in _WORDS]  # distribution: log_uniform
    name = next((word for word in (*said, *map(_word, words))), "")
    items = list(_bounds(value)) or next(
        (value[k] for k in (*words, "_value") if isinstance(value.get(k), list | tuple)), []
    )
    if not items and "value" in value and _is_short(value["value"]):
        return str(value["value"])
    logarithmic = value.get("log") is True or value.get("log_scale") is True
    return _form(name, list(items), logarithmic)


def _word(key: object) -> str:
    return key.rpartition(".")[2].lower() if isinstance(key, str) else ""


def _bounds(value: Mapping[Any, Any]) -> Iterator[object]:
    for names in (_LOWS, _HIGHS):
        yield from (value[name] for name in names if name in value)


def _form(name: str, values: list[Any], logarithmic: bool) -> str:
    form, more = _WORDS[name]
    items = [value for value in values if _is_short(value)]
    if name in _UNTYPED and items and all(re.fullmatch(r"-?\d+", str(item)) for item in items):
        form = _INT
    if form == _CHOICE:
        return form.format(options=", ".join(map(str, items[:4])) or "A, B")
    more = _LOG if logarithmic else more
    numbers = [item for item in items if _is_number(item) and (float(item) > 0 or more != _LOG)]  # W&B's are exponents
    low, high = numbers[:2] if len(numbers) > 1 else ("LOW", "HIGH")
    return form.format(low=low, high=high, more=more)


def _is_short(value: object) -> bool:
    return isinstance(value, str | float) or (isinstance(value, int) and abs(value) <= LARGEST_INT)


def _is_number(item: object) -> bool:
    try:
        float(item)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return True
