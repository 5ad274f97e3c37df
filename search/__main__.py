"""`resnet-search VERB`: every verb of the project under one command; `python -m search VERB` is the same."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

from trainables.cli import run_verb

__all__ = ["VERBS", "main"]

# The module that defines the function of the same name, and what `--help` says; modules are loaded when they are run.
VERBS = {
    "inspect": ("trainables.inspect", "What is wrong with images and labels, before anything is trained on them."),
    "init": ("search.init", "Write a study for your own images."),
    "run": ("search.run", "Search hyperparameters, or continue a search."),
    "status": ("search.status", "How a search stands, also while it runs."),
    "trials": ("search.trials", "Every trial, best first, and why it ended; as a file, too."),
    "check": ("search.check", "Whether a search's result can be trusted, and what to do next."),
    "diagnose": ("search.diagnose", "Why a network predicts badly, and what would help."),
    "refit": ("search.refit", "Train the best trials with fresh seeds, and score the winner on the test split."),
    "explain": ("search.explain", "Which change bought how much, from a baseline to the best config."),
    "report": ("search.report", "Write a search, or several, as one HTML page."),
    "export": ("search.export", "Write the config of the best trial, or of any other, or its network."),
    "track": ("search.track", "Bring an MLflow up to date with a study."),
    "ui": ("search.ui", "Open a study in the browser: MLflow, report, optuna-dashboard."),
    "train": ("trainables.train", "Train a config: one trial again, without Ray or MLflow."),
    "evaluate": ("trainables.evaluate", "Score a trained model on the validation or test split."),
    "predict": ("trainables.predict", "Classify images with a trained or exported model."),
    "compare": ("trainables.compare", "Compare configs over fresh seeds."),
}


def main() -> None:
    """Run the verb that the command line names."""
    verb, *arguments = sys.argv[1:] or ["--help"]
    if verb in ("--help", "-h"):
        print("Usage: resnet-search VERB [OPTIONS]\n")  # noqa: T201 (the help page)
        for name, (_, purpose) in VERBS.items():
            print(f"  {name:<9} {purpose}")  # noqa: T201
        print("\nresnet-search VERB --help lists the options of a verb.")  # noqa: T201
        return
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean `{close[0]}`? " if close else ""
        print(f"error: VERB: unknown verb, {hint}there are {', '.join(VERBS)}, got {verb!r}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    module, _ = VERBS[verb]
    run_verb(getattr(import_module(module), verb), name=f"resnet-search {verb}", arguments=arguments)


if __name__ == "__main__":
    main()
