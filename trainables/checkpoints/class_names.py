"""Classes matched by their names: a label means what its class is called, not where it stands. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from trainables.config import ConfigError

__all__ = ["Matched", "check_same_classes", "match_classes"]

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Matched:
    """How the classes of some data are those that a network was trained on.

    Attributes:
        labels: the network's label of each class of the data.
        notes: lines for people: classes of another spelling, and classes that the data have none of.
    """

    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()


def match_classes(trained: Sequence[str], found: Sequence[str]) -> Matched:
    """Find the classes of some data among those that a network was trained on.

    Names that differ only in case, spaces, underscores, hyphens or leading zeros are the same class where just one pair
    of names does: folders are renamed by file systems and archives, and nothing else could be meant. A note says so.

    Args:
        trained: the network's class names, by label.
        found: the data's class names, by label.

    Raises:
        ConfigError: naming the classes that the network does not know.
    """
    labels = {name: label for label, name in enumerate(trained)}
    plain = [_plain(name) for name in trained]
    respelled, unknown = [], []
    for name in found:
        alike = [other for other, key in zip(trained, plain, strict=True) if key == _plain(name)]
        if name in trained:
            continue
        if len(alike) == 1 and alike[0] not in found and [_plain(n) for n in found].count(_plain(name)) == 1:
            respelled.append((name, alike[0]))
            labels[name] = labels[alike[0]]
        else:
            unknown.append(name)
    if unknown:
        close = get_close_matches(unknown[0], trained, 1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        rule = f"must be classes of the checkpoint, which knows {_listed(trained)}: rename {_listed(unknown)}{meant}"
        raise ConfigError.single("classes", ", ".join(found), f"{rule} or leave it out")
    notes = [f"classes taken for the same: {', '.join(f'{a!r} for {b!r}' for a, b in respelled)}"] if respelled else []
    matched = tuple(labels[name] for name in found)
    absent = [name for label, name in enumerate(trained) if label not in matched]
    if absent:
        notes.append(f"classes of the checkpoint without images here: {_listed(absent)}")
    return Matched(matched, tuple(notes))


def check_same_classes(trained: Sequence[str], found: Sequence[str]) -> None:
    """Refuse to continue training on data whose labels mean other classes.

    Raises:
        ConfigError: naming the first class that differs.
    """
    if list(trained) == list(found):
        return
    new, gone = [n for n in found if n not in trained], [n for n in trained if n not in found]
    parts = [f"it does not know {_listed(new)}"] if new else []
    parts += [f"the images have none of its {_listed(gone)}"] if gone else []
    differ = " and ".join(parts) or f"their order is another: {_listed(trained)} there, {_listed(found)} here"
    rule = f"must be of a trial on the same classes; {differ}: rename the classes, or train from the beginning"
    raise ConfigError.single("checkpoint", ", ".join(trained), rule)


def _plain(name: str) -> str:
    key = re.sub(r"[\s_-]+", " ", name).strip().casefold()
    return str(int(key)) if key.isdecimal() and key.isascii() and len(key) < 20 else key


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(repr(name) for name in names[:MOST_NAMED]) + more
