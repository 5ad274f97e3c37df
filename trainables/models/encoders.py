"""The encoder in a file of weights: found by the names that a network needs, whatever encloses them.

Every mapping of the file is looked through for places (a key, a prefix) below which most names of the network stand.
Of several, the table of families decides; two that it does not decide between are refused, unless they are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.models.families import STYLES, decided

__all__ = ["Candidate", "Encoder", "Tensors", "candidates", "chosen", "group", "mappings", "nearest"]

Tensors = dict[str, Tensor]
DEEPEST = 6  # mappings within mappings; deeper than this is a cycle


@dataclass(frozen=True)
class Encoder:
    """A place in a file.

    Attributes:
        where: the keys of the mapping that it is in, from the outside.
        prefix: what its names begin with; "" or ending with a dot.
        tensors: everything in that mapping, by names of torchvision's style.
        original: the names as they stand in the file.
    """

    where: tuple[str, ...]
    prefix: str
    tensors: Tensors
    original: Mapping[str, str]

    @property
    def path(self) -> tuple[str, ...]:
        """The keys and the parts of the prefix, for the table of families."""
        return (*self.where, *self.prefix.split("."))

    @property
    def place(self) -> str:
        """Where it is, for people; "" if it is the whole file."""
        return " / ".join([*self.where, *filter(None, [self.prefix.removesuffix(".")])])

    def inside(self) -> Tensors:
        """The tensors below the prefix, by their names without it."""
        start = len(self.prefix)
        return {name[start:]: tensor for name, tensor in self.tensors.items() if name.startswith(self.prefix)}

    def outside(self) -> Tensors:
        """The other tensors of the mapping."""
        return {name: tensor for name, tensor in self.tensors.items() if not name.startswith(self.prefix)}


Candidate = tuple[int, Encoder]  # how many of the network's names are there


def mappings(content: object, where: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """Every mapping with tensors in the content of a file, and the keys that lead to it; optimizers' are left out."""
    if not isinstance(content, dict) or len(where) > DEEPEST:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and _is_tensor(value)}
    if tensors:
        yield where, tensors
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, dict) and not re.match(r"optim|lr_sched|scaler|loops", key):
            yield from mappings(value, (*where, key))


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and not value.is_nested


def candidates(where: tuple[str, ...], tensors: Tensors, wanted: list[str]) -> list[Candidate]:
    """The places in one mapping with any of the `wanted` names, best first, with the names read in the best style."""
    weights = [name for name in wanted if name.endswith("weight")]
    anchors = {*weights[:1], *weights[-1:]}  # the first may be what another stem lacks
    found: list[Candidate] = []
    for style in STYLES:
        renamed = style(tensors)
        if len(set(renamed.values())) < len(tensors) or (found and renamed.keys() == set(renamed.values())):
            continue
        named = {new: tensors[old] for old, new in renamed.items()}
        original = {new: old for old, new in renamed.items()}
        stems = {
            name.removesuffix(anchor)
            for name in named
            for anchor in anchors
            if name == anchor or name.endswith(f".{anchor}")
        }
        counted = [
            (sum(stem + name in named for name in wanted), Encoder(where, stem, named, original)) for stem in stems
        ]
        counted.sort(key=lambda one: (-one[0], len(one[1].prefix), one[1].prefix))
        if counted and (not found or counted[0][0] > found[0][0]):
            found = counted
    return found


def chosen(found: list[Candidate], wanted: list[str], fits: Mapping[int, bool]) -> list[Encoder]:
    """The encoder that is to be loaded; several, if they differ and nothing says which one; none, if there is none.

    Args:
        found: from all mappings.
        wanted: the network's names.
        fits: whether each of `found` fits the network in full, by its position.
    """
    paths = decided([encoder.path for _, encoder in found])
    serious = [i for i, (count, _) in enumerate(found) if 2 * count > len(wanted)]
    left = [i for i in serious if found[i][1].path in paths]
    if serious and not left:  # the one to take is there in part: another one is none in its place
        return [max((one for one in found if one[1].path in paths), key=lambda one: one[0])[1]]
    fitting = [i for i in left if fits[i]]
    if len(left) > 1:
        left = fitting or [max(left, key=lambda i: found[i][0])]
    encoders = [found[i][1] for i in left]
    if len(encoders) > 1 and all(_same(encoders[0], other, wanted) for other in encoders[1:]):
        return encoders[:1]
    return encoders


def nearest(found: list[Candidate]) -> Encoder | None:
    """The place with the most names, for the message where none has enough."""
    return max(found, key=lambda one: one[0])[1] if found else None


def _same(one: Encoder, other: Encoder, wanted: list[str]) -> bool:
    mine, theirs = one.inside(), other.inside()
    return all(
        name in mine and name in theirs and torch.equal(mine[name], theirs[name])
        for name in wanted
        if name in mine or name in theirs
    )


def group(encoder: Encoder, name: str, inside: bool) -> str:
    """What a tensor that is not loaded belongs to: the module at its root, below what encloses the encoder."""
    if inside:
        return name.split(".")[0]
    enclosing = encoder.prefix.split(".")[:-1]
    parts = name.split(".")
    while len(parts) > 1 and enclosing and parts[0] == enclosing[0]:
        parts, enclosing = parts[1:], enclosing[1:]
    return parts[0]
