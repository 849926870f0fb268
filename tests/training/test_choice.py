"""The choice of a mode: the break-even points, what it costs to choose, and when it is silent."""

from functools import partial

import pyro
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro.infer import SVI, Trace_ELBO
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_bvae.training.choice import MEASURED, UNKNOWN, WARM_UP, Choice, next_mode
from pyro_bvae.training.compiler_cache import (
    COLD,
    CONVOLVED,
    FUSED,
    WARM,
    Prospect,
    note_compiled,
    prospect,
    was_compiled,
)
from pyro_bvae.training.recording import record
from pyro_bvae.training.svi import CompiledSVI
from tests.training import dynamic_examples, small_examples

SECONDS = st.floats(1e-5, 10.0)
LEFT = st.integers(0, 10**6)


@settings(deadline=None)
@given(SECONDS, SECONDS, SECONDS, LEFT)
def test_once_all_are_measured_it_is_the_fastest(eager, recorded, compiled, left):
    seconds = {"eager": eager, "recorded": recorded, "compiled": compiled}
    assert seconds[next_mode(seconds, left)] == min(seconds.values())


@settings(deadline=None)
@given(SECONDS, st.none() | SECONDS, LEFT)
def test_more_steps_never_make_it_less_willing(eager, recorded, left):
    seconds = {"eager": eager} | ({} if recorded is None else {"recorded": recorded})
    if next_mode(seconds, left) not in seconds:
        assert next_mode(seconds, 2 * left + 1) not in seconds


@settings(deadline=None)
@given(SECONDS, st.none() | SECONDS, LEFT)
def test_nothing_is_compiled_that_could_not_save_what_it_costs(eager, recorded, left):
    """Even a step that took no time at all could not: so short runs never compile."""
    seconds = {"eager": eager} | ({} if recorded is None else {"recorded": recorded})
    if min(seconds.values()) * left < UNKNOWN.seconds:
        assert next_mode(seconds, left) != "compiled"
    if left == 0:
        assert next_mode(seconds, left) in seconds


JOBS = {
    # seconds per step eager, recorded, compiled; seconds to record, to compile
    "small net": (2.3e-3, 0.9e-3, 0.45e-3, 0.25, 17.0),
    "small net, cache warm": (2.3e-3, 0.9e-3, 0.45e-3, 0.25, 4.0),
    "conv net": (43e-3, 39e-3, 31e-3, 1.1, 24.0),
    "conv net, cache warm": (43e-3, 39e-3, 31e-3, 1.1, 7.0),
    "large net, nothing gained": (61e-3, 62e-3, 62e-3, 0.9, 30.0),
    "deep model": (40e-3, 8e-3, 4e-3, 4.0, 60.0),
    "deep model, cache warm": (40e-3, 8e-3, 4e-3, 4.0, 15.0),
}

SAVED = {"conv net": CONVOLVED, "conv net, cache warm": CONVOLVED}


def total(job, mode, steps):
    """Seconds for all steps in one mode, counting what it takes to get there."""
    eager, recorded, compiled, recording, compiling = JOBS[job]
    return {
        "eager": eager * steps,
        "recorded": recording + recorded * steps,
        "compiled": recording + compiling + compiled * steps,
    }[mode]


def chosen(job, steps, error):
    """Seconds for all steps as `Choice` takes them, if it errs about compiling by a factor."""
    times = dict(zip(("eager", "recorded", "compiled"), JOBS[job][:3], strict=True))
    cost = {"eager": 0.0, "recorded": JOBS[job][3], "compiled": JOBS[job][4]}
    choice, seconds, tried = Choice(steps), 0.0, {"eager"}
    for _ in range(steps):
        seconds += times[choice.mode] + (0.0 if choice.mode in tried else cost[choice.mode])
        tried.add(choice.mode)
        if "recorded" in tried:
            choice.compiling = Prospect(error * cost["compiled"], SAVED.get(job, FUSED))
        if not choice.settled():
            choice.add(times[choice.mode])
    return seconds


@pytest.mark.parametrize("steps", [100, 1000, 100_000])
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("error", [0.7, 1.0, 1.5])
def test_never_much_slower_than_the_best_of_the_three(job, steps, error):
    best = min(total(job, mode, steps) for mode in ("eager", "recorded", "compiled"))
    assert chosen(job, steps, error) <= 1.06 * best


def test_a_warm_cache_makes_shorter_runs_worth_compiling():
    seconds = {"eager": 2.3e-3, "recorded": 0.9e-3}
    left = 15_000
    assert next_mode(seconds, left, compiling=Prospect(195 * COLD)) == "recorded"
    assert next_mode(seconds, left, compiling=Prospect(195 * WARM)) == "compiled"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_graph_is_known_by_its_operations_shapes_and_threads_until_the_cache_is_emptied(
    cache, monkeypatch
):
    x, graph = torch.ones(3), make_fx(torch.exp)(torch.ones(3))
    assert prospect(graph, [x]) == (COLD, FUSED)
    note_compiled(graph, [x])
    assert prospect(make_fx(torch.exp)(x), [x]) == (WARM, FUSED)
    assert not was_compiled(make_fx(torch.sin)(x), [x])
    assert not was_compiled(graph, [torch.ones(4)])
    assert not was_compiled(graph, [x.float()])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert not was_compiled(graph, [x])
    monkeypatch.undo()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache.parent / "other"))
    assert not was_compiled(graph, [x])


