"""What `CompiledSVI` refuses, what goes wrong inside it, and what it leaves behind."""

import signal
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training.notices import FallbackWarning
from pyro_bvae.training.recording import Recording
from pyro_bvae.training.svi import CompiledSVI
from tests.training import small_examples
from tests.training.small_examples import regression
from tests.training.test_svi import ADAM, Recorded, assert_equal, run

BACKENDS = "This could be because the operator doesn't exist for this backend"


def test_a_pair_that_shows_no_parameters_is_an_error() -> None:
    class Vae(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(2, 1)

        def model(self, x: Tensor) -> None:
            pyro.sample("x", dist.Normal(self.net(x), 1.0).to_event(2), obs=x[:, :1])

        def guide(self, x: Tensor) -> None:
            pass

    vae = Vae()
    svi = CompiledSVI(vae.model, vae.guide, ADAM(), Trace_ELBO())
    with pytest.raises(ValueError, match="expected parameters that Pyro can see, got none"):
        svi.step(torch.randn(4, 2))


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_parameters_that_are_not_those_in_use_are_an_error(mode: str) -> None:
    x = torch.randn(4, 2)
    CompiledSVI(*regression(), ADAM(), Trace_ELBO(), mode=mode).step(x)
    second = CompiledSVI(*regression(), ADAM(), Trace_ELBO(), mode=mode)
    with pytest.raises(ValueError, match=r"'net\$\$\$weight' \[1, 2\] is another tensor"):
        second.step(x)


def test_a_replaced_parameter_that_pyro_does_not_know_is_an_error() -> None:
    model, guide = regression()
    svi = Recorded(model, guide, ADAM(), Trace_ELBO())
    for _ in range(4):
        svi.step(torch.randn(4, 2))
    model.net.weight = nn.Parameter(torch.zeros(1, 2))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="is another tensor"):
        svi.step(torch.randn(4, 2))


def test_a_loss_without_the_parameters_is_an_error() -> None:
    def model(x: Tensor) -> None:
        pyro.param("unused", torch.tensor(0.0))
        pyro.sample("x", dist.Normal(0.0, 1.0).expand([4]).to_event(1), obs=x)

    svi = CompiledSVI(model, lambda x: None, ADAM(), Trace_ELBO())
    with pytest.raises(ValueError, match=r"none of \['unused'\] has a gradient"):
        svi.step(torch.randn(4))


@pytest.mark.parametrize("optim", [torch.optim.Adam([torch.ones(1)]), "adam"])
def test_what_is_no_optimiser_is_an_error(optim: Any) -> None:
    with pytest.raises(TypeError, match=r"optim: expected .* optimiser or a callable"):
        CompiledSVI(*regression(), optim, Trace_ELBO())


@pytest.mark.parametrize(
    ("optim", "error", "message"),
    [
        (lambda _: None, TypeError, "one that returns NoneType"),
        (lambda _: torch.optim.Adam([torch.ones(1)]), ValueError, "has none of them"),
        (torch.optim.LBFGS, ValueError, "got LBFGS"),
        (torch.optim.SparseAdam, ValueError, "got SparseAdam"),
        (pyro.optim.Adam, TypeError, r"pyro\.optim's Adam uncalled"),
    ],
)
def test_an_optimiser_that_would_train_nothing_is_an_error(
    optim: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^optim: .*{message}"):
        CompiledSVI(*regression(), optim, Trace_ELBO()).step(torch.randn(4, 2))


@pytest.mark.parametrize("mode", ["eager", "recorded"])
def test_what_pyro_and_torch_allow_is_no_error(mode: str) -> None:
    """A rate of 0, which trains nothing, as Pyro's; and SparseAdam where gradients are sparse."""
    model, guide = regression()
    still = partial(torch.optim.SGD, lr=0.0)
    CompiledSVI(model, guide, still, Trace_ELBO(), mode=mode).step(torch.randn(4, 2))
    table = nn.Embedding(5, 2, sparse=True)
    before = table.weight.clone()

    def looked_up(rows: Tensor) -> None:
        pyro.module("table", table)
        pyro.sample("x", dist.Normal(table(rows), 1.0).to_event(2), obs=torch.ones(len(rows), 2))

    optim = partial(torch.optim.SparseAdam, lr=0.1)
    CompiledSVI(looked_up, lambda rows: None, optim, Trace_ELBO()).step(torch.tensor([0, 1, 1]))
    assert (table.weight != before).all(1).tolist() == [True, True, False, False, False]


def failing_once(error: Exception) -> tuple[Callable[..., None], Callable[..., None]]:
    """A pair of which the second run, the first to be recorded, fails."""
    model, guide = regression()
    runs: list[int] = []

    def failing(x: Tensor) -> None:
        model(x)
        runs.append(1)
        if len(runs) == 2:
            raise error

    return failing, guide


def test_a_reason_comes_without_the_pages_that_libraries_add() -> None:
    """Pyro puts a table of all shapes below a ValueError, with as many blanks as names need."""
    shown = ValueError("no such scale")
    for error in (shown, NotImplementedError(f"No 'aten::x'. {BACKENDS}: CPU, CUDA.\nand so on")):
        pyro.clear_param_store()
        svi = Recorded(*failing_once(error), ADAM(), Trace_ELBO())
        svi.step(torch.randn(4, 2))
        said = str(error).removesuffix(f". {BACKENDS}: CPU, CUDA.\nand so on")
        with pytest.warns(FallbackWarning, match=rf"compiled: {type(error).__name__}: {said} \(.*"):
            svi.step(torch.randn(4, 2))
        assert "\n" not in (svi.fallback or "")
        assert "Trace Shapes" not in (svi.fallback or "")


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="mode: expected one of"):
        CompiledSVI(*regression(), ADAM(), Trace_ELBO(), mode="fast")


