"""Clipping, accumulation, schedules and averages: what torch's own do in a loop written by hand."""

from functools import partial

import numpy as np
import pyro
import pytest
import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pyro_bvae import evaluate, fit
from pyro_bvae.networks import mlp_critic
from pyro_bvae.objectives import ELBO, FactorELBO
from pyro_bvae.training import Run, recorded_step
from pyro_bvae.training.batches import BatchOrder
from tests.training import resumable
from tests.training.fixed_noise import pair_and_data
from tests.training.resumable import begin, end_state, identical, same_files
from tests.training.test_resume import interrupting

STEPS, BATCH = 40, 30
adam = partial(Adam, lr=0.05)
cosine = partial(CosineAnnealingLR, T_max=STEPS)
quiet = partial(fit, batch_size=BATCH, seed=3, progress=False, steps=STEPS, optim=adam)


def vector(pair):
    return torch.cat([p.detach().reshape(-1) for p in pair.parameters()])


def warm_up(optimiser):
    """A schedule of schedules, whose first rate is not the optimiser's."""
    parts = [LinearLR(optimiser, 0.1, total_iters=5), MultiStepLR(optimiser, [10, 20])]
    return SequentialLR(optimiser, parts, milestones=[5])


def by_hand(schedule):
    """Train as torch's documentation shows it; return the averaged weights."""
    pair, data = pair_and_data()
    optimiser = adam(list(pair.parameters()))
    scheduler = schedule(optimiser)
    averaged = AveragedModel(pair, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    order = BatchOrder(90, batch_size=BATCH, generator=torch.Generator().manual_seed(3))
    for _, indices in zip(range(STEPS), order, strict=False):
        batch = [part[indices] for part in data]
        optimiser.zero_grad()
        loss = ELBO().differentiable_loss(pair.model, pair.guide, *batch)
        (loss / BATCH).backward()
        clip_grad_norm_(pair.parameters(), 0.5)
        optimiser.step()
        scheduler.step()
        averaged.update_parameters(pair)
    return vector(averaged.module)


@pytest.mark.parametrize(
    ("mode", "schedule", "tolerance"),
    [
        ("eager", cosine, 1e-14),
        ("eager", warm_up, 1e-14),
        ("recorded", warm_up, 1e-14),
        ("compiled", cosine, 1e-9),
    ],
)
def test_all_of_it_is_what_torch_does_by_hand(mode, schedule, tolerance, monkeypatch):
    """And a rate that changes with every step compiles nothing again."""
    compiled = []
    compile_it = recorded_step.RecordedStep.compile
    monkeypatch.setattr(
        recorded_step.RecordedStep,
        "compile",
        lambda *a: (compiled.append(a), compile_it(*a))[1],
    )
    pair, data = pair_and_data()
    options = {"lr_schedule": schedule, "clip_norm": 0.5, "average": 0.9}
    quiet(pair, data, compile=mode, **options)
    assert vector(pair).numpy() == pytest.approx(by_hand(schedule).numpy(), rel=0, abs=tolerance)
    assert len(compiled) == (mode == "compiled")


@pytest.mark.parametrize("mode", ["eager", "recorded"])
def test_a_clipped_step_has_that_length_and_a_short_one_stays(mode):
    moves = {}
    for norm in (None, 1e-3, 1e6):
        pair, data = pair_and_data()
        before = vector(pair)
        options = {"optim": partial(SGD, lr=1.0), "steps": 1}
        quiet(pair, data, clip_norm=norm, compile=mode, **options)
        moves[norm] = vector(pair) - before
    assert torch.equal(moves[1e6], moves[None])
    assert moves[1e-3].norm().item() == pytest.approx(1e-3, rel=1e-3)
    direction = moves[None] / moves[None].norm()
    assert (moves[1e-3] @ direction).item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("mode", ["eager", "recorded"])
def test_a_batch_in_parts_is_the_batch(mode):
    """The loss is a mean over data, so only the order of sums differs."""
    results = []
    for parts in (1, 3):
        pair, data = pair_and_data()
        result = quiet(pair, data, accumulate=parts, compile=mode, every=8)
        results.append((vector(pair), result.history))
    assert results[1][0].numpy() == pytest.approx(results[0][0].numpy(), abs=1e-10)
    for name, values in results[0][1].items():
        assert results[1][1][name] == pytest.approx(values, rel=1e-9), name


def test_parts_are_put_together_for_a_critic():
    pair, data = pair_and_data()
    objective = FactorELBO(mlp_critic(1), gamma=2.0)
    history = quiet(pair, data, accumulate=3, objective=objective, compile="eager").history
    assert np.isfinite(history["critic_loss"]).all()


def test_the_average_is_what_is_validated_saved_and_returned(tmp_path):
    seen = []
    pair, data = pair_and_data()
    held_out = tuple(part[:20] for part in data)
    result = quiet(
        *(pair, data),
        average=0.95,
        validation=held_out,
        run=tmp_path,
        callbacks=[lambda record: seen.append(vector(record.pair))],
        every=20,
    )
    loss = evaluate(pair, held_out, size=90, seed=3)["loss"]
    assert loss == pytest.approx(result.history["validation_loss"][-1], rel=1e-12)
    assert torch.equal(seen[-1], vector(pair))
    saved = Run(tmp_path).read_weights()
    assert all(torch.equal(saved[name], value) for name, value in pair.state_dict().items())
    raw, _ = pair_and_data()
    quiet(raw, data, validation=held_out)
    assert not torch.equal(vector(raw), vector(pair))
    tensors = Run(tmp_path).newest_state()["loop"]["tensors"]
    assert all(torch.equal(tensors[name], value) for name, value in raw.state_dict().items())


@pytest.mark.parametrize("name", ["vae", "functions"])
def test_interrupted_and_resumed_is_uninterrupted(name, tmp_path):
    options = {
        "name": name,
        "lr_schedule": warm_up,
        "clip_norm": 1.0,
        "average": 0.9,
        "accumulate": 2,
    }
    options |= {"lr_schedule": None} if name == "functions" else {}
    begin(tmp_path / "whole", **options)
    broken = begin(tmp_path / "run", **options, optim=interrupting(resumable.adam, 17))
    assert (broken.interrupted, broken.steps) == (True, 17)
    begin(tmp_path / "run", **options, resume=True)
    assert identical(end_state(tmp_path / "whole"), end_state(tmp_path / "run"))
    assert same_files(tmp_path / "whole", tmp_path / "run")


def test_new_parameters_have_no_rate_in_a_schedule():
    with pytest.raises(ValueError, match="lr_schedule: expected a pair whose parameters all exist"):
        begin(None, name="functions", lr_schedule=cosine)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clip_norm": 0.0}, ValueError, "clip_norm: expected a finite number > 0"),
        ({"clip_norm": float("nan")}, ValueError, "clip_norm"),
        ({"clip_norm": "1"}, ValueError, "clip_norm"),
        ({"average": 1.0}, ValueError, r"average: expected a number in \(0, 1\)"),
        ({"average": True}, ValueError, "average"),
        ({"accumulate": 0}, ValueError, "accumulate: expected a whole number"),
        ({"accumulate": 4}, ValueError, r"a multiple of 4, .* got 30"),
        ({"lr_schedule": 3}, TypeError, "lr_schedule: expected a callable"),
        ({"lr_schedule": lambda _: None}, TypeError, "got NoneType"),
        ({"lr_schedule": ReduceLROnPlateau}, TypeError, "got ReduceLROnPlateau"),
        ({"optim": "pyro", "lr_schedule": cosine}, TypeError, "with pyro.optim leave lr_sched"),
        ({"lr_schedule": cosine(SGD([torch.ones(1)], lr=1))}, TypeError, "got CosineAnnealingLR"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    change = {n: pyro.optim.Adam({"lr": 0.1}) if v == "pyro" else v for n, v in change.items()}
    with pytest.raises(error, match=message):
        quiet(*pair_and_data(), **change)


def test_another_setting_than_the_runs_is_named(tmp_path):
    options = {"steps": 4, "lr_schedule": partial(LambdaLR, lr_lambda=lambda step: 0.5**step)}
    quiet(*pair_and_data(), run=tmp_path, clip_norm=1.0, **options)
    with pytest.raises(ValueError, match=r"clip_norm: it has 1.0, got 2.0"):
        quiet(*pair_and_data(), run=tmp_path, clip_norm=2.0, resume=True, **options)
