"""Every objective with every prior and posterior: a finite loss with gradients, or clear words."""

import pytest
import torch

from pyro_bvae import VAE, evaluate, tempered
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.objectives import TotalCorrelationELBO
from pyro_bvae.posteriors import (
    FlowPosterior,
    FullRankPosterior,
    LowRankPosterior,
    MeanFieldPosterior,
    MixturePosterior,
)
from pyro_bvae.priors import (
    FlowPrior,
    LaplacePrior,
    MixturePrior,
    NormalPrior,
    StudentTPrior,
    VampPrior,
)
from tests.objectives.examples import FAMILY, FEATURES, LATENTS, data, small_vae

PRIORS = {
    "laplace": lambda posterior: LaplacePrior(LATENTS),
    "student t": lambda posterior: StudentTPrior(LATENTS, df=5.0),
    "mixture": lambda posterior: MixturePrior(LATENTS, components=3),
    "flow": lambda posterior: FlowPrior(LATENTS),
    "vamp": lambda posterior: VampPrior(posterior, data(4)),
}
POSTERIORS = {
    "full rank": FullRankPosterior,
    "low rank": LowRankPosterior,
    "mixture": MixturePosterior,
    "flow": FlowPosterior,
}
INDEPENDENT = {"stratified", "weighted", "dip i", "dip ii"}
X = data(12)


def vae_of(prior=None, posterior=MeanFieldPosterior):
    q = posterior(mlp_encoder((FEATURES,), hidden=(5,)), LATENTS)
    return VAE(
        prior(q) if prior else NormalPrior(LATENTS),
        NormalLikelihood(mlp_decoder(LATENTS, (FEATURES,), hidden=(5,))),
        q,
    )


def assert_trains(vae, objective):
    """The loss is finite, and so is its gradient, which reaches encoder and decoder."""
    estimate = objective.estimate(*tempered(vae, 1.0), X, size=40)
    assert torch.isfinite(torch.stack([estimate.loss, estimate.elbo])).all()
    estimate.loss.backward()
    for part in (vae.posterior.encoder, vae.likelihood.decoder):
        gradients = torch.cat([p.grad.reshape(-1) for p in part.parameters()])
        assert torch.isfinite(gradients).all()
        assert gradients.abs().max() > 0


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("name", FAMILY)
def test_every_prior(name, prior):
    vae = vae_of(PRIORS[prior])
    objective = FAMILY[name]()
    if name in ("dip i", "dip ii") and prior == "flow":
        with pytest.raises(ValueError, match="model: expected a prior with known variances"):
            objective.loss(vae.model, vae.guide, X)
    else:
        assert_trains(vae, objective)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("name", FAMILY)
def test_every_posterior(name, posterior):
    vae = vae_of(posterior=POSTERIORS[posterior])
    objective = FAMILY[name]()
    if name in INDEPENDENT:
        with pytest.raises(ValueError, match="guide: expected independent latents at site 'z'"):
            objective.loss(vae.model, vae.guide, X)
    else:
        assert_trains(vae, objective)


@pytest.mark.parametrize("batch_size", [16, 5, 17])
def test_evaluate_reports_the_bracket(batch_size):
    """17 data in batches of 16 are two batches of 9 and 8, and none of one.

    The codes are sharp, so that the bracket, which holds in expectation, is wide.
    """
    vae = small_vae()
    with torch.no_grad():
        vae.posterior.head.bias[LATENTS:].fill_(-4.0)
    values = evaluate(
        vae, data(17), objective=TotalCorrelationELBO(beta=1.0), batch_size=batch_size
    )
    assert values["mutual_information_low"] < values["mutual_information_high"]
    parts = ("mutual_information", "total_correlation", "dimension_wise_kl")
    assert values["loss"] == pytest.approx(
        values["reconstruction"] + sum(values[name] for name in parts)
    )
