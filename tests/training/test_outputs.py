"""What can be read of a run: as new as its share of the time allows, and whole at the end."""

import json

import pytest
import torch

from pyro_bvae.training import Run, pace, session
from pyro_bvae.training.outputs import Outputs
from tests.training.resumable import begin, same_files


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class SlowRun:
    """A run whose history takes a millisecond per record to write."""

    def __init__(self, clock):
        self.clock = clock
        self.spent, self.records = 0.0, 0

    def write_weights(self, weights, *, best=False):
        pass

    def write_encoded(self, name, content):
        took = 1e-3 * len(json.loads(content["step"]))
        self.clock.now += took
        self.spent += took
        self.records = len(json.loads(content["step"]))


def test_writing_takes_its_share_of_the_time_however_long_the_history(monkeypatch):
    """Whole histories at all 3000 records of 10 ms would take 4500 s, for 30 s of training."""
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    run = SlowRun(clock)
    outputs = Outputs(run, share=0.05)
    for step in range(1, 3001):
        clock.now += 0.01
        outputs.add({"step": step, "loss": 1.0 / step}, {})
        behind, last = 0.01 * (step - run.records), 1e-3 * run.records
        assert behind < last / 0.05 + 0.01
    assert run.spent <= 0.05 * clock.now + last
    assert 2000 < run.records < 3000
    outputs.write_waiting()
    assert run.records == 3000


@pytest.mark.parametrize("share", [1e-9, 1e9])
def test_the_end_is_the_same_however_rarely_files_are_written(share, tmp_path, monkeypatch):
    """At the first record and the end alone, or at all 17; the best is none of the two."""
    options = {"lr": 0.02, "momentum": 0.9}
    begin(tmp_path / "usual", optim=lambda p: torch.optim.SGD(p, **options))
    monkeypatch.setattr(session, "SHARE", share)
    result = begin(tmp_path / "other", optim=lambda p: torch.optim.SGD(p, **options))
    assert 0 < result.history["validation_loss"].argmin() < 16
    assert same_files(tmp_path / "usual", tmp_path / "other")


def test_an_error_leaves_the_history_until_then_and_the_best_weights(tmp_path, monkeypatch):
    def fail(record):
        if record.step == 35:
            raise RuntimeError("mine")

    monkeypatch.setattr(session, "SHARE", 1e-9)
    with pytest.raises(RuntimeError, match="mine"):
        begin(tmp_path / "failed", callbacks=[fail])
    begin(tmp_path / "whole", steps=35)
    failed, whole = Run(tmp_path / "failed"), Run(tmp_path / "whole")
    assert {k: v.tolist() for k, v in failed.history().items()} == {
        k: v.tolist() for k, v in whole.history().items()
    }
    expected = whole.read_weights(best=True)
    assert all(torch.equal(v, expected[name]) for name, v in failed.read_weights(best=True).items())


def test_the_best_weights_are_those_of_their_record_though_writing_failed(tmp_path, monkeypatch):
    """As on a full disk: the weights change before there is room again."""
    run = Run(tmp_path / "run")
    run.create(overwrite=False)
    outputs, weights = Outputs(run, share=0.05), {"a": torch.ones(2)}

    def full(*_, **__):
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_weights", full)
        with pytest.raises(OSError, match="no space"):
            outputs.add({"step": 1, "loss": 1.0}, weights)
    weights["a"].zero_()
    outputs.write_waiting()
    assert run.read_weights(best=True)["a"].tolist() == [1.0, 1.0]


def test_a_record_without_a_number_is_never_the_best(tmp_path):
    run = Run(tmp_path)
    outputs = Outputs(run, share=0.05)
    for loss in (1.0, float("nan"), 5.0, 4.0):
        outputs.add({"step": 1, "loss": loss}, {"a": torch.tensor([loss])})
    outputs.write_waiting()
    assert run.read_weights(best=True)["a"].tolist() == [1.0]