def global_state() -> tuple[Any, ...]:
    distribution = torch.distributions.Distribution
    return (
        pyro.util.torch_isnan,
        pyro.util.torch_isinf,
        distribution._validate_sample,
        distribution._Distribution__validate_args
        if hasattr(distribution, "_Distribution__validate_args")
        else distribution._validate_args,
        pyro.infer.util.is_validation_enabled(),
        poutine.util.is_validation_enabled(),
        len(poutine.runtime._PYRO_STACK),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_cache_enabled(),
        torch.overrides._get_current_function_mode_stack(),
        torch.utils._python_dispatch._get_current_dispatch_mode_stack(),
        len(nn.modules.module._global_forward_pre_hooks),
        torch._inductor.config.get_config_copy(),
        warnings.filters[:],
    )


def test_an_exception_of_the_model_comes_through_and_leaves_nothing_changed() -> None:
    model, guide = regression()
    fail = False

    def failing(x: Tensor) -> None:
        model(x)
        if fail:
            raise KeyError("mine")

    svi = CompiledSVI(failing, guide, ADAM(), Trace_ELBO(), mode="recorded")
    before = global_state()
    svi.step(torch.randn(4, 2))
    fail = True
    weights = {name: p.clone() for name, p in pyro.get_param_store().items()}
    with pytest.raises(KeyError, match="mine"):
        svi.step(torch.randn(4, 2))
    assert global_state() == before
    assert all(torch.equal(p, weights[name]) for name, p in pyro.get_param_store().items())
    fail = False
    for _ in range(4):
        svi.step(torch.randn(4, 2))
    assert global_state() == before
    assert svi.fallback is None


@pytest.mark.parametrize("fails", [False, True])
def test_compiling_leaves_nothing_changed_but_the_parameters(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler is a stand-in that draws, as the real one does to tune its kernels."""

    def compiler(module: Any, tensors: list[Tensor], decompositions: Any) -> Any:
        torch.rand(3)
        if fails:
            raise RuntimeError("no C++ compiler\n" + "a page of it\n" * 300)
        return module

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", compiler)
    before = global_state()
    with warnings.catch_warnings(record=True, action="always") as caught:
        mine = run(small_examples.mean_and_scale, CompiledSVI)
    names = set(pyro.get_param_store().keys())
    assert [w.category for w in caught] == [FallbackWarning] * fails
    assert global_state() == before
    assert_equal(mine, run(small_examples.mean_and_scale, SVI))
    assert names == set(pyro.get_param_store().keys())


class FailsThirdTime(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls >= 3:
            raise KeyError("mine")
        return x


@pytest.mark.parametrize("mode", ["eager", "recorded"])
def test_an_exception_in_fit_leaves_nothing_changed(mode: str) -> None:
    """Neither what is global to torch and Pyro, nor random generators and signal handlers."""

    def outside() -> tuple[Any, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return *global_state(), handlers, torch.get_rng_state().tolist()

    pair = VAE(
        prior=NormalPrior(2),
        likelihood=NormalLikelihood(nn.Linear(2, 6)),
        posterior=MeanFieldPosterior(
            nn.Sequential(FailsThirdTime(), nn.Linear(6, 5)), latents=2, features=5
        ),
    )
    data = torch.randn(20, 6)
    before = outside()
    with pytest.raises(KeyError, match="mine"):
        fit(pair, data, steps=9, batch_size=4, compile=mode, progress=False)
    assert outside() == before


def test_a_loss_that_is_not_a_number_warns_as_pyro_does() -> None:
    svi = Recorded(*regression(), ADAM(), Trace_ELBO())
    for _ in range(4):
        svi.step(torch.randn(4, 2))
    with pytest.warns(UserWarning, match="Encountered NaN: loss"):
        svi.step(torch.full((4, 2), torch.nan))


def test_a_graph_that_does_not_compile_runs_as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(recording: Recording, inputs: list[Tensor]) -> Recording:
        raise RuntimeError("no C++ compiler\n" + "a page of it\n" * 300)

    monkeypatch.setattr(Recording, "compiled", fail)
    pyros = run(small_examples.mean_and_scale, SVI)
    with pytest.warns(FallbackWarning, match=r"uncompiled: RuntimeError: no C\+\+ compiler$"):
        assert_equal(run(small_examples.mean_and_scale, CompiledSVI), pyros)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("mode", ["recorded", "compiled"])
@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True}])
def test_an_lstm_in_single_precision_runs_as_pyros(mode: str, arguments: dict[str, Any]) -> None:
    torch.set_default_dtype(torch.float32)

    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        net = nn.LSTM(1, 2, batch_first=True, **arguments)

        def model(x: Tensor) -> None:
            pyro.module("net", net)
            mean = net(x[..., None])[0].mean(-1)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(2), obs=x)

        trainer = svi(model, lambda x: None, ADAM(), Trace_ELBO())
        return [trainer.step(torch.randn(4, 3)) for _ in range(6)]

    pyros = train(SVI)
    with pytest.warns(FallbackWarning, match=r"mkldnn_rnn_layer.* cannot be replayed") as caught:
        assert train(partial(CompiledSVI, mode=mode)) == pyros
    assert len(caught) == 1
