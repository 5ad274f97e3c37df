"""`resnet-search VERB`: every verb of the project under one command; `python -m search VERB` is the same."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import typer

from trainables.cli import as_command

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
    """Run the verb that the command line names, or complete the command line for a shell."""
    sys.path.append(os.getcwd())  # as `python -m` does: where `--plugin my_net` finds my_net.py
    app = typer.Typer(
        pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    typed = _typed_verb()
    for name, (module, purpose) in VERBS.items():
        # A verb's module takes up to a second to load; for the list of verbs its purpose is enough.
        verb = as_command(getattr(import_module(module), name)) if name == typed else _not_loaded
        app.command(name, short_help=purpose)(verb)
    app(prog_name="resnet-search")


def _typed_verb() -> str | None:
    """The first word after the program's name. Bash hands the line over in one variable, zsh and fish in another."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS")
    words = line.split() if line else sys.argv
    return next((word for word in words[1:] if not word.startswith("-")), None)


def _not_loaded() -> None:
    raise NotImplementedError


if __name__ == "__main__":
    main()
