"""The importance-weighted bound against the exact log p(x) of a linear model."""

import pytest
import torch
from torch import Tensor

from pyro_bvae import VAE, tempered, theory
from pyro_bvae.selection import importance_bound
from tests.truths import NOISE, linear_vae

WEIGHT = torch.tensor(
    [[1.5, 0.2], [0.0, 1.0], [0.3, -0.4], [0.0, 0.0], [0.1, 0.1]], dtype=torch.float64
)
X = torch.tensor([[1.0, -0.5, 0.3, 0.2, -0.1]], dtype=torch.float64)
EXACT = -3.8953950495300598


def vae_with(weight: Tensor, guide: theory.LinearGuide) -> VAE:
    """A VAE of this decoder and guide, around data of mean 0."""
    vae = linear_vae(2)
    net, head = vae.likelihood.decoder.net[0], vae.posterior.head
    with torch.no_grad():
        net.weight.copy_(weight)
        net.bias.zero_()
        head.weight.copy_(torch.cat([guide.weight, torch.zeros(2, 5)]))
        head.bias.copy_(torch.cat([torch.zeros(2), guide.covariance.diagonal().log()]))
    return vae


def orthogonal() -> Tensor:
    """The decoder with its latents turned so that a diagonal guide can be exact."""
    return WEIGHT @ torch.linalg.eigh(WEIGHT.mT @ WEIGHT).eigenvectors


@pytest.mark.parametrize("particles", [1, 7])
def test_with_the_exact_posterior_every_bound_is_log_p(particles: int):
    guide = theory.diagonal_guide(orthogonal(), likelihood_scale=NOISE)
    vae = vae_with(orthogonal(), guide)
    for pair in (vae, tempered(vae, 4.0)):
        bound = importance_bound(pair, X.repeat(3, 1), num_particles=particles)
        assert bound == pytest.approx(torch.full((3,), EXACT), abs=1e-12)


def test_gap_of_a_tempered_guide_is_half_chi_squared_over_k():
    guide = theory.diagonal_guide(orthogonal(), beta=4.0, likelihood_scale=NOISE)
    vae = vae_with(orthogonal(), guide)
    bounds = {k: importance_bound(vae, X.repeat(4000, 1), num_particles=k) for k in (1, 50)}
    # Standard errors: the spread over the 4000 repetitions, three of them.
    errors = {k: 3 * bound.std().item() / 4000**0.5 for k, bound in bounds.items()}
    assert EXACT - bounds[1].mean().item() == pytest.approx(0.8981231236, abs=errors[1])
    assert EXACT - bounds[50].mean().item() == pytest.approx(0.7978426 / 100, abs=errors[50] + 1e-3)
    assert errors[50] < 7e-3


def test_the_random_state_stays_and_bad_numbers_are_named():
    vae = linear_vae(2)
    state = torch.get_rng_state()
    importance_bound(vae, X, num_particles=2)
    assert torch.equal(torch.get_rng_state(), state)
    for particles in (0, True, 2.0):
        with pytest.raises(ValueError, match="num_particles"):
            importance_bound(vae, X, num_particles=particles)
