"""Images on another scale, or with other channels, than those that the network was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.augment.normalize import Normalize
from trainables.check import Check
from trainables.config import Normalization
from trainables.data.images import Images
from trainables.diagnosis.batch_norm import BatchNorms
from trainables.diagnosis.finding import Finding, Weight, healthy
from trainables.diagnosis.subject import Outcome, Preparation, Subject
from trainables.models.input_scale import HALF, IMAGENET, LEVELS, UNIT
from trainables.training.execution import autocast
from trainables.training.inference import at_least_float32
from trainables.training.weights import normalization_for

__all__ = ["Candidate", "candidates", "preparation", "scored"]

MOVED = 0.05  # of accuracy
LOSS_RATIO = 1.1
CLOSE = 0.05  # of accuracy, within which two explanations are equally good
IMAGES, BATCH = 400, 64
SAME = 0.02  # difference of means and deviations that matters to no network


@dataclass(frozen=True)
class Candidate:
    """A way to prepare images.

    Attributes:
        name: in words.
        normalization: of levels scaled to 0..1.
        swapped: whether blue comes first.
        usual: how likely it is that somebody trained with it; larger is likelier.
    """

    name: str
    normalization: Normalization
    swapped: bool = False
    usual: int = 0

    def __call__(self, levels: Tensor) -> Tensor:
        """What a network takes for levels 0..255, float32 [b, 3, h, w], which stay as they are."""
        own = levels.flip(1) if self.swapped else levels.clone()
        return Normalize(self.normalization.mean, self.normalization.std)(own)


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The usual ways to prepare images, the subject's own first."""
    store = subject.splits.store
    own = subject.normalization
    dataset = Normalization(mean=store.mean, std=store.std)
    known = [
        ("the training images' own mean and deviation", dataset, 3),
        ("ImageNet's mean and deviation", IMAGENET, 2),
        ("mean .5 and deviation .5", HALF, 1),
        ("scaled to 0..1 only", UNIT, 1),
        ("levels 0..255 as they are", LEVELS, 0),
    ]
    usual = next((rank for _, other, rank in known if _alike(own, other)), 2)
    yield Candidate("as recorded" if subject.recorded else "as assumed", own, usual=usual)
    for name, normalization, rank in known:
        if not _alike(own, normalization):
            yield Candidate(name, normalization, usual=rank)


def _alike(one: Normalization, other: Normalization) -> bool:
    pairs = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=True)
    return all(abs(a - b) < SAME for a, b in pairs)


def scored(subject: Subject, images: Images, prepared: Preparation, count: int) -> Outcome:
    """What the network says about the first `count` images of a split, prepared in another way."""
    model, batches = subject.model.eval(), torch.split(torch.arange(min(count, len(images))), BATCH)
    with torch.inference_mode(), autocast(subject.config.execution, subject.device):
        logits = [at_least_float32(model(subject.inputs(images, b, prepared))).cpu() for b in batches]
    return Outcome(torch.cat(logits).float(), subject.labels(images, sum(map(len, batches))))


def preparation(subject: Subject, norms: BatchNorms | None) -> tuple[Finding, Candidate | None]:
    """Whether the network does better on images prepared in another way, and which it is.

    Re-estimated batch norms make up for another scale too, where nothing but a batch norm sees it. Of two explanations
    that are equally good it is the normalization if that is less usual than the better one, is not what the config
    asks for, or was assumed only.
    """
    own, *others = candidates(subject)
    count, val = min(IMAGES, subject.affordable), subject.splits.val
    before = scored(subject, val, own, count)
    tried = [(one, scored(subject, val, one, count)) for one in others]
    best = min([(own, before), *tried], key=lambda pair: (-round(pair[1].accuracy, 2), pair[1].loss))
    for one in {id(own): own, id(best[0]): best[0]}.values():
        swapped = Candidate(f"{one.name}, channels in the order BGR", one.normalization, True, one.usual)
        tried.append((swapped, scored(subject, val, swapped, count)))
    winner, after = min(tried, key=lambda pair: (-round(pair[1].accuracy, 2), pair[1].loss))
    name = "channel order" if winner.swapped and winner.normalization == own.normalization else "normalization"
    told = f"images {winner.name}: accuracy {before.accuracy:.3f} -> {after.accuracy:.3f}, loss {before.loss:.3g} -> "
    told += f"{after.loss:.3g} on {len(after):,} validation images"
    gain = after.accuracy - before.accuracy
    if gain < MOVED or after.loss * LOSS_RATIO > before.loss or after.loss > 2 * subject.chance_loss:
        said = f"{len(tried)} other ways to prepare the images were tried and none is better by 5 points"
        return healthy("normalization", said), None
    by_norms = 0.0 if norms is None else norms.val.accuracy - subject.val.accuracy
    if by_norms > gain - CLOSE and not (winner.swapped or _suspect(subject, own, winner)):
        return Finding(Check(name, "warning", told, _cure(own, winner)), gain, Weight.SYMPTOM), winner
    return Finding(Check(name, "problem", told, _cure(own, winner)), gain + CLOSE, Weight.DEFECT), winner


def _suspect(subject: Subject, own: Candidate, winner: Candidate) -> bool:
    """Whether the normalization in use is likelier wrong than the batch norms."""
    configured = normalization_for(subject.config, subject.splits.train, subject.splits.store)
    return not subject.recorded or not _alike(own.normalization, configured) or winner.usual > own.usual


def _cure(own: Candidate, winner: Candidate) -> str:
    order = "read images in the channel order of the training (OpenCV reads BGR, this project RGB)"
    if winner.normalization == own.normalization:
        return f"{order}; settled by predicting in both orders"
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in vars(winner.normalization).values())
    sets = f"--set 'data.normalize.mean=[{mean}]' --set 'data.normalize.std=[{std}]'; settled by predicting both ways"
    return f"{order}; {sets}" if winner.swapped else sets