@pytest.mark.parametrize("switched", [{"force_disable_caches": True}, {"fx_graph_cache": False}])
def test_a_cache_that_is_switched_off_is_cold(switched, cache):
    x = torch.ones(3)
    graph = make_fx(torch.exp)(x)
    note_compiled(graph, [x])
    assert was_compiled(graph, [x])
    with torch._inductor.config.patch(**switched):
        assert not was_compiled(graph, [x])


def test_a_cache_that_cannot_be_written_is_one_that_is_cold(cache):
    cache.mkdir()
    (cache / "pyro_bvae").write_text("a file where a folder is to be")
    x, graph = torch.ones(3), make_fx(torch.exp)(torch.ones(3))
    note_compiled(graph, [x])
    assert not was_compiled(graph, [x])


def test_compiling_leaves_its_note(cache, monkeypatch):
    def compiler(module, inputs, decompositions):
        if fail:
            raise RuntimeError("no C++ compiler")
        return module

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", compiler)
    x = torch.ones(3)
    recording = record(lambda x: [x.exp()], [x])
    fail = True
    with pytest.raises(RuntimeError):
        recording.compiled([x])
    assert not was_compiled(recording.graph, [x])
    fail = False
    recording.compiled([x])
    assert was_compiled(record(lambda x: [x.exp()], [x]).graph, [x])


def test_the_warm_up_is_not_counted_and_one_slow_step_does_not_matter():
    choice = Choice(steps=10**6)
    for seconds in [9.0] * WARM_UP["eager"] + [0.002] * (MEASURED - 1) + [9.0]:
        assert not choice.settled()
        choice.add(seconds)
    assert choice.seconds == {"eager": 0.002}
    assert choice.mode == "recorded"


def trained(make, mode, steps=60):
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    example = make()
    svi = partial(CompiledSVI, mode=mode, steps=steps) if mode else SVI
    trainer = svi(example.model, example.guide, pyro.optim.SGD({"lr": 0.001}), example.loss())
    losses = torch.tensor([trainer.step(*example.arguments()) for _ in range(steps)])
    return trainer, losses


def test_it_goes_through_the_modes_with_pyros_numbers(monkeypatch):
    """Costs are set to nothing, so that all three are tried."""
    monkeypatch.setattr("pyro_bvae.training.choice.RECORDING_MOST", 0.0)
    monkeypatch.setattr("pyro_bvae.training.choice.UNKNOWN", Prospect(0.0))
    monkeypatch.setattr("pyro_bvae.training.compiler_cache.COLD", 0.0)
    monkeypatch.setattr("pyro_bvae.training.compiler_cache.WARM", 0.0)
    svi, losses = trained(small_examples.mean_and_scale, "auto", steps=40)
    assert svi._choice.settled()
    assert set(svi._choice.seconds) == {"eager", "recorded", "compiled"}
    torch.testing.assert_close(losses, trained(small_examples.mean_and_scale, None, steps=40)[1])


def test_a_short_run_stays_with_pyros_steps():
    svi, losses = trained(small_examples.mean_and_scale, "auto")
    assert list(svi._choice.seconds) == ["eager"]
    assert torch.equal(losses, trained(small_examples.mean_and_scale, None)[1])


def test_what_cannot_be_recorded_is_trained_without_a_word(monkeypatch, recwarn):
    monkeypatch.setattr("pyro_bvae.training.choice.RECORDING_MOST", 0.0)
    svi, losses = trained(dynamic_examples.mixture, "auto", steps=20)
    assert "Python reads the value of a tensor" in svi.fallback
    assert svi._choice.mode == "eager"
    assert not recwarn
    assert torch.equal(losses, trained(dynamic_examples.mixture, None, steps=20)[1])


def test_auto_needs_to_know_how_many_steps_there_are():
    with pytest.raises(ValueError, match="steps: expected a whole number >= 1, got None"):
        CompiledSVI(nn.Identity(), nn.Identity(), pyro.optim.Adam({}), Trace_ELBO(), mode="auto")


@pytest.mark.parametrize(
    ("dimensions", "share"), [(1, FUSED), (2, CONVOLVED), (3, FUSED)], ids=["1", "2", "3"]
)
def test_more_is_expected_of_convolutions_of_images(dimensions, share):
    weight, x = (torch.ones(2, 2, *[3] * dimensions) for _ in range(2))
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dimensions - 1]
    recording = record(lambda x: [convolve(x, weight)], [x])
    assert prospect(recording.graph, [*recording.live, x]).share == share
