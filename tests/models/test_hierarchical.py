"""Two layers of latents, where the density is known; and errors at the door."""

import pytest
import torch

from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.models import HierarchicalVAE
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.objectives import ELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import ConditionalPrior, NormalPrior
from tests.models.cases import X, hierarchical

A, S, B, NOISE = 0.8, 0.5, 1.5, 0.7


def chain():
    """z₂ ~ N(0,1), z₁ ~ N(a z₂, s²), x ~ N(b z₁, σ²), all of one dimension."""
    vae = HierarchicalVAE(
        prior=NormalPrior(1),
        layer=ConditionalPrior(mlp_encoder((1,), hidden=()), latents=1),
        likelihood=NormalLikelihood(mlp_decoder(1, (1,), hidden=()), scale=NOISE),
        posterior=MeanFieldPosterior(mlp_encoder((1,), hidden=()), latents=1),
        upper=MeanFieldPosterior(mlp_encoder((1,), hidden=()), latents=1),
    )
    variance_1 = torch.tensor(A**2 + S**2)
    posterior_1 = 1 / (1 / variance_1 + B**2 / NOISE**2)
    posterior_2 = torch.tensor(1 / (1 + A**2 / S**2))
    with torch.no_grad():
        vae.likelihood.decoder.net[0].weight.fill_(B)
        vae.likelihood.decoder.net[0].bias.zero_()
        for head, slope, variance in (
            (vae.layer.head, A, torch.tensor(S**2)),
            (vae.posterior.head, posterior_1 * B / NOISE**2, posterior_1),
            (vae.upper.head, posterior_2 * A / S**2, posterior_2),
        ):
            head.weight.copy_(torch.tensor([[float(slope)], [0.0]]))
            head.bias.copy_(torch.tensor([0.0, float(variance.log())]))
    return vae


def test_with_the_exact_posterior_every_draw_gives_log_p():
    """q(z₁|x) q(z₂|z₁) is exact here, so the loss has no noise and is −Σ log p(x)."""
    vae, x = chain(), torch.randn(20, 1)
    with torch.no_grad():
        losses = [ELBO().loss(vae.model, vae.guide, x) for _ in range(3)]
    scale = (B**2 * (A**2 + S**2) + NOISE**2) ** 0.5
    expected = -torch.distributions.Normal(0.0, scale).log_prob(x).sum().item()
    assert losses == pytest.approx([expected] * 3, rel=1e-10)


def test_samples_have_the_variance_of_the_chain():
    """20,000 draws: sd of a variance estimate is √(2/n) of it, five times that."""
    means = chain().sample(20_000)
    expected = B**2 * (A**2 + S**2)
    assert means.var().item() == pytest.approx(expected, rel=5 * (2 / 20_000) ** 0.5)


def test_codes_of_both_layers():
    vae = hierarchical().model
    assert vae.encode(X).shape == (5, 4)
    upper = vae.encode_upper(X)
    assert torch.equal(upper, vae.upper(vae.encode(X)).mean)
    assert torch.equal(vae.reconstruct(X), vae.decode(vae.encode(X)))
    assert torch.equal(vae.decode_upper(upper), vae.decode(vae.layer(upper).mean))
    assert vae.model(size=3).shape == (3, *X.shape[1:])


def test_refuses_parts_that_do_not_fit():
    vae = hierarchical().model
    parts = {
        "prior": vae.prior, "layer": vae.layer, "likelihood": vae.likelihood,
        "posterior": vae.posterior, "upper": vae.upper,
    }  # fmt: skip
    wrong = MeanFieldPosterior(mlp_encoder((4,)), latents=3)
    with pytest.raises(ValueError, match="upper: expected the prior's 2 latents, got 3"):
        HierarchicalVAE(**parts | {"upper": wrong})
    with pytest.raises(ValueError, match="posterior: expected the prior's 4 latents, got 3"):
        HierarchicalVAE(**parts | {"posterior": wrong})
    with pytest.raises(TypeError, match="layer: expected a ConditionalPrior, got NormalPrior"):
        HierarchicalVAE(**parts | {"layer": NormalPrior(4)})
