"""Hyperparameter search for ResNets: `run_study` searches, `open_study` reads what a search has found.

    >>> import search
    >>> result = search.run_study("digits_resnet8", trials=8)
    >>> result.winner().config["optimizer"]
    >>> result.table().to_pandas()

Names are loaded when they are first used (PEP 562), so that `import search` takes no time and loads no heavy library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.algorithms.schedulers.base import Decision, Promotion, Scheduler
    from search.algorithms.searchers.base import Searcher
    from search.api import (
        check_study,
        diagnose_model,
        explain_study,
        open_study,
        plan_study,
        refit_study,
        report_study,
        run_study,
    )  # fmt: skip
    from search.engine.listeners import Listener
    from search.journal.comparisons import Comparison
    from search.journal.events import Event
    from search.journal.records import TrialRecord, TrialStatus
    from search.journal.result import StudyResult
    from search.planning.calibration import Plan
    from search.study.parse import load_study
    from search.study.spec import StudySpec
    from trainables.check import Check
    from trainables.config import ConfigError

__all__ = [
    "Check", "Comparison", "ConfigError", "Decision", "Event", "Listener", "Plan", "Promotion", "Scheduler",
    "Searcher", "StudyResult", "StudySpec", "TrialRecord", "TrialStatus", "check_study", "diagnose_model",
    "explain_study", "load_study", "open_study", "plan_study", "refit_study", "report_study", "run_study",
]  # fmt: skip

_MODULES = {
    "search.algorithms.schedulers.base": ("Decision", "Promotion", "Scheduler"),
    "search.algorithms.searchers.base": ("Searcher",),
    "search.api": (
        "check_study", "diagnose_model", "explain_study", "open_study", "plan_study", "refit_study", "report_study",
        "run_study",
    ),
    "search.engine.listeners": ("Listener",),
    "search.journal.comparisons": ("Comparison",),
    "search.journal.events": ("Event",),
    "search.journal.records": ("TrialRecord", "TrialStatus"),
    "search.journal.result": ("StudyResult",),
    "search.planning.calibration": ("Plan",),
    "search.study.parse": ("load_study",),
    "search.study.spec": ("StudySpec",),
    "trainables.check": ("Check",),
    "trainables.config": ("ConfigError",),
}  # fmt: skip
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
