"""What may change between steps of `CompiledSVI`, and what costs a compile."""

import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from pyro_bvae import VAE, tempered
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.objectives import CapacityELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training.notices import FallbackWarning, RecompileWarning
from pyro_bvae.training.recording import Recording
from pyro_bvae.training.svi import CompiledSVI
from tests.training import examples, small_examples
from tests.training.small_examples import regression
from tests.training.test_svi import ADAM, Recorded, assert_equal, run


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[int]]]:
    """Count compiles, by the shape of the first input, without doing them."""
    shapes: list[list[int]] = []

    def compiled(recording: Recording, inputs: list[Tensor]) -> Recording:
        shapes.append(list(inputs[0].shape))
        return replace(recording)

    monkeypatch.setattr(Recording, "compiled", compiled)
    return shapes


def test_a_smaller_last_batch_costs_no_compile(compiles: list[list[int]]) -> None:
    svi = CompiledSVI(*regression(), ADAM(), Trace_ELBO())
    for _ in range(6):
        for size in (8, 8, 8, 3):
            svi.step(torch.randn(size, 2))
    assert compiles == [[8, 2]]


def test_another_batch_size_that_stays_is_compiled_once_and_says_so(
    compiles: list[list[int]],
) -> None:
    svi = CompiledSVI(*regression(), ADAM(), Trace_ELBO())
    for _ in range(6):
        svi.step(torch.randn(8, 2))
    batches = [torch.randn(size, 2) for size in [5] * 6 + [8] * 3 + [5] * 3]
    with pytest.warns(RecompileWarning, match=r"\[5, 2\]") as caught:
        any(svi.step(x) is None for x in batches)
    assert compiles == [[8, 2], [5, 2]]
    assert [w.filename for w in caught] == [__file__]


def test_arguments_of_another_structure_are_recorded_at_once(compiles: list[list[int]]) -> None:
    """A semi-supervised loop steps with labels and without in turn."""

    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        example = examples.semi_supervised_vae()
        trainer = svi(example.model, example.guide, ADAM(), Trace_ELBO())
        losses = []
        for _ in range(5):
            x, y = example.arguments()
            losses += [trainer.step(x, y), trainer.step(x)]
        return losses

    pyros = train(SVI)
    with pytest.warns(RecompileWarning):
        assert train(CompiledSVI) == pyros
    assert len(compiles) == 2


def test_other_arguments_are_part_of_the_graph(compiles: list[list[int]]) -> None:
    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        trainer = svi(*regression(), ADAM(), Trace_ELBO())
        weights = [2.0] * 4 + [3.0] * 5 + [2.0, 3.0, torch.tensor(3.0)]
        return [trainer.step(torch.randn(4, 2), weight=weight) for weight in weights]

    pyros = train(SVI)
    with pytest.warns(RecompileWarning, match="3.0"):
        assert train(CompiledSVI) == pyros


def test_an_argument_that_cannot_be_compared_falls_back() -> None:
    svi = CompiledSVI(*regression(), ADAM(), Trace_ELBO())
    with pytest.warns(FallbackWarning, match="set"):
        svi.step(torch.randn(4, 2), tags={1, 2})
    assert svi.fallback is not None


