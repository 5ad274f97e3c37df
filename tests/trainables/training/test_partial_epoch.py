from __future__ import annotations

import torch

from trainables.training.partial_epoch import PartialEpoch

CPU = torch.device("cpu")


def drawn(partial: PartialEpoch) -> float:
    with partial.running():
        return float(torch.rand(()))


def test_a_stream_of_another_device_starts_at_the_beginning_of_the_epoch() -> None:
    partial, resumed = PartialEpoch(3, 1, CPU), PartialEpoch(3, 1, CPU)
    first, _ = drawn(partial), drawn(partial)
    resumed.load_state_dict({**partial.state_dict(), "global_streams": {}})
    assert drawn(resumed) == first
