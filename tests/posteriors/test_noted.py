"""Distributions with a note of their numbers are the distributions that they were."""

import gc
import weakref

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import (
    FlowPosterior,
    FullRankPosterior,
    LowRankPosterior,
    MeanFieldPosterior,
    MixturePosterior,
    RefinedPosterior,
)
from pyro_bvae.posteriors.noted import source_of
from pyro_bvae.priors import NormalPrior

KINDS = [
    MeanFieldPosterior,
    FullRankPosterior,
    LowRankPosterior,
    FlowPosterior,
    MixturePosterior,
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_note_makes_the_same_distribution_and_outlasts_expansion(kind):
    posterior = kind(mlp_encoder((5,)), latents=2)
    x = torch.rand(3, 5)
    q = posterior(x)
    plain = posterior.family(posterior.amortised(x))
    assert isinstance(q, type(plain))
    assert type(q).__name__ == type(plain).__name__
    assert source_of(plain) is None
    value = plain.sample()
    for noted in (q, q.expand([4, 3]), q.expand([4, 3]).expand([5, 4, 3])):
        source = source_of(noted)
        made = source.family(source.numbers)
        assert source.offset is None
        torch.testing.assert_close(made.log_prob(value), plain.log_prob(value))
        torch.testing.assert_close(
            noted.log_prob(value), plain.log_prob(value).expand(noted.batch_shape)
        )
    if kind not in (FlowPosterior, MixturePosterior):
        prior = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        assert torch.equal(kl_divergence(q, prior), kl_divergence(plain, prior))


def test_a_distribution_is_freed_with_its_last_name():
    """No circle holds its tensors, and their graphs, until Python looks for circles."""
    q = FlowPosterior(mlp_encoder((5,)), latents=2)(torch.rand(3, 5))
    numbers = weakref.ref(source_of(q.expand([4, 3])).numbers)
    gc.disable()
    try:
        del q
        assert numbers() is None
    finally:
        gc.enable()


def test_a_refined_posterior_notes_its_encoders_numbers_and_what_its_steps_add():
    prior, likelihood = NormalPrior(2), BernoulliLikelihood(mlp_decoder(2, (5,)))
    start = MeanFieldPosterior(mlp_encoder((5,)), latents=2)
    x = torch.rand(3, 5)
    q = RefinedPosterior(start, prior=prior, likelihood=likelihood)(x)
    family, numbers, offset = source_of(q)
    torch.testing.assert_close(numbers, start.amortised(x))
    assert offset.any()
    made, value = family(numbers + offset), q.sample()
    assert torch.equal(made.log_prob(value), q.log_prob(value))
