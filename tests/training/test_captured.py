"""A step as one graph of the device: on a CPU with a stand-in for CUDA graphs, and where CUDA is.

The stand-in does what it was told at every replay, into the memory of the first one.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import captured
from pyro_bvae.training.notices import FallbackWarning, RecompileWarning
from pyro_bvae.training.placement import Misplaced, scalars_to_move
from pyro_bvae.training.recording import Recording
from pyro_bvae.training.schedules import linear
from pyro_bvae.training.source import read, split
from pyro_bvae.training.svi import CompiledSVI
from tests.training import examples, small_examples, test_svi
from tests.training.examples import Example
from tests.training.small_examples import regression
from tests.training.test_svi import ADAM, OPTIMISERS, assert_equal, run
from tests.training.test_svi_changes import clear_store, scaled, swap_data

Run = Callable[[], Sequence[Tensor]]


class StandIn:
    """A graph that is no graph; it counts how often one was captured, and replayed."""

    captures = replays = 0

    def __init__(self, on: torch.device) -> None:
        self.outputs: list[Tensor] = []

    def capture(self, run: Run, *, warm_up: Run) -> None:
        type(self).captures += 1
        warm_up()
        warm_up()
        self.run = run

    def replay(self) -> list[Tensor]:
        type(self).replays += 1
        found = self.run()
        self.outputs = self.outputs or list(found)
        for mine, new in zip(self.outputs, found, strict=True):
            mine.copy_(new)
        return self.outputs


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[StandIn]]:
    """Give the CPU graphs, of what was recorded: nothing is compiled."""

    class Counted(StandIn):
        pass

    monkeypatch.setitem(captured.GRAPHS, "cpu", Counted)
    monkeypatch.setattr(Recording, "compiled", lambda self, inputs: replace(self))
    return Counted


@pytest.mark.parametrize(
    "optim", [ADAM, OPTIMISERS["ClippedAdam"], OPTIMISERS["RMSprop, after the graph"]]
)
def test_captured_steps_are_pyros_with_its_draws(
    optim: Callable[[], Any], graphs: type[StandIn]
) -> None:
    """Warming up changes no parameter, buffer or random generator, and each step is taken once."""
    make = examples.vae_with_dropout_and_batch_norm
    mine = run(make, CompiledSVI, optim)
    assert (graphs.captures, graphs.replays) == (1, 3)
    assert_equal(mine, run(make, SVI, optim))


def test_the_learning_rate_is_changed_in_place(graphs: type[StandIn]) -> None:
    def slower(number: int, svi: SVI, example: Example) -> None:
        for optimiser in svi.optim.optim_objs.values():
            optimiser.param_groups[0]["lr"] = 0.1 / (number + 1)

    make = small_examples.mean_and_scale
    mine = run(make, CompiledSVI, between=slower)
    assert graphs.captures == 1
    assert_equal(mine, run(make, SVI, between=slower))


@pytest.mark.parametrize(("change", "compiles"), [(swap_data, 1), (clear_store, 2)])
def test_what_is_moved_or_replaced_is_captured_anew(
    change: Any, compiles: int, graphs: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_svi, "STEPS", 10)
    make = small_examples.mean_and_scale
    with warnings.catch_warnings(record=True, action="always") as said:
        mine = run(make, CompiledSVI, between=change)
    assert graphs.captures == 2
    assert [w.category for w in said] == [RecompileWarning] * (compiles - 1)
    assert_equal(mine, run(make, SVI, between=change))


def test_a_scalar_that_was_moved_to_the_device_is_brought_up_to_date(
    graphs: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all 0-dim tensors of a graph, a β among them, were elsewhere."""

    def scalars(graph: Any, tensors: Sequence[Tensor], on: torch.device) -> list[int]:
        return [i for i, tensor in enumerate(tensors) if tensor is beta]

    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        beta.fill_(1.0)
        trainer = svi(*scaled(beta), ADAM(), Trace_ELBO())
        losses = []
        for number in range(8):
            losses.append(trainer.step(torch.randn(4, 2)))
            beta.fill_(1.0 + number)
        return losses

    beta = torch.tensor(1.0)
    monkeypatch.setattr(captured, "scalars_to_move", scalars)
    assert train(CompiledSVI) == train(SVI)
    assert graphs.replays == 5


def test_what_a_step_gave_is_not_overwritten_by_the_next(graphs: type[StandIn]) -> None:
    svi = CompiledSVI(*regression(), ADAM(), Trace_ELBO())
    kept = [svi.step_tensor(torch.randn(4, 2)) for _ in range(8)]
    read = [loss.item() for loss in kept]
    assert graphs.replays == 5
    assert len(set(read)) == 8


def test_the_batch_is_the_callers_to_overwrite(graphs: type[StandIn]) -> None:
    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        trainer, batch = svi(*regression(), ADAM(), Trace_ELBO()), torch.empty(4, 2)
        return [trainer.step(batch.normal_()) for _ in range(7)]

    assert train(CompiledSVI) == train(SVI)


def test_a_graph_that_cannot_be_captured_runs_without_with_one_warning(
    graphs: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: StandIn, run: Run, *, warm_up: Run) -> None:
        warm_up()
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "capture", refuse)
    pyros = run(examples.vae, SVI)
    with pytest.warns(FallbackWarning, match="not captured.*RuntimeError: operation") as caught:
        assert_equal(run(examples.vae, CompiledSVI), pyros)
    assert len(caught) == 1
    assert graphs.replays == 0


