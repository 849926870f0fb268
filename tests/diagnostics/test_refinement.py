"""The gradient that refines a guide, against its exact value; and what cannot be refined."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor

from pyro_bvae.diagnostics import amortization_gap
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.refinement import Refined
from pyro_bvae.diagnostics.target import Target


class Unreparameterised(dist.Normal):
    """A normal whose draws carry no gradient."""

    has_rsample = False


def model(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        y = pyro.sample("y", dist.Bernoulli(torch.tensor(0.3)))
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z + 1.5 * y + w * (y + 0.5), 1.0), obs=x)


def guide_of(kind: type):
    """z, a class given z, and w given both, w's draws of one kind or another."""

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x / 2, 0.8))
            y = pyro.sample("y", dist.Bernoulli(logits=z - 0.2))
            pyro.sample("w", kind(0.4 * y - 0.3 * z, 0.9))

    return guide


def elbo(x: Tensor, offsets: list[Tensor], power: float) -> Tensor:
    """E_q[log p(z, y, w) + power · log p(x|z, y, w) − log q], by 60 × 60 nodes of Gauss–Hermite."""
    nodes, weights = (torch.as_tensor(part) for part in hermegauss(60))
    weights = weights / weights.sum()
    z_loc, z_scale, y_logit, w_loc, w_scale = offsets
    q_z = dist.Normal(x / 2 + z_loc, 0.8 * z_scale.exp())
    z, total = (q_z.loc + q_z.scale * nodes)[:, None], torch.zeros(())
    for y in (torch.tensor(0.0), torch.tensor(1.0)):
        q_y = dist.Bernoulli(logits=z - 0.2 + y_logit)
        q_w = dist.Normal(0.4 * y - 0.3 * z + w_loc, 0.9 * w_scale.exp())
        w = q_w.loc + q_w.scale * nodes
        log_p = dist.Normal(0.0, 1.0).log_prob(z) + dist.Bernoulli(0.3).log_prob(y)
        log_p = log_p + dist.Normal(0.0, 1.0).log_prob(w)
        fit = dist.Normal(z + 1.5 * y + w * (y + 0.5), 1.0).log_prob(x)
        log_q = q_z.log_prob(z) + q_y.log_prob(y) + q_w.log_prob(w)
        share = weights[:, None] * weights * q_y.log_prob(y).exp()
        total = total + (share * (log_p + power * fit - log_q)).sum()
    return total


@pytest.mark.parametrize("beta", [1.0, 4.0])
@pytest.mark.parametrize("copies", [2, 5])
@pytest.mark.parametrize("kind", [dist.Normal, Unreparameterised])
def test_the_gradient_is_unbiased(kind, copies, beta):
    """Of 20,000 data that are one, for two copies' baselines too; 4.5 errors, 5 × 8 of them."""
    x = torch.tensor(1.3)
    at = [0.3, -0.2, 0.5, -0.4, 0.1]
    exact = [torch.tensor(value).requires_grad_() for value in at]
    elbo(x, exact, 1 / beta).backward()
    sampler = Sampler((model, guide_of(kind)), x.expand(20_000))
    with sampler.running(0):
        refined = Refined(sampler, torch.arange(20_000), copies, Target(beta))
        offsets = [torch.full((20_000,), value).requires_grad_() for value in at]
        found = torch.autograd.grad(refined.objective(offsets), offsets)
        weights = refined.log_weights(offsets).detach()
    value = elbo(x, [torch.tensor(v) for v in at], 1 / beta)
    error = weights.mean(0).std() / 20_000**0.5
    assert abs(weights.mean() - value) < 4.5 * error
    for gradient, truth in zip(found, exact, strict=True):
        error = gradient.std() / 20_000**0.5
        assert abs(gradient.mean() - truth.grad) < 4.5 * error
        assert error < 0.05


def of(q) -> tuple:
    def classes(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(torch.full((), 0.5)))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def numbers(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Normal(0.5, 1.0))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", q)

    relaxed = isinstance(q, dist.RelaxedBernoulliStraightThrough)
    return (classes if relaxed else numbers), guide


class Skewed(dist.Normal):
    """A normal whose tensors do not say by how much it is moved."""

    def __init__(self, loc, scale, by=1.0) -> None:
        super().__init__(loc, scale)
        self._by = by

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value - self._by)

    def expand(self, batch_shape, _instance=None) -> "Skewed":
        return Skewed(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self._by)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (dist.Uniform(torch.tensor(-3.0), 3.0), "guide: cannot refine a Uniform; expected"),
        (Skewed(torch.tensor(0.0), 1.0, 2.0), "cannot refine site 'y', a Skewed that is not what"),
        (dist.Delta(torch.tensor(0.5)), r"expected a latent site that is drawn.* \['y'\]"),
        (
            dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), logits=torch.tensor(0.0)),
            "expected a discrete distribution at site 'y', as in the model",
        ),
    ],
    ids=["bounds", "hidden", "points", "relaxed"],
)
def test_refuses(fn, message):
    with pytest.raises(ValueError, match=message):
        amortization_gap(of(fn), torch.zeros(3), num_samples=2, steps=1)
