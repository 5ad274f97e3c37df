"""The Python API after a search: is the winner real, what bought what, can it be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from search.engine.comparing import Comparer
from search.engine.explain import explaining
from search.engine.listeners import Listener
from search.engine.reference import reference_arm
from search.engine.refit import Refitting
from search.journal.log import read
from search.journal.result import StudyResult, collect
from search.journal.study_folder import find_study, read_study
from search.storage.location import fetch_study, study_storage
from search.study.parse import load_study
from search.study.resources import Refit
from search.tracking.uri import default_uri
from search.views.checks import checked
from search.views.console import LastingConsole, say
from search.views.exported import checkpoint_of, exported_trial
from search.views.report.page import REPORT, write_report
from trainables.check import Check
from trainables.config import ConfigError, Missing, validate
from trainables.config.plugins import allow_plugins
from trainables.data.store import default_cache
from trainables.files import checkpoint_meant

if TYPE_CHECKING:
    from search.tune.setup import Setup

__all__ = ["check_study", "diagnose_model", "explain_study", "open_study", "refit_study", "report_study"]


def open_study(study: str | Path, *, out: str | Path = "runs") -> StudyResult:
    """The result of a study so far: also while it runs, and of one that was interrupted or killed.

    Nothing of the plug-ins that it names is loaded.

    Args:
        study: its name below `out`, or the path of its folder.
        out: the results folder.

    Raises:
        ConfigError: if there is no such study, or its journal is damaged.
    """
    folder = find_study(str(study), Path(out))
    return collect(*read_study(folder), folder)


def check_study(result: StudyResult) -> list[Check]:
    """The search's own doctor: can this result be trusted, and what should be done next? Also while the search runs.

    The checks, each with a status, its evidence in one line and the next step: failures, divergence, networks that
    have collapsed, the best against the recipes, the resolution of the objective, ranges that end too early,
    settings without influence, too few trials, when the best was found, the length of training, whether early ranks
    predict the last ones, and what other stopping rules would have done on the same curves. docs/results.md says what
    each looks at.

    Example:
        >>> result = search.open_study("digits_resnet8")
        >>> [check for check in search.check_study(result) if check.status == "warning"]
    """
    return checked(result)


def diagnose_model(
    model: str | Path, *, data: str | None = None, predictions: str | Path | None = None,
    write_images: str | Path | None = None, trial: int | None = None, device: str = "auto",
    cache: str | Path | None = None, out: str | Path = "runs", plugins: Iterable[str] = (), progress: bool = True,
) -> list[Check]:  # fmt: skip
    """The model doctor: why does a network predict badly, and what would help? About a minute for small images.

    One thing at a time is changed, and the effect is measured. The first check is the cause; each has its evidence, the
    cure as `--set`, and the search that would settle it. docs/diagnose.md describes how each is decided.

    Args:
        model: a checkpoint; a config as YAML, with its pretrained weights, or trained for a short time if it has none;
            or a study, by name or folder, whose best trial is taken.
        data: other images than the config's own.
        predictions: a CSV (file or index, label) with another pipeline's predictions for the validation images: the
            preparation of the images that reproduces them is found.
        write_images: only write the validation images into this folder, for another pipeline, with a list of them.
        trial: of a study, this trial instead of the best.
        device: auto, cpu or cuda.
        cache: folder of the prepared images.
        out: the results folder.
        plugins: packages whose dotted paths the config may name.
        progress: print what is being tried.

    Raises:
        ConfigError: for bad input: a study without checkpoints, other classes, files that are not validation images.

    Example:
        >>> search.diagnose_model("model.pt")[0].evidence
    """
    allow_plugins(plugins)
    if write_images is not None and predictions is not None:
        rule = "must be left out with --write-images: first write the images, then give what is predicted of them"
        raise ConfigError.single("--predictions", str(predictions), rule)
    from trainables.diagnosis.doctor import diagnosed, written_images  # loads torch, which takes seconds

    console = LastingConsole(quiet=not progress, stderr=True)
    folder = Path(cache) if cache is not None else default_cache()
    with _weights(model, out, trial) as (path, history):
        if write_images is not None:
            return [written_images(path, data, folder, Path(write_images))]
        file = None if predictions is None else Path(predictions)
        return diagnosed(path, data, device, folder, lambda text: say(console, text, "dim"), history, file)


@contextmanager
def _weights(
    model: str | Path, out: str | Path, trial: int | None
) -> Iterator[tuple[Path, Sequence[Mapping[str, float]]]]:
    """A checkpoint or a config as it is named, or a trial's checkpoint, and the metrics of its epochs."""
    path = Path(model)
    if path.is_file() or path.suffix in (".pt", ".pth", ".yaml", ".yml"):
        if trial is not None:
            raise ConfigError.single("--trial", trial, "must be left out: a checkpoint, or a config, is of one trial")
        yield path, []
        return
    try:
        result = open_study(model, out=out)
    except ConfigError:
        if not (meant := checkpoint_meant(path)):
            raise
        rule = f"must be a checkpoint, a config as YAML or a study{meant}"
        raise ConfigError.single("SUBJECT", str(path), rule) from None
    if not result.spec.trial_config({}).model.is_network:
        rule = "must train networks: a synthetic curve has no weights"
        raise ConfigError.single("STUDY", result.spec.study, rule)
    record, _, _ = exported_trial(result, trial)
    with checkpoint_of(result, result.folder or Path(out), record) as path:
        yield path, [epoch.metrics for epoch in record.history]


