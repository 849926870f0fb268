"""The layer after a user's network: what does not fit is named, in every part that has one."""

from functools import partial

import pytest
import torch

from pyro_bvae.likelihoods import BernoulliLikelihood, NormalLikelihood
from pyro_bvae.models import Classifier
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import FlowPosterior, MeanFieldPosterior
from pyro_bvae.priors import ConditionalPrior, VampPrior

PARTS = [
    partial(MeanFieldPosterior, latents=2),
    partial(ConditionalPrior, latents=2),
    partial(Classifier, classes=2),
]
parts = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.func.__name__)


@parts
@pytest.mark.parametrize("features", [0, -1, 2.5, True])
def test_refuses_a_width(part, features):
    with pytest.raises(ValueError, match=f"features: .* pass features=.*got {features}"):
        part(mlp_encoder((3,)), features=features)


@parts
def test_refuses_what_is_no_network(part):
    with pytest.raises(TypeError, match="NoneType: expected a network"):
        part(None, features=3)


@parts
def test_refuses_features_of_another_width(part):
    module = part(mlp_encoder((3,), hidden=(4,)), features=7)
    with pytest.raises(ValueError, match=r"expected features of shape \[5, 7\], got \[5, 4\]"):
        module(torch.zeros(5, 3))


def test_refuses_numbers_that_do_not_fit():
    posterior = MeanFieldPosterior(mlp_encoder((3,)), latents=2)
    with pytest.raises(ValueError, match="pseudo_inputs: expected finite values, got 1 NaN"):
        VampPrior(posterior, torch.tensor([[0.0, 1.0, torch.nan]]))
    with pytest.raises(ValueError, match=r"hidden: expected a whole number >= 1, got 2\.5"):
        FlowPosterior(mlp_encoder((3,)), latents=2, hidden=2.5)
    with pytest.raises(TypeError, match=r"decoder: expected a module .* got NoneType"):
        BernoulliLikelihood(None)
    with pytest.raises(ValueError, match=r"shape: expected the decoder's \(3,\), got \(1,\)"):
        NormalLikelihood(mlp_decoder(2, (3,)), scale="per_pixel", shape=(1,))
