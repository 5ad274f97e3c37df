"""The files that a search writes beside its journal: trials.parquet, best_config.yaml and a study for optuna-dashboard.

All of them are views of the journal. Each is written whole or not at all: an error leaves the earlier file.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.journal.records import BEST_RULE, TrialRecord
from search.journal.result import StudyResult
from search.journal.table import rows
from trainables.config import checksum, dump_yaml, parse_config
from trainables.config.plugins import as_recorded
from trainables.files import replaced

if TYPE_CHECKING:
    import optuna

__all__ = ["best_config", "write_optuna", "write_trials"]


def write_trials(records: Iterable[TrialRecord], path: Path) -> None:
    """Write `trials.parquet`: a row per trial and epoch, as `journal.table.rows` describes.

    Raises:
        ConfigError: if it cannot be written.
    """
    import pyarrow.parquet as pq

    table = rows(records)
    with replaced(path) as partial:
        pq.write_table(table, partial, compression="zstd")


@as_recorded()
def best_config(
    result: StudyResult, record: TrialRecord, *, chosen: str | None = None, refit: Mapping[str, Any] | None = None,
    mlflow_run_id: str | None = None,
) -> str:  # fmt: skip
    """The text of `best_config.yaml`: `config`, the whole TrialConfig, and `provenance`, where it comes from.

    `provenance.metrics` are those of the trial's `final` epoch, to the last digit, and `stop_epoch` is its last; where
    these differ, `best_epoch` is the former. `trainables.train` trains until there and compares, unless the config is
    no longer that of `config_checksum`.
    `chosen` says in words why this trial; None: it is the best. `refit` has the numbers of the refit that it won.

    Raises:
        ConfigError: if the recorded config is no valid TrialConfig (for example one of a newer version).
    """
    objective = result.spec.objective
    if chosen is None:
        chosen = BEST_RULE.format(mode={"max": "highest", "min": "lowest"}[objective.mode], metric=objective.metric)
        if (proxy := result.spec.proxy) is not None:
            chosen += f"; trained {proxy.words}: the refit, which trains the study's own network, has no winner yet"
    final = record.final
    value = record.value(objective.metric)
    config = dict(result.spec.at_source(parse_config(record.config).model_dump(mode="json")))
    provenance: dict[str, Any] = {
        "study": result.spec.study,
        "trial": record.number,
        "origin": record.origin,
        "status": str(record.status),
        "stop_reason": record.stop_reason,
        "metric": objective.metric,
        "mode": objective.mode,
        "value": None if final is None else value,
        "chosen": chosen,
        "config_checksum": checksum(config),
        "epochs": len(record.history),
        "stop_epoch": record.last_epoch or None,
        **({} if record.best_epoch is None else {"best_epoch": record.best_epoch}),
        "metrics": dict(final.metrics) if final else {},
        "versions": {name: v for name, v in result.versions.items() if name not in ("python", "platform")},
        "python": result.versions.get("python"),
        "platform": result.versions.get("platform"),
        "git": result.git,
        "data_fingerprint": result.fingerprint,
        **({"weights": list(result.weights)} if result.weights else {}),
        "mlflow_run_id": mlflow_run_id,
        **({"refit": dict(refit)} if refit else {}),
    }
    return dump_yaml({"config": config, "provenance": provenance})


def write_optuna(study: optuna.Study, path: Path) -> None:
    """Write a study as a journal of Optuna's, one JSON line a trial: `optuna-dashboard PATH` shows it.

    Raises:
        ConfigError: if it cannot be written.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    with replaced(path) as partial, _quiet_optuna():
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(partial)))
        copy = optuna.create_study(storage=storage, study_name=study.study_name, directions=study.directions)
        if study.metric_names:
            copy.set_metric_names(study.metric_names)
        for name, value in study.user_attrs.items():
            copy.set_user_attr(name, value)
        copy.add_trials(study.get_trials(deepcopy=False))


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            # The metric's name is shown instead of "Objective Value 0"; losing it one day would cost no more than that.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
