"""The report says of known posteriors whether they can be believed."""

import pytest
import torch

from pyro_bvae import VAE, theory
from pyro_bvae.datasets.arrays import as_source
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.report.posterior import posterior_section
from tests.report.test_page import Page

NOISE = 0.5


def linear(*, width=1.0):
    """A linear VAE whose q(z|x) is p(z|x) but for `width` times its scale; z[1] says nothing."""
    vae = VAE(
        prior=NormalPrior(2),
        likelihood=NormalLikelihood(mlp_decoder(2, (3,), hidden=()), scale=NOISE),
        posterior=MeanFieldPosterior(mlp_encoder((3,), hidden=()), latents=2),
    )
    weight = torch.zeros(3, 2)
    weight[0, 0] = 1.0
    exact = theory.tempered_posterior(weight, likelihood_scale=NOISE)
    decoder, head = vae.likelihood.decoder.net[0], vae.posterior.head
    decoder.weight.data[:], head.weight.data[:2], head.weight.data[2:] = weight, exact.weight, 0
    decoder.bias.data[:], head.bias.data[:2] = 0, 0
    head.bias.data[2:] = (width**2 * exact.covariance.diagonal()).log()
    return vae


def data(n=1000):
    return torch.randn(n, 3) * torch.tensor([(1 + NOISE**2) ** 0.5, NOISE, NOISE])


def told(vae, x):
    page = Page(posterior_section(vae, as_source(x), seed=0))
    return page.words, page.images


def test_an_exact_posterior_is_believed():
    words, images = told(linear(), data())
    assert "For 24 of 24 data the draws of q(z|x) can be reweighted" in words
    assert "q(z|x) reaches all of where p(z|x) is" in words
    assert "no latent is seen to be off" in words
    assert "1 of 2 latents are active" in words
    assert "cannot be told from as many draws of the prior" in words
    assert len(images) == 2


def test_a_posterior_that_is_too_narrow_is_not():
    words, _ = told(linear(width=0.4), data())
    # k = 1 − .4² = .84 in both latents: most of 24 estimates are above .7.
    fit = int(words.split("For ")[1].split(" of 24")[0])
    assert fit < 12
    assert "the median k̂ is 0." in words
    assert "q(z|x) is 2 of 2 latents too narrow" in words
    assert "do not fill the prior" in words


def test_too_few_data_are_said_to_be_too_few():
    words, images = told(linear(), data(5))
    assert "The posterior could not be tested: x: expected at least 8 data, got 5." in words
    assert images == []


@pytest.mark.parametrize("train", [True, False])
def test_the_section_is_the_seeds_and_leaves_no_trace(train):
    vae, x = linear(), as_source(data(200))
    vae.train(train)
    state = torch.get_rng_state()
    assert posterior_section(vae, x, seed=1) == posterior_section(vae, x, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert vae.training is train


def test_the_worst_images_are_shown():
    vae = VAE(
        prior=NormalPrior(2),
        likelihood=NormalLikelihood(mlp_decoder(2, (1, 4, 4), hidden=()), scale=NOISE),
        posterior=MeanFieldPosterior(mlp_encoder((1, 4, 4), hidden=()), latents=2),
    )
    _, images = told(vae, torch.rand(40, 1, 4, 4))
    assert len(images) == 3
