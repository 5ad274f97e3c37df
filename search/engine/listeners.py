"""Listeners: what is called with every event of a study after it is on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from search.journal.error_text import first_line
from search.journal.events import Event
from search.study.spec import StudySpec
from trainables.config.plugins import load_plugin, plugin_settings

__all__ = ["Listener", "guarded", "study_listeners"]

Listener = Callable[[Event], None]


def study_listeners(spec: StudySpec) -> Iterator[Listener]:
    """The listeners that a study names, each built as `Listener(study, settings)`."""
    for named in spec.listeners:
        loaded = load_plugin("listener", named.kind)
        yield loaded(spec, plugin_settings(loaded, named.settings))


def guarded(listeners: Iterable[Listener], warn: Callable[[str], None]) -> Listener:
    """One listener for all of these, whose errors do not reach the search: one that fails is reported and left out.

    Args:
        listeners: the user's own.
        warn: shows the user a line.
    """
    active = list(listeners)

    def call(event: Event) -> None:
        for listener in list(active):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 (it is somebody else's code, and is reported)
                active.remove(listener)
                name = getattr(listener, "__name__", type(listener).__name__)
                kind = type(error).__name__
                warn(f"the listener {name} failed ({kind}: {first_line(error)}) and is not called anymore")

    return call
