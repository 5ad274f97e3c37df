"""Searchers and schedulers that are not ours: plug-ins named by a study, and objects passed in Python."""

from __future__ import annotations

from typing import Any, Literal

from search.study.settings import InstanceSettings, PluginSettings
from search.study.spec import StudySpec
from trainables.config import ConfigError
from trainables.config.plugins import load_plugin, plugin_settings

__all__ = ["build_plugin"]


def build_plugin(
    section: Literal["searcher", "scheduler"], spec: StudySpec, given: object | None, protocol: type
) -> Any:
    """What a study's `PluginSettings` or `InstanceSettings` stand for.

    Args:
        section: the study's section that holds them.
        spec: the study.
        given: the object that was passed, None if there is none.
        protocol: what the result must be.

    Raises:
        ConfigError: if a plug-in cannot be loaded, an object was not passed again, or it is not of the protocol.
    """
    settings = getattr(spec, section)
    if isinstance(settings, PluginSettings):
        try:
            loaded = load_plugin(section, settings.kind)
        except ValueError as error:
            raise ConfigError.single(f"{section}.kind", settings.kind, str(error)) from None
        built = loaded(spec, plugin_settings(loaded, settings.settings))
    elif given is None or settings != InstanceSettings.of(given):
        rule = f"was passed as an object, which no file can hold: pass {section}=... of this class again"
        raise ConfigError.single(f"{section}.class", settings.class_name, rule)
    else:
        built = given
    if lacking := [name for name in vars(protocol) if not name.startswith("_") and not hasattr(built, name)]:
        kind = InstanceSettings.of(built).class_name
        raise ConfigError.single(section, kind, f"must be a {protocol.__name__}, but has no {', '.join(lacking)}")
    return built
