"""Valid settings that no training is known to work with: they are warned about, and not refused.

The bounds lie well beyond what publications on convolutional networks use: SGD's rates of up to 3 with momentum 0.85
(Smith and Topin 2017), RMSprop's of 0.256 with momentum 0.9 (Tan and Le 2019), Adam's of about 0.01; and decays that
take less than a hundredth of each weight in a step.
"""

from __future__ import annotations

from trainables.config.optimization import LAMB, SGD, AdamW, Lion, Muon, NAdamW, RMSprop
from trainables.config.trial import TrialConfig

__all__ = ["implausible"]

# Of lr / (1 - momentum) for SGD and RMSprop, of lr for the others, by kind.
HIGHEST = {
    "sgd": 100.0, "rmsprop": 10.0, "adam": 0.1, "adamw": 0.1, "nadamw": 0.1, "lamb": 1.0, "lion": 0.03, "muon": 1.0,
}  # fmt: skip
DECOUPLED = (SGD, AdamW, NAdamW, LAMB, Lion, Muon)  # whose decay takes lr * weight_decay of each weight in a step
MOST_DECAY = 0.5  # of each weight, in a step


def implausible(config: TrialConfig) -> list[str]:
    """What about the optimizer is far outside of anything published, a line each; nothing about a synthetic curve."""
    optimizer = config.optimizer
    if not config.model.is_network:
        return []
    # Momentum sums up the steps of the past: in the long run each counts 1 / (1 - momentum) times.
    momentum = optimizer.momentum if isinstance(optimizer, SGD | RMSprop) else 0.0
    rate, highest = optimizer.lr / (1 - momentum), HIGHEST[optimizer.kind]
    found = []
    if rate > highest:
        what = f"optimizer.lr {optimizer.lr:g}" + (f" with momentum {momentum:g}" if momentum else "")
        found.append(f"{what}: {optimizer.kind} above {highest * (1 - momentum):.2g} is not known to train a network")
    # Where a decay goes through the running mean of squares, as Adam's and RMSprop's do, it shrinks nothing by itself.
    decay = rate * optimizer.weight_decay if isinstance(optimizer, DECOUPLED) else 0.0
    if decay > MOST_DECAY:
        what = f"optimizer.weight_decay {optimizer.weight_decay:g} with optimizer.lr {optimizer.lr:g}"
        share = f"{decay:.0%}" if decay < 1 else "all"
        found.append(f"{what}: a step takes {share} of each weight away, and nothing is left of what was learned")
    return found