def test_a_graph_that_cannot_be_captured_anew_runs_without_with_a_warning(
    graphs: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(self: StandIn, run: Run, *, warm_up: Run) -> None:
        if graphs.captures:
            raise RuntimeError("out of memory")
        StandIn.capture(self, run, warm_up=warm_up)

    monkeypatch.setattr(graphs, "capture", once)
    monkeypatch.setattr(test_svi, "STEPS", 10)
    make = small_examples.mean_and_scale
    pyros = run(make, SVI, between=swap_data)
    with pytest.warns(FallbackWarning, match="not captured.*RuntimeError: out of memory") as caught:
        assert_equal(run(make, CompiledSVI, between=swap_data), pyros)
    assert len(caught) == 1


def test_an_expanded_batch_is_compiled_but_not_captured(graphs: type[StandIn]) -> None:
    svi = CompiledSVI(*regression(), ADAM(), Trace_ELBO())
    with pytest.warns(FallbackWarning, match="expanded") as caught:
        losses = [svi.step(torch.ones(1, 2).expand(4, 2)) for _ in range(6)]
    assert len(caught) == 1
    assert losses[-1] < losses[0]


META = torch.device("meta")


def placed(function: Callable[..., Tensor], *tensors: Tensor) -> list[int]:
    graph = make_fx(function)(*tensors).graph
    return scalars_to_move(graph, tensors, META)


def test_scalars_and_what_is_made_of_them_can_be_moved() -> None:
    beta, x = torch.tensor(2.0), torch.ones(3, device="meta")
    assert placed(lambda beta, x: (beta * 64 + beta.exp()) * x, beta, x) == [0]
    assert placed(lambda x: x * x.sum(), x) == []


def test_constants_may_stay_where_they_are() -> None:
    x = torch.ones(3, device="meta")
    assert placed(lambda x: x * (torch.tensor(2.0) + torch.ones(())), x) == []


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda beta, y, x: x * y.sum(), r"shape \[3\] is on cpu"),
        (lambda beta, x: x * torch.rand(()), "rand.* draws on another device"),
        (lambda beta, x: x * beta.add_(1.0), "add_.* changes a tensor"),
        (
            lambda beta, x: x * torch.full_like(beta, 2.0, device="cpu") * beta,
            "full_like.* takes values away",
        ),
    ],
)
def test_what_would_be_frozen_in_a_graph_is_refused(function: Any, why: str) -> None:
    x = torch.ones(3, device="meta")
    others = [torch.tensor(2.0), torch.ones(3)][: function.__code__.co_argcount - 1]
    with pytest.raises(Misplaced, match=why):
        placed(function, *others, x)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def small_vae(beta: Tensor) -> Example:
    """A VAE on the GPU whose latents β weighs; β may lie elsewhere."""
    nets = nn.ModuleList([examples.net(6, 4), examples.net(2, 6)]).to("cuda")

    def model(x: Tensor) -> None:
        pyro.module("nets", nets)
        with pyro.plate("data", len(x)):
            with pyro.poutine.scale(scale=beta):
                prior = dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1)
                z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(nets[1](z), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("nets", nets)
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=beta):
            pyro.sample("z", examples.normal(nets[0](x)))

    return Example(model, guide, lambda: (torch.randn(8, 6, device="cuda"),))


def trained_on_cuda(svi: Callable[..., SVI], device: str, *, steps: int = 12) -> list[float]:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    beta = torch.tensor(1.0, device=device)
    example = small_vae(beta)
    trainer = svi(example.model, example.guide, OPTIMISERS["SGD, momentum"](), Trace_ELBO())
    losses = []
    for number in range(steps):
        losses.append(trainer.step(*example.arguments()))
        beta.fill_(1.0 + number)
    return losses


@cuda
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_cuda_captured_steps_are_pyros_to_rounding(device: str) -> None:
    """β, on either device, is followed; the draws are those of Pyro's SVI."""
    mine = trained_on_cuda(CompiledSVI, device)
    torch.testing.assert_close(mine, trained_on_cuda(SVI, device), rtol=1e-9, atol=1e-9)


@cuda
def test_on_cuda_a_step_does_not_wait_for_the_device() -> None:
    example = small_vae(torch.tensor(1.0))
    svi = CompiledSVI(example.model, example.guide, ADAM(), Trace_ELBO())
    batch = example.arguments()
    for _ in range(6):
        svi.step(*batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [svi.step_tensor(*batch) for _ in range(5)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len({loss.item() for loss in losses}) == 5


@cuda
@pytest.mark.parametrize("share", [None, 0.5])
def test_on_cuda_a_batch_is_read_without_waiting_for_the_device(share: float | None) -> None:
    data = torch.randn(8, 3, device="cuda")
    source, _ = split(data, share, seed=0)
    indices = torch.arange(2)
    expected = source[indices]
    torch.cuda.set_sync_debug_mode("error")
    try:
        (batch,) = read(source, indices, None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(batch, expected)


def own_pair() -> VAE:
    encoder = nn.Sequential(nn.Linear(6, 5), nn.Tanh())
    return VAE(
        prior=NormalPrior(2),
        likelihood=NormalLikelihood(nn.Linear(2, 6)),
        posterior=MeanFieldPosterior(encoder, latents=2, features=5),
    )


@cuda
def test_on_cuda_fit_trains_to_the_same_history() -> None:
    """With a β that follows a schedule, a learning rate that decays, and data on the device."""

    def history(mode: str) -> Any:
        torch.manual_seed(0)
        pair = own_pair().to("cuda")
        data = torch.randn(64, 6, device="cuda")
        options = {"beta": linear(0.0, 2.0, steps=20), "batch_size": 16, "progress": False}
        optim = partial(torch.optim.SGD, lr=1e-3)
        return fit(pair, data, steps=40, every=10, compile=mode, optim=optim, **options).history

    mine, eager = history("compiled"), history("eager")
    torch.testing.assert_close(mine["loss"], eager["loss"], rtol=1e-9, atol=1e-9)
    assert mine["beta"][-1] == 2.0
