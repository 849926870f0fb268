"""The variational bottleneck of Gaussian x and y reaches the curve that is known exactly."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_bvae import evaluate, fit
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.models import InformationBottleneck
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.theory import canonical_correlations, gaussian_bottleneck
from tests.models.cases import CLASS, X, bottleneck
from tests.truths import BalancedNormal

RHO = torch.tensor([0.95, 0.8, 0.4], dtype=torch.float64)


def pairs(n: int = 100) -> tuple[Tensor, Tensor]:
    """Standard x and y `[n, 3]` whose moments are exactly those of canonical pairs ρ."""
    raw = torch.randn(n, 6)
    raw = raw - raw.mean(0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.mT @ raw / n)).mT
    x = white[:, :3]
    return x, RHO * x + (1 - RHO**2).sqrt() * white[:, 3:]


class BalancedPosterior(MeanFieldPosterior):
    """One variance for all data, and draws whose noise has no correlation with x or y."""

    def fixed(self, x: Tensor, y: Tensor) -> "BalancedPosterior":
        self.both = torch.cat([x, y], 1)
        return self

    def forward(self, x: Tensor, *context: Tensor) -> Any:
        loc = self.amortised(x)[:, : self.latents]
        scale = (self.head.bias[self.latents :] / 2).exp().expand(loc.shape)
        return BalancedNormal(loc, scale, x=self.both).to_event(1)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_it_follows_the_gaussian_bottleneck_curve(beta):
    """The optimum within 0.005 nats, never above it, as there is no noise of draws.

    Along the curve a nat of I(X;Z) and β nats of I(Y;Z) are worth the same, so near the optimum
    the two may move by about √(0.005) ≈ 0.07 nats before their sum shows it.
    """
    x, y = pairs()
    torch.testing.assert_close(canonical_correlations(x, y), RHO)
    model = InformationBottleneck(
        NormalPrior(3),
        NormalLikelihood(mlp_decoder(3, (3,), hidden=()), scale="per_pixel"),
        BalancedPosterior(mlp_encoder((3,), hidden=()), latents=3).fixed(x, y),
    )
    for rate in (5e-2, 5e-3):
        optim = partial(torch.optim.Adam, lr=rate)
        fit(
            model, (x, y), beta=beta, steps=300, batch_size=len(x), optim=optim,
            compile="recorded", progress=False,
        )  # fmt: skip
    measured = evaluate(model, (x, y), batch_size=len(x))
    best = gaussian_bottleneck(RHO, beta=beta)
    entropy = 1.5 * (1 + torch.log(torch.tensor(2 * torch.pi))).item()
    relevance = entropy - measured["reconstruction"]
    value = relevance - beta * measured["kl"]
    assert 0 <= (best.relevance - beta * best.information).item() - value < 0.005
    assert measured["kl"] == pytest.approx(best.information.item(), abs=0.07)
    assert relevance == pytest.approx(best.relevance.item(), abs=0.02)
    active = (measured["kl_per_latent.z"] > 0.02).sum()
    assert active == best.active == {0.1: 3, 0.5: 2}[beta]


def test_the_guide_does_not_look_at_y():
    model = bottleneck().model
    torch.manual_seed(0)
    z = model.guide(X, CLASS)
    torch.manual_seed(0)
    assert torch.equal(model.guide(X, CLASS.flip(0)), z)
    torch.manual_seed(0)
    assert torch.equal(model.guide(X), z)


def test_predicts_classes():
    model = bottleneck().model
    assert torch.equal(model.predict(X), model.likelihood.logits(model.encode(X)).argmax(-1))
    assert model.sample(7).shape == (7,)
    assert model.model(X).shape == (5,)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((X, CLASS[:4]), ValueError, "y: expected as many as x, 5, got 4"),
        ((None, CLASS), ValueError, "y: expected as many as x, 0, got 5"),
        ((X, CLASS + 1), ValueError, "x: expected whole numbers from 0 to 2"),
        ((X, CLASS[:, None]), ValueError, r"y: expected shape \[batch\], which .* got \[5, 1\]"),
    ],
)
def test_refuses_data(data, error, message):
    with pytest.raises(error, match=message):
        bottleneck().model.model(*data)


def test_refuses_an_x_that_is_not_finite():
    with pytest.raises(ValueError, match="x: expected finite"):
        bottleneck().model.check(X / 0)
