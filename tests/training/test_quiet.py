"""What recordings in several threads do to one another."""

import threading

import pyro
import torch
from torch import Tensor

from pyro_bvae.training.recording import Recording, record

PATIENCE = 30.0


def test_another_thread_may_set_seeds_while_one_records() -> None:
    drawn: list[Tensor] = []

    def other() -> None:
        torch.manual_seed(7)
        drawn.append(torch.rand(()))

    def function(x: Tensor) -> list[Tensor]:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(PATIENCE)
        return [x + 1]

    record(function, [torch.tensor(1.0)])
    torch.manual_seed(7)
    assert drawn == [torch.rand(())]


def test_recordings_wait_for_one_another_and_leave_nothing_changed() -> None:
    before = torch.manual_seed, torch.set_rng_state, pyro.util.torch_isnan, pyro.util.torch_isinf
    started, second_inside = threading.Event(), threading.Event()
    overlaps: list[bool] = []
    recordings: list[Recording] = []

    def second(x: Tensor) -> list[Tensor]:
        second_inside.set()
        return [x * 3]

    def record_second() -> None:
        started.set()
        recordings.append(record(second, [torch.tensor(1.0)]))

    thread = threading.Thread(target=record_second)

    def first(x: Tensor) -> list[Tensor]:
        thread.start()
        started.wait(PATIENCE)
        overlaps.append(second_inside.wait(0.2))
        return [x * 2]

    recordings.append(record(first, [torch.tensor(1.0)]))
    thread.join(PATIENCE)
    assert overlaps == [False]
    assert [float(r([torch.tensor(5.0)])[0]) for r in recordings] in ([10.0, 15.0], [15.0, 10.0])
    after = torch.manual_seed, torch.set_rng_state, pyro.util.torch_isnan, pyro.util.torch_isinf
    assert after == before
