"""What every diagnostic's draws share: data checked at the door, networks run the fast way."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_bvae import VAE
from pyro_bvae.diagnostics import calibration, importance, log_evidence, to_inference_data
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import conv_decoder, conv_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.models import cases

SHAPE = (1, 8, 8)


def convolutional() -> VAE:
    return VAE(
        prior=NormalPrior(2),
        likelihood=BernoulliLikelihood(conv_decoder(2, SHAPE)),
        posterior=MeanFieldPosterior(conv_encoder(SHAPE), latents=2),
    )


class Reader:
    """Data that are read when asked for, with one datum that no Bernoulli draws."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, indices: Tensor) -> Tensor:
        return (indices == 30).double().reshape(-1, 1, 1, 1).expand(-1, *SHAPE) * 255


def test_all_data_are_checked_and_not_the_first_only():
    images = Reader()[torch.arange(40)]
    for data in (images, images.numpy(), Reader()):
        with pytest.raises(ValueError, match=r"x: expected values in \[0, 1\] for a Bernoulli"):
            importance(convolutional(), data, num_samples=25)


class Pairs:
    """Data and contexts that are read when asked for, with one context that is no class."""

    def __init__(self, context: int) -> None:
        self.context = context

    def __len__(self) -> int:
        return 40

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        context = torch.where(indices == 30, self.context, 1)
        return torch.full((len(indices), *cases.SHAPE), 0.5), context


@pytest.mark.parametrize("make", [cases.conditional, cases.bottleneck])
def test_every_part_of_the_data_is_checked(make):
    """Data in memory and data read when asked for, of which the second part alone is wrong."""
    model, good, bad = make().model, Pairs(2), Pairs(7)
    assert importance(model, good, num_samples=25).k.shape == (40,)
    for data in (bad, bad[torch.arange(40)]):
        with pytest.raises(ValueError, match=r"from 0 to 2.* 1 to 7|classes .* 7"):
            importance(model, data, num_samples=25)


def test_what_a_model_computes_by_name_changes_nothing():
    """`pyro.deterministic` in the plate of the data is neither drawn anew nor counted as data."""

    def pair(name):
        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                z = pyro.deterministic("double", 2 * z) / 2 if name else z
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x / 3, 0.8))

        return model, guide

    x, found = torch.tensor([0.3, -1.0, 2.0]), []
    for name in (False, True):
        ranks = calibration(pair(name), x, num_simulations=20, num_samples=9).ranks
        few = {"num_samples": 2, "temperatures": 5, "leapfrogs": 1}
        evidence = log_evidence(pair(name), x, method="annealed", **few).values
        data = to_inference_data(pair(name), x, num_samples=4)
        drawn = [data[group]["x"].values for group in ("prior_predictive", "posterior_predictive")]
        assert list(data["observed_data"].data_vars) == ["x"]
        found.append([ranks, evidence, *map(torch.as_tensor, drawn)])
    for without, with_it in zip(*found, strict=True):
        assert torch.equal(without, with_it)
