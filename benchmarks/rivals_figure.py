"""The picture of docs/search_quality.md, from what `benchmarks.rivals --out` has written.

    python -m benchmarks.rivals_figure results.json docs/search_quality.png

Draws the mean final accuracy of what each search had chosen at the end of each budget, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.rivals import REFERENCE
from benchmarks.search_quality import interval

__all__ = ["draw"]

DRAWN = {  # in this order, by color
    REFERENCE: "#1f6feb", "ours, current weights": "#8fb8f6", "Ray: OptunaSearch + ASHA": "#d1242f",
    "Optuna: TPE + Hyperband": "#bf8700", "one epoch": "#6e7781", "random": "#b8bfc6",
}  # fmt: skip


def draw(results: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """One line a search.

    Args:
        results: final accuracy by search, budget and seed.
        path: of the picture, a PNG.
    """
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # after the choice of a backend that needs no screen

    figure, axes = plt.subplots(figsize=(7.5, 4.2), dpi=150)
    for number, (system, color) in enumerate(DRAWN.items()):
        by_budget = {int(budget): [*of_seed.values()] for budget, of_seed in results[system].items()}
        budgets = sorted(by_budget)
        means = np.array([np.mean(by_budget[budget]) for budget in budgets]) * 100
        ends = np.array([interval(np.array(by_budget[budget])) for budget in budgets]).T * 100
        # Side by side, so that the intervals of one budget can be told apart.
        at = np.array(budgets) * 1.02 ** (number - len(DRAWN) / 2)
        axes.errorbar(at, means, np.abs(ends - means), color=color, marker="o", markersize=4, capsize=2, label=system)
    axes.set_xscale("log", base=2)
    every = sorted({int(budget) for of_system in results.values() for budget in of_system})
    axes.set_xticks(every, [str(budget) for budget in every])
    axes.minorticks_off()
    axes.set_xlabel("budget, in whole trainings")
    axes.set_ylabel("accuracy of the config chosen, %")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    draw(json.loads(arguments.results.read_text()), arguments.picture)


if __name__ == "__main__":
    main()
