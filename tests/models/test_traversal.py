"""A traversal moves one latent to the quantiles of the prior and leaves the others."""

import pyro.distributions as dist
import pytest
import torch

from pyro_bvae import VAE
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.models.traversal import prior_values, traverse
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.priors.base import Prior


def vae_with(prior):
    decoder = mlp_decoder(prior.latents, (3,), hidden=())
    return VAE(
        prior=prior,
        likelihood=NormalLikelihood(decoder),
        posterior=MeanFieldPosterior(mlp_encoder((3,)), latents=prior.latents),
    )


class GammaPrior(Prior):
    """A prior whose quantiles torch has no formula for."""

    def forward(self):
        return dist.Gamma(torch.ones(self.latents), torch.tensor([1.0, 2.0])).to_event(1)


def test_linear_decoder_moves_along_its_column():
    vae = vae_with(NormalPrior(2))
    z, values = torch.tensor([0.4, -1.3]), torch.tensor([-2.0, 0.0, 5.0])
    linear = vae.likelihood.decoder.net[0]
    moved = traverse(vae, z, latent=1, values=values)
    expected = vae.decode(z[None]) + (values - z[1])[:, None] * linear.weight[:, 1]
    torch.testing.assert_close(moved, expected.detach())
    assert z.tolist() == [0.4, -1.3]


def test_normal_prior_gives_multiples_of_its_scale():
    vae = vae_with(NormalPrior(2, scale="per_latent"))
    vae.prior.scale.log_value.data = torch.tensor([0.5, 2.0]).log()
    expected = torch.tensor([0.5, 2.0])[:, None] * torch.linspace(-3, 3, 9)
    torch.testing.assert_close(prior_values(vae), expected)


def test_prior_without_a_formula_gives_quantiles_of_its_draws_and_keeps_the_random_state():
    vae = vae_with(GammaPrior(2))
    state = torch.get_rng_state()
    values = prior_values(vae, values=3, reach=1.0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    assert torch.equal(prior_values(vae, values=3, reach=1.0), values)
    # Gamma(1, rate) has quantiles -ln(1 - p)/rate; at p = Φ(1) five standard errors of 20,000
    # draws are 5 sqrt(p (1 - p) / 20000) / (rate (1 - p)) = 0.082 / rate.
    p = torch.special.ndtr(torch.tensor([-1.0, 0.0, 1.0]))
    expected = -torch.log1p(-p) / torch.tensor([[1.0], [2.0]])
    torch.testing.assert_close(values, expected, atol=0.082, rtol=0)


def test_scale_with_a_hyperprior_is_one_draw_from_its_posterior():
    vae = vae_with(NormalPrior(2, scale=dist.HalfNormal(1.0)))
    vae.prior.scale.loc.data.fill_(0.7)
    vae.prior.scale.log_scale.data.fill_(-20.0)
    end = 3 * torch.tensor(0.7).exp()
    torch.testing.assert_close(prior_values(vae)[:, -1], end.expand(2), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"z": torch.zeros(1, 2)}, r"z: expected one code of shape \[2\]"),
        ({"latent": 2}, "latent: expected a number from 0 to 1, got 2"),
        ({"values": torch.zeros(0)}, "values: expected shape"),
    ],
)
def test_bad_input_is_named(arguments, message):
    good = {"z": torch.zeros(2), "latent": 0, "values": torch.zeros(3)}
    with pytest.raises(ValueError, match=message):
        traverse(vae_with(NormalPrior(2)), **(good | arguments))


def test_bad_range_is_named():
    with pytest.raises(ValueError, match="values, reach"):
        prior_values(vae_with(NormalPrior(2)), values=1)
