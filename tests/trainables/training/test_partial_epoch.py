from __future__ import annotations

import torch

from trainables.seeds import derived_seed
from trainables.training.partial_epoch import PartialEpoch

CPU = torch.device("cpu")


def drawn(partial: PartialEpoch) -> float:
    with partial.running():
        return float(torch.rand(()))


def test_the_global_stream_runs_on_inside_and_is_left_alone_outside() -> None:
    torch.manual_seed(derived_seed(3, "dropout", 1))
    stream = [float(torch.rand(())) for _ in range(3)]
    partial, numbers = PartialEpoch(3, 1, CPU), []
    for _ in stream:
        torch.manual_seed(0)
        numbers.append(drawn(partial))
    assert numbers == stream


def test_a_stream_of_another_device_starts_at_the_beginning_of_the_epoch() -> None:
    partial, resumed = PartialEpoch(3, 1, CPU), PartialEpoch(3, 1, CPU)
    first, _ = drawn(partial), drawn(partial)
    resumed.load_state_dict({**partial.state_dict(), "global_streams": {}})
    assert drawn(resumed) == first


def test_means_are_those_of_all_its_steps() -> None:
    partial, resumed = PartialEpoch(3, 1, CPU), PartialEpoch(3, 1, CPU)
    partial.add(torch.tensor(1.0), torch.tensor(5.0))
    resumed.load_state_dict(partial.state_dict())
    resumed.add(torch.tensor(2.0), torch.tensor(7.0))
    assert resumed.means(2) == (1.5, 6.0)
    assert partial.means(1) == (1.0, 5.0)