def scaled(factor: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    model, guide = regression()
    return poutine.scale(model, scale=factor), guide


def test_tensors_changed_in_place_are_seen_without_a_compile(compiles: list[list[int]]) -> None:
    """β as a 0-dim tensor, the learning rate, and a buffer."""

    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        beta = torch.tensor(1.0)
        trainer = svi(*scaled(beta), ADAM(), Trace_ELBO())
        losses = []
        for number in range(8):
            losses.append(trainer.step(torch.randn(4, 2)))
            beta.fill_(1.0 + number)
            for optimiser in trainer.optim.optim_objs.values():
                optimiser.param_groups[0]["lr"] = 0.01 / (number + 1)
        return losses

    assert train(CompiledSVI) == train(SVI)
    assert len(compiles) == 1


def test_beta_capacity_sigma_and_rate_of_our_vae_change_without_a_compile(
    compiles: list[list[int]],
) -> None:
    """Each is changed for some steps, and by Pyro's `SVI` in the same way."""

    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        vae = VAE(
            prior=NormalPrior(2),
            likelihood=NormalLikelihood(nn.Linear(2, 6)),
            posterior=MeanFieldPosterior(nn.Linear(6, 5), latents=2, features=5),
        )
        beta, capacity = torch.tensor(1.0), torch.tensor(0.0)
        objective = CapacityELBO(2.0, capacity=capacity)
        trainer = svi(*tempered(vae, beta), ADAM(), objective)
        sigma = dict(vae.prior.scale.named_buffers())
        assert len(sigma) == 1
        losses = []
        for number in range(12):
            losses.append(trainer.step(torch.randn(4, 6)))
            beta.fill_(1.0 + number % 3)
            capacity.fill_(0.5 * number)
            next(iter(sigma.values())).fill_(1.0 + 0.1 * number)
            for optimiser in trainer.optim.optim_objs.values():
                optimiser.param_groups[0]["lr"] = 0.01 / (number + 1)
        return losses

    pyros = train(SVI)
    assert len(set(pyros)) == 12
    assert train(CompiledSVI) == pyros
    assert compiles == [[4, 6]]


def test_the_tensors_in_memory_do_not_grow_with_the_steps(compiles: list[list[int]]) -> None:
    example = examples.vae()
    svi = CompiledSVI(example.model, example.guide, ADAM(), example.loss())
    counts = []
    for _ in range(3):
        for _ in range(6):
            svi.step(*example.arguments())
        gc.collect()
        counts.append(sum(issubclass(type(found), Tensor) for found in gc.get_objects()))
    assert len(set(counts[1:])) == 1


def load_in_place(number: int, svi: SVI, example: Any) -> None:
    if number == 4:
        for value in pyro.get_param_store().named_parameters():
            value[1].data.mul_(0.5)


def swap_data(number: int, svi: SVI, example: Any) -> None:
    if number in (2, 4):
        for _, value in pyro.get_param_store().named_parameters():
            value.data = value.data * 0.5


def clear_store(number: int, svi: SVI, example: Any) -> None:
    if number == 3:
        pyro.clear_param_store()


def set_values(number: int, svi: SVI, example: Any) -> None:
    if number == 3:
        for name, value in list(pyro.get_param_store().items()):
            pyro.get_param_store()[name] = value.detach() * 0.5


def new_optimisers(number: int, svi: SVI, example: Any) -> None:
    if number == 3:
        state = svi.optim.get_state()
        svi.optim.optim_objs.clear()
        svi.optim.set_state(state)


def other_momentum(number: int, svi: SVI, example: Any) -> None:
    for optimiser in svi.optim.optim_objs.values():
        optimiser.param_groups[0]["betas"] = (0.9 if number < 3 else 0.5, 0.99)


CHANGES = [load_in_place, swap_data, clear_store, set_values, new_optimisers, other_momentum]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_from_outside_are_respected(change: Any) -> None:
    make = small_examples.mean_and_scale
    assert_equal(run(make, Recorded, between=change), run(make, SVI, between=change))


@pytest.mark.parametrize("change", [load_in_place, swap_data, clear_store])
def test_changes_to_modules_are_respected(change: Any) -> None:
    make = examples.vae
    assert_equal(run(make, Recorded, between=change), run(make, SVI, between=change))


def test_a_store_that_parts_from_its_module_is_an_error() -> None:
    with pytest.raises(ValueError, match="is another tensor"):
        run(examples.vae, Recorded, between=set_values)


def test_a_loaded_optimiser_state_is_used() -> None:
    def reload(number: int, svi: SVI, example: Any) -> None:
        if number == 3:
            state = svi.optim.get_state()
            for values in state["state"].values():
                values["exp_avg"] = values["exp_avg"] * 0.5
            svi.optim.set_state(state)

    optim = lambda: partial(torch.optim.Adam, lr=0.01)  # noqa: E731
    make = small_examples.mean_and_scale
    eager = run(make, partial(CompiledSVI, mode="eager"), optim, reload)
    assert_equal(run(make, Recorded, optim, reload), eager)
    assert not torch.equal(eager[0], run(make, Recorded, optim)[0])


def test_a_state_set_before_the_first_step_is_used() -> None:
    parameter = nn.Parameter(torch.ones(2))
    state = {"step": torch.tensor(7.0), "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}
    full = torch.optim.Adam([parameter]).state_dict() | {"state": {0: state}}
    optim = CompiledSVI(*regression(), partial(torch.optim.Adam, lr=0.1), Trace_ELBO()).optim
    optim.set_state(full)
    parameter.grad = torch.ones(2)
    optim([parameter])
    assert optim.get_state()["state"][0]["step"] == 8


def test_training_and_evaluation_mode_are_respected() -> None:
    def make() -> examples.Example:
        example = examples.vae_with_dropout_and_batch_norm()
        make.encoder = example.guide.__closure__[0].cell_contents  # type: ignore[attr-defined]
        return example

    def toggle(number: int, svi: SVI, example: Any) -> None:
        make.encoder.train(number != 3)  # type: ignore[attr-defined]

    assert isinstance(make().guide.__closure__[0].cell_contents, nn.Module)
    assert_equal(run(make, Recorded, between=toggle), run(make, SVI, between=toggle))


def test_freezing_a_parameter_takes_it_out_of_the_graph() -> None:
    model, guide = regression()
    svi = Recorded(model, guide, lambda p: torch.optim.SGD(p, lr=0.1), Trace_ELBO())
    for _ in range(4):
        svi.step(torch.randn(4, 2))
    net = model.net  # type: ignore[attr-defined]
    net.bias.requires_grad_(False)
    before = net.weight.clone(), net.bias.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(4):
            svi.step(torch.randn(4, 2))
    assert not torch.equal(net.weight, before[0])
    assert torch.equal(net.bias, before[1])


def test_handlers_around_a_step_are_respected() -> None:
    def train(svi: Callable[..., SVI]) -> list[float]:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        trainer = svi(*regression(), ADAM(), Trace_ELBO())
        losses = [trainer.step(torch.randn(4, 2)) for _ in range(4)]
        with poutine.scale(scale=3.0):
            losses.append(trainer.step(torch.randn(4, 2)))
        return losses

    assert train(Recorded) == train(SVI)
