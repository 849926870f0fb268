"""Factors that are known for some of the data, under diagnostics: evidence and simulations."""

import pytest
import torch

from pyro_bvae.diagnostics import calibration, log_evidence, to_inference_data
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.models import PartialFactorsVAE
from pyro_bvae.networks import ContextEncoder, mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.models.cases import FACTORS, KNOWN, X, partial_factors


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_the_evidence_of_partly_known_factors_is_joint_with_what_is_known(alpha):
    """x = W z + V y + noise: log N of (x, known y), and k̂ small, whatever α is.

    Within 4.5 standard errors: two tails of 6 data, 1e-4.
    """
    weight = torch.tensor([[1.5, 0.2, 0.5], [0.0, 1.0, -1.0], [0.3, -0.4, 1.0]])
    vae = PartialFactorsVAE(
        NormalPrior(1),
        NormalLikelihood(mlp_decoder(1 + 2, (3,), hidden=()), scale=0.7),
        MeanFieldPosterior(ContextEncoder(mlp_encoder((3 + 2,), hidden=())), latents=1),
        MeanFieldPosterior(mlp_encoder((3,), hidden=()), latents=2),
        alpha=alpha,
    )
    with torch.no_grad():
        vae.likelihood.decoder.net[0].weight.copy_(weight)
        vae.likelihood.decoder.net[0].bias.zero_()
        for head in (vae.posterior.head, vae.regressor.head):
            head.weight.zero_()
            head.bias.zero_()
    x, factors = torch.randn(5, 3), FACTORS
    found = log_evidence(vae, (x, factors, KNOWN), num_samples=4000)
    eye = torch.eye(2)
    both = torch.cat([weight, torch.cat([torch.zeros(2, 1), eye], 1)])
    covariance = both @ both.mT + torch.diag(torch.tensor([0.49, 0.49, 0.49, 0.0, 0.0]))
    for i, (value, error) in enumerate(zip(found.values, found.errors, strict=True)):
        kept = torch.cat([torch.ones(3).bool(), KNOWN[i]])
        seen = torch.cat([x[i], factors[i]])[kept]
        fn = torch.distributions.MultivariateNormal(
            torch.zeros(len(seen)), covariance[kept][:, kept]
        )
        assert abs(value - fn.log_prob(seen)) < 4.5 * error + 1e-9
        assert error < 0.1


def test_factors_that_are_simulated_are_those_that_made_the_data():
    model = partial_factors().model
    sampler = Sampler(model, (X, FACTORS, KNOWN))
    with sampler.running(0), torch.no_grad():
        latents, (_, factors, known) = sampler.simulate(torch.arange(5))
    assert torch.equal(known, KNOWN)
    assert torch.equal(factors, torch.where(KNOWN, latents["y"], FACTORS))
    found = calibration(model, (X, FACTORS, KNOWN), num_simulations=12, num_samples=9)
    assert found.ranks.shape == (12, 4)
    y = to_inference_data(model, (X, FACTORS, KNOWN), num_samples=3)["posterior"]["y"].to_numpy()[0]
    assert (y[:, KNOWN] == FACTORS[KNOWN].numpy()).all()