def refit_study(
    study: str | Path,
    *,
    top: int = 3,
    seeds: int = 5,
    against: str | None = None,
    folds: int | None = None,
    out: str | Path = "runs",
    listeners: Sequence[Listener] = (),
    plugins: Iterable[str] = (),
    tracking_uri: str | None = None,
    progress: bool = True,
) -> StudyResult:
    """Train the best trials of a study and a reference with fresh seeds, the same for all, and open the test split.

    Seeds are added until one trial is significantly better, and who is clearly behind gets no more. Then the winner
    and the reference are scored on the test split. `StudyResult.latest("refit")` has the runs, and `best_config.yaml`
    becomes the winner's. An interrupted refit is continued by the same call, as it was begun.

    Args:
        study: its name below `out`, or the path of its folder; the search need not have finished.
        top: how many trials, by the objective.
        seeds: how many for each at most.
        against: a recipe of the study, or the path of a YAML with a config; None: the study's first recipe.
        folds: above 1: cross-validation with so many folds; 1: the study's own split; None: cross-validation with 5
            folds where there are fewer than 2,000 images to train and validate on.
        out: the results folder.
        listeners: called with every event after it is on disk.
        plugins: packages whose dotted paths the study may name.
        tracking_uri, progress: as `run_study` has them.

    Raises:
        ConfigError: for bad input, before anything has started.
        KeyboardInterrupt: at a second interrupt; the same call continues.

    Example:
        >>> result = search.refit_study("digits_resnet8", top=2, seeds=5)
        >>> result.latest("refit").winner.name
    """
    result = _fetched(study, out, plugins)
    settings = validate(Refit, {"top": top, "seeds": seeds, "folds": folds})
    arm, line = reference_arm(result.spec, result.trials, against, "--against", "reference")

    def refitting(setup: Setup) -> Comparer:
        return Refitting(setup.spec, settings, setup.pool, arm, again=True)

    return _compare(result, refitting, line, listeners, tracking_uri, progress)


