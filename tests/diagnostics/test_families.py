"""Distributions taken apart into tensors, and put together again."""

from typing import Any, ClassVar

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_bvae.diagnostics.families import family_of
from pyro_bvae.models.one_hot import OneHotClass, StraightThroughClass
from pyro_bvae.models.partly_known import PartlyKnown
from pyro_bvae.networks import mlp_encoder
from pyro_bvae.posteriors import FlowPosterior, LowRankPosterior, MixturePosterior


class Logistic(dist.TorchDistribution):
    """A distribution of the user's, without a word on how it expands."""

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape)

    def rsample(self, sample_shape=()) -> Tensor:
        return self.loc + torch.rand(self._extended_shape(sample_shape)).logit()

    def log_prob(self, value: Tensor) -> Tensor:
        away = value - self.loc
        return -away - 2 * torch.nn.functional.softplus(-away)


def normal(*shape: int) -> dist.Normal:
    return dist.Normal(torch.randn(*shape), torch.rand(*shape) + 0.1)


FAMILIES = {
    "normal": lambda: normal(3, 2).to_event(1),
    "laplace": lambda: dist.Laplace(torch.randn(3, 2), torch.rand(3, 2) + 0.1).to_event(1),
    "log-normal": lambda: dist.LogNormal(torch.randn(3), 0.5),
    "student": lambda: dist.StudentT(5.0, torch.randn(3), torch.ones(3)),
    "full": lambda: dist.MultivariateNormal(torch.randn(3, 2), 2 * torch.eye(2).expand(3, 2, 2)),
    "low-rank": lambda: dist.LowRankMultivariateNormal(
        torch.randn(3, 2), torch.randn(3, 2, 1), torch.rand(3, 2) + 0.1
    ),
    "gamma": lambda: dist.Gamma(torch.rand(3) + 1, torch.rand(3) + 1),
    "beta": lambda: dist.Beta(torch.rand(3) + 1, torch.rand(3) + 1),
    "beta between bounds": lambda: dist.AffineBeta(torch.rand(3) + 1, torch.rand(3) + 1, 2.0, 3.0),
    "pareto": lambda: dist.Pareto(torch.rand(3) + 1, torch.rand(3) + 1),
    "directions": lambda: dist.VonMises(torch.randn(3), torch.rand(3) + 0.5),
    "masked": lambda: normal(3).mask(torch.tensor([True, False, True])),
    "bernoulli": lambda: dist.Bernoulli(torch.rand(3)),
    "categorical": lambda: dist.Categorical(torch.rand(3, 4)),
    "counts of ten": lambda: dist.Binomial(torch.tensor(10.0), torch.rand(3)),
    "multinomial": lambda: dist.Multinomial(7, torch.rand(3, 4)),
    "poisson": lambda: dist.Poisson(torch.rand(3) + 1),
    "one-hot": lambda: dist.OneHotCategorical(torch.rand(3, 4)),
    "class": lambda: OneHotClass(torch.rand(3, 4)),
    "straight through": lambda: StraightThroughClass(torch.rand(3, 4)),
    "relaxed": lambda: dist.RelaxedBernoulli(torch.tensor(0.5), torch.rand(3)),
    "relaxed class": lambda: dist.RelaxedOneHotCategorical(torch.tensor(0.5), torch.rand(3, 4)),
    "mixture": lambda: dist.MixtureSameFamily(dist.Categorical(torch.rand(3, 2)), normal(3, 2)),
    "of vectors": lambda: dist.MixtureSameFamily(
        dist.Categorical(torch.rand(3, 2)), normal(3, 2, 4).to_event(1)
    ),
    "flow": lambda: dist.TransformedDistribution(
        normal(3, 2), [dist.transforms.AffineTransform(1.0, 2.0), dist.transforms.ExpTransform()]
    ),
    "partly known": lambda: PartlyKnown(
        normal(3, 2), torch.ones(3, 2), torch.tensor([True, False])
    ).to_event(1),
    "the user's": lambda: Logistic(torch.randn(3)),
    "the user's, for all data": lambda: Logistic(torch.randn(())).expand([3]),
    "posterior": lambda: LowRankPosterior(mlp_encoder((5,)), latents=2)(torch.rand(3, 5)),
    "flow posterior": lambda: FlowPosterior(mlp_encoder((5,)), latents=2)(torch.rand(3, 5)),
    "mixture posterior": lambda: MixturePosterior(mlp_encoder((5,)), latents=2)(torch.rand(3, 5)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_distribution_taken_apart_and_put_together_is_the_same(name: str):
    """Also where a plate of draws has expanded it; and its parameters move its density."""
    fn = FAMILIES[name]()
    for given in (fn, fn.expand([4, *fn.batch_shape])):
        start, build, offsets = family_of(given)
        value = given.sample()
        made = build(start)
        torch.testing.assert_close(made.log_prob(value), given.log_prob(value))
        assert made.batch_shape == given.batch_shape
        assert made.has_rsample == given.has_rsample
        assert all(t.shape[: len(given.batch_shape)] == given.batch_shape for t in start)
        assert not any(t.any() for t in offsets)
    leaves = [t.detach().requires_grad_() for t in start]
    build(leaves).log_prob(value).sum().backward()
    assert all(t.grad is not None and torch.isfinite(t.grad).all() for t in leaves)
    assert any(t.grad.any() for t in leaves)


def test_what_is_known_has_no_gradient_and_a_point_no_parameters():
    known = torch.tensor([True, False])
    fn = PartlyKnown(normal(3, 2), torch.ones(3, 2), known)
    start, build, _ = family_of(fn)
    leaves = [t.requires_grad_() for t in start]
    build(leaves).log_prob(fn.sample()).sum().backward()
    for leaf in leaves:
        assert not leaf.grad[:, known].any()
        assert leaf.grad[:, ~known].all()
    start, build, offsets = family_of(dist.Delta(torch.ones(3)))
    assert start == offsets == []
    assert torch.equal(build([]).v, torch.ones(3))


@pytest.mark.parametrize("name", ["beta between bounds", "pareto"])
def test_parameters_that_bound_the_draws_stay(name: str):
    """Their gradient is no path derivative, and prior or data may end where they do."""
    fn = FAMILIES[name]()
    start, build, _ = family_of(fn)
    made, value = build([t + 1 for t in start]), fn.sample()
    bounds = ("lower_bound", "upper_bound")
    old, new = ([vars(q.support).get(n) for n in bounds] for q in (fn, made))
    assert str(old) == str(new)
    assert not torch.isclose(made.log_prob(value), fn.log_prob(value)).any()


class Closed(dist.TorchDistribution):
    """A distribution of the user's that holds its numbers where nobody looks."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, network) -> None:
        super().__init__(torch.Size([3]))


@pytest.mark.parametrize(
    "fn",
    [Closed(None), dist.Uniform(torch.zeros(3), 1.0), dist.Empirical(torch.rand(3), torch.ones(3))],
    ids=lambda fn: type(fn).__name__,
)
def test_refuses_what_its_tensors_do_not_make_up(fn):
    with pytest.raises(ValueError, match=r"guide: cannot refine a .* take log_evidence"):
        family_of(fn)
