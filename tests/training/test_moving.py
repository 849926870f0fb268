"""Numbers that callbacks and schedules change in place go on where they were."""

import signal

import pytest
import torch

from pyro_bvae.objectives import CapacityELBO
from pyro_bvae.training import schedules
from tests.training.resumable import begin


def raising(tensor, *, ctrl_c_at=None):
    """Return a callback that raises a number at every record."""

    def callback(record):
        tensor.mul_(1.1)
        if record.step == ctrl_c_at:
            signal.raise_signal(signal.SIGINT)

    return callback


def arguments(name, tensor):
    return {"beta": tensor} if name == "beta" else {"objective": CapacityELBO(5.0, capacity=tensor)}


@pytest.mark.parametrize("again", ["in a new process", "in the same process"])
@pytest.mark.parametrize("name", ["beta", "capacity"])
def test_a_number_that_a_callback_changes_goes_on(name, again, tmp_path):
    def of(stop=None):
        tensor = torch.tensor(1.0, dtype=torch.float64)
        return tensor, arguments(name, tensor) | {"callbacks": [raising(tensor, ctrl_c_at=stop)]}

    last, options = of()
    whole = begin(None, **options)
    assert last == pytest.approx(1.1**18)
    used, options = of(35)
    assert begin(tmp_path, **options).steps == 35
    if again == "in a new process":
        used, options = of()
    else:
        options["callbacks"] = [raising(used)]
    resumed = begin(tmp_path, **options, resume=True)
    assert used == last
    assert resumed.history["loss"].tolist() == whole.history["loss"].tolist()


def test_another_number_than_the_run_began_with_is_refused_and_stays(tmp_path):
    begin(tmp_path, beta=torch.tensor(1.0), steps=7)
    other = torch.tensor(2.0)
    with pytest.raises(ValueError, match=r"beta: it has .*1\.0.*, got .*2\.0"):
        begin(tmp_path, beta=other, steps=14, resume=True)
    assert other == 2.0


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (schedules.linear(0.0, 5.0, steps=50), schedules.linear(0.0, 10.0, steps=50), "capacity"),
        (schedules.linear(0.0, 5.0, steps=50), 0.0, "objective"),
        (lambda step: step / 10, lambda step: step / 20, r"capacity: .* 2\.0 at step 21"),
    ],
)
def test_another_capacity_schedule_is_refused(first, second, words, tmp_path):
    begin(tmp_path, objective=CapacityELBO(5.0, capacity=first), steps=21)
    with pytest.raises(ValueError, match=words):
        begin(tmp_path, objective=CapacityELBO(5.0, capacity=second), steps=28, resume=True)


def test_a_run_that_ends_before_its_first_record_has_empty_columns():
    def stop(optimiser, args, kwargs):
        signal.raise_signal(signal.SIGINT)

    def optim(parameters):
        optimiser = torch.optim.Adam(parameters)
        optimiser.register_step_post_hook(stop)
        return optimiser

    broken = begin(None, optim=optim)
    whole = begin(None, steps=7)
    assert broken.interrupted
    assert broken.steps == 1
    assert {name: column.shape for name, column in broken.history.items()} == {
        name: (0, *column.shape[1:]) for name, column in whole.history.items()
    }