def explain_study(
    study: str | Path,
    *,
    baseline: str | None = None,
    seeds: int = 3,
    out: str | Path = "runs",
    listeners: Sequence[Listener] = (),
    plugins: Iterable[str] = (),
    tracking_uri: str | None = None,
    progress: bool = True,
) -> StudyResult:
    """Find out what bought what: train the way from a baseline to the best config, one change at a time.

    An ablation analysis (Fawcett and Hoos 2016). The changes are ordered by what a model of the study's trials
    predicts of them, the most valuable first; then every config on the way, and the best one without each change, is
    trained with the same fresh seeds. `StudyResult.latest("explain")` has the runs,
    `search.analysis.explanation.explained` what they say. An interrupted explanation is continued by the same call, as
    it was begun.

    Args:
        study: its name below `out`, or the path of its folder.
        baseline: a recipe of the study, or the path of a YAML with a config; None: the study's first recipe.
        seeds: how many for each config.
        out: the results folder.
        listeners: called with every event after it is on disk.
        plugins: packages whose dotted paths the study may name.
        tracking_uri, progress: as `run_study` has them.

    Raises:
        ConfigError: for bad input, before anything has started.
        KeyboardInterrupt: at a second interrupt; the same call continues.

    Example:
        >>> result = search.explain_study("cifar10_resnet20", baseline="naive")
    """
    result = _fetched(study, out, plugins)
    start, line = reference_arm(result.spec, result.trials, baseline, "--from", "baseline")
    if start is None:
        rule = f"must name a config as YAML: {result.spec.study} has no recipe to start from"
        raise ConfigError.single("--from", Missing, rule)
    if seeds < 2:
        raise ConfigError.single("--seeds", seeds, "must be at least 2, or nothing is known of the noise")
    comparer, lines = explaining(result, start, seeds)
    said = [*([] if line is None else [line]), *lines]
    return _compare(result, lambda setup: comparer, "\n".join(said), listeners, tracking_uri, progress)


def _fetched(study: str | Path, out: str | Path, plugins: Iterable[str]) -> StudyResult:
    """A study as it stands in its storage, where another machine may have continued it."""
    allow_plugins(plugins)
    folder = find_study(str(study), Path(out).absolute())  # Ray takes no other
    if (place := study_storage(None, folder, smoke=False, fresh=False)) is not None:
        fetch_study(place.child(folder.name), folder)
    return collect(load_study(str(folder / "study.yaml")), read(folder / "journal"), folder)


def _compare(
    result: StudyResult, comparer: Callable[[Setup], Comparer], said: str | None, listeners: Sequence[Listener],
    tracking_uri: str | None, progress: bool,
) -> StudyResult:  # fmt: skip
    """Make a comparison of a study on disk; `said` comes first."""
    folder, console = result.folder, LastingConsole(quiet=not progress)
    if folder is None or folder.name != result.spec.study:
        rule = f"must be in a folder of its name, {result.spec.study}: rename it"
        raise ConfigError.single("STUDY", str(folder), rule)
    if said:
        say(console, said, "yellow")
    from search.tune.session import Goal, Objects, search_study  # loads Ray, which takes seconds

    place, uri = study_storage(None, folder, False, False), tracking_uri or default_uri(folder.parent)
    goal = Goal(comparer, searching=False)
    objects = Objects(listeners=listeners)
    found = search_study(result.spec, folder.parent, place, uri, objects, goal, console)
    if found.trouble is None and found.comparisons == result.comparisons:  # interrupted before its first run
        raise KeyboardInterrupt
    return found


def report_study(*studies: StudyResult | str | Path, to: str | Path | None = None, out: str | Path = "runs") -> Path:
    """Write a study, or several side by side, as one HTML page that needs no network; also while a search runs.

    A search writes it at its end, as `report.html` in its folder.

    Args:
        *studies: results, names below `out`, or paths of folders.
        to: the file to write; by default `report.html` in the study's folder, or in `out` for several.
        out: the results folder.

    Returns:
        The file's path.

    Raises:
        ConfigError: if a study cannot be read, or the file cannot be written.

    Example:
        >>> search.report_study(search.open_study("digits_resnet8"))
    """
    if not studies:
        raise ConfigError.single("studies", [], "must name a study, or several")
    results = [study if isinstance(study, StudyResult) else open_study(study, out=out) for study in studies]
    folder = results[0].folder if len(results) == 1 else Path(out)
    if to is None and folder is None:
        raise ConfigError.single("to", Missing, "must name a file: the study is not on disk")
    path = Path(to) if to is not None else Path(folder or out, REPORT)
    write_report(results, path)
    return path
