"""What other tools call the parts of a study."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.config import TrialConfig
from trainables.config.hints import OTHER_WORDS
from trainables.config.keys import paths_of

__all__ = ["FILE_WORDS", "SET_WORDS"]

_TRIALS, _EPOCHS, _HOURS = "budget.trials", "budget.epochs", "budget.hours"
_GPUS, _CPUS, _AT_ONCE = "resources.gpus_per_trial", "resources.cpus_per_trial", "resources.concurrent"
_GRACE, _FACTOR = "scheduler.grace_period", "scheduler.reduction_factor"
_STUDY: Mapping[str, str] = {
    # Ray Tune
    "num_samples": _TRIALS, "max_t": _EPOCHS, "time_budget_s": _HOURS, "max_concurrent_trials": _AT_ONCE, "gpus": _GPUS,
    "gpu": _GPUS, "num_gpus": _GPUS, "cpus": _CPUS, "cpu": _CPUS, "num_cpus": _CPUS, "search_alg": "searcher.kind",
    "resources_per_trial": "resources", "param_space": "space", "points_to_evaluate": "recipes",
    # Optuna
    "n_trials": _TRIALS, "timeout": _HOURS, "n_jobs": _AT_ONCE, "sampler": "searcher", "pruner": "scheduler",
    "direction": "objective.mode", "directions": "objective.mode", "n_startup_trials": "searcher.startup_trials",
    "study_name": "study", "min_resource": _GRACE, "n_warmup_steps": _GRACE, "enqueue_trial": "recipes",
    # W&B sweeps
    "method": "searcher.kind", "metric": "objective.metric", "goal": "objective.mode", "parameters": "space",
    "early_terminate": "scheduler", "min_iter": _GRACE, "max_iter": _EPOCHS, "eta": _FACTOR, "run_cap": _TRIALS,
    "name": "study", "objective.name": "objective.metric", "project": "study",
    # Hydra, NePS, Syne Tune, scikit-learn and others
    "defaults": "trial", "config": "trial", "params": "space", "search_space": "space", "pipeline_space": "space",
    "hyperparameters": "space", "max_evaluations_total": _TRIALS, "evaluations_to_spend": _TRIALS, "n_iter": _TRIALS,
    "max_trials": _TRIALS, "num_trials": _TRIALS, "n_workers": _AT_ONCE, "workers": _AT_ONCE, "max_workers": _AT_ONCE,
    "parallelism": _AT_ONCE, "max_wallclock_time": _HOURS, "max_hours": _HOURS, "factor": _FACTOR,
    "scoring": "objective.metric", "monitor": "objective.metric", "algorithm": "searcher.kind",
    "algo": "searcher.kind", "experiment": "study", "experiment_name": "study", "epochs": _EPOCHS,
}  # fmt: skip
_EPOCH_WORDS = {word: _EPOCHS for word, path in OTHER_WORDS.items() if path == "epochs"}
_TRIAL_PATHS = paths_of(TrialConfig)

# Behind --set, where paths of the trial have no prefix, and in a study's file.
SET_WORDS: Mapping[str, str] = {**OTHER_WORDS, **_EPOCH_WORDS, **_STUDY}
FILE_WORDS: Mapping[str, str] = {
    **{path.rpartition(".")[2]: f"trial.{path}" for path in reversed(_TRIAL_PATHS)},
    **{word: path if " " in path or path == "seed" else f"trial.{path}" for word, path in OTHER_WORDS.items()},
    **_EPOCH_WORDS, **_STUDY,
}  # fmt: skip
