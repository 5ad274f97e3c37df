"""The messages between the driver and a worker, as they travel in Ray Tune's config and results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from typing import Any, cast

from trainables.result import EpochResult

__all__ = ["LegReport", "LegRequest", "installed_version"]

LEG = "leg"  # the one key of the config, and of our part of a result


@cache
def installed_version() -> str:
    """The version of this package in this process."""
    return metadata.version("resnet-search")


@dataclass(frozen=True, kw_only=True)
class LegRequest:
    """What a worker is asked to do: train a trial from its furthest checkpoint on, in its first leg from scratch.

    Attributes:
        trial, number: the trial's number, and which of its legs this is, counted from 1.
        config: the TrialConfig as plain data.
        cache: absolute path of the folder of prepared images.
        storage: URI of the study's folder; `folder` and `interrupt` are names below it.
        folder: where to write checkpoints.
        reported: the last epoch that the driver has received; the trial resumes from its furthest checkpoint up to it.
        save_at: epochs after which there must be a checkpoint.
        rungs: epochs after which averaged weights are scored, too.
        save_every: seconds after which a checkpoint is due within an epoch.
        interrupt: once this file exists, save the trial and end the leg.
        gpus: the trial's share of GPUs.
        fuse: take steps together with the other trials of the same GPU, in another process.
        prepared: fingerprint of the trial's images if the storage holds them prepared.
        plugins: packages whose dotted paths a config may name.
        version: the driver's version of this package.
    """

    trial: int
    number: int
    config: Mapping[str, Any]
    cache: str
    storage: str
    folder: str
    interrupt: str
    reported: int = 0
    save_at: tuple[int, ...] = ()
    rungs: tuple[int, ...] = ()
    save_every: float = 600.0
    gpus: float = 0.0
    fuse: bool = False
    prepared: str | None = None
    plugins: tuple[str, ...] = ()
    version: str = field(default_factory=installed_version)

    def to_dict(self) -> dict[str, Any]:
        """A config for Tune: plain data, which another version of this package can read far enough to refuse it."""
        return {LEG: asdict(self)}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> LegRequest:
        """The request in a config of Tune.

        Raises:
            RuntimeError: if the driver has another version of the package than this process.
        """
        version, here = config[LEG]["version"], installed_version()
        if version != here:
            raise RuntimeError(f"this node has resnet-search {here}, the driver {version}: install the same version")
        return cls(**config[LEG])


@dataclass(frozen=True)
class LegReport:
    """What a worker answers: one epoch, or (without a result) that the trial was saved because of an interrupt.

    Attributes:
        result: the epoch; its `last` and `stop_reason` say whether and why the trial has ended by itself.
        checkpoint: URI or path of the newest checkpoint that this leg has written.
        warnings: lines for the user.
    """

    result: EpochResult | None = None
    checkpoint: str | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """A result for Tune; as one value, because Tune keeps statistics of each number in a dict."""
        return {LEG: self}

    @classmethod
    def from_dict(cls, result: Mapping[str, Any]) -> LegReport:
        """The report in a result of Tune, which adds keys of its own."""
        return cast("LegReport", result[LEG])
