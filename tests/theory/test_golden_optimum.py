"""The optimum of the linear β-VAE in numbers, and against training from random starts."""

import pytest
import torch

from pyro_bvae.theory import LinearGuide, diagonal_gap, linear_optimum, linear_terms
from tests.theory.cases import SCALE, SPECTRUM, maximise, rotated

# β, K, r, then L, R, Dist, MSE, singular values of W, s_j²
GOLDEN = [
    (
        *(0.5, 4, 1.0, -5.24512090, 4.48738715, 3.00142732, 0.85),
        *((1.962142, 1.360147, 0.921954, 0.591608), (0.0375, 0.075, 0.15, 0.3)),
    ),
    (
        *(1.0, 3, 1.0, -7.18044063, 2.84567998, 4.33476066, 1.65),
        *((1.923538, 1.303840, 0.836660), (0.075, 0.15, 0.3)),
    ),
    (
        *(2.0, 3, 1.0, -9.44667907, 1.80595921, 5.83476066, 2.55),
        *((1.843909, 1.183216, 0.632456), (0.15, 0.3, 0.6)),
    ),
    (
        *(4.0, 3, 1.0, -11.93102418, 0.85739921, 8.50142732, 4.15),
        *((1.673320, 0.894427, 0.0), (0.3, 0.6, 1.0)),
    ),
    (
        *(4.0, 3, 0.25, -11.93102418, 0.85739921, 8.50142732, 4.15),
        *((3.346640, 1.788854, 0.0), (0.075, 0.15, 0.25)),
    ),
    (
        *(8.0, 3, 1.0, -13.87806315, 0.25541281, 11.83476066, 6.15),
        *((1.264911, 0.0, 0.0), (0.6, 1.0, 1.0)),
    ),
]


def optimum_of(beta, latents=3, prior_scale=1.0):
    return linear_optimum(
        torch.tensor(SPECTRUM),
        latents,
        beta=beta,
        likelihood_scale=SCALE,
        prior_scale=prior_scale,
    )


@pytest.mark.parametrize(
    ("beta", "latents", "r", "objective", "rate", "distortion", "mse", "singular", "variances"),
    GOLDEN,
)
def test_golden_optimum(beta, latents, r, objective, rate, distortion, mse, singular, variances):
    optimum = optimum_of(beta, latents, r**0.5)

    assert optimum.objective.item() == pytest.approx(objective, abs=6e-9)
    assert optimum.rate.item() == pytest.approx(rate, abs=6e-9)
    assert optimum.distortion.item() == pytest.approx(distortion, abs=6e-9)
    assert optimum.mse.item() == pytest.approx(mse, abs=1e-12)
    assert optimum.singular_values.tolist() == pytest.approx(singular, abs=6e-7)
    assert optimum.posterior_variances.tolist() == pytest.approx(variances, abs=1e-12)
    assert optimum.active == sum(value > 0 for value in singular)


@pytest.mark.parametrize(
    ("beta", "exact", "elbo"), [(2.0, -7.224924, -7.640720), (4.0, -7.873008, -9.358827)]
)
def test_golden_likelihood_is_not_the_bound_when_beta_is_not_one(beta, exact, elbo):
    optimum = optimum_of(beta)

    assert optimum.log_likelihood.item() == pytest.approx(exact, abs=6e-7)
    assert optimum.elbo.item() == pytest.approx(elbo, abs=6e-7)
    assert optimum_of(1.0).log_likelihood.item() == pytest.approx(optimum_of(1.0).elbo.item())


@pytest.mark.parametrize(("beta", "latents", "r"), [row[:3] for row in GOLDEN])
@pytest.mark.parametrize("restart", [0, 1])
def test_no_decoder_and_diagonal_guide_do_better(beta, latents, r, restart):
    """From random starts, a free W, V and diag S reach the optimum, with W's columns orthogonal."""
    torch.manual_seed(restart)
    optimum = optimum_of(beta, latents, r**0.5)
    covariance = rotated(torch.tensor(SPECTRUM))
    knobs = {"beta": beta, "likelihood_scale": SCALE, "prior_scale": r**0.5}

    def objective(decoder, weight, log_variance):
        guide = LinearGuide(weight, torch.diag(log_variance.exp()))
        return linear_terms(covariance, decoder, guide, **knobs).objective

    decoder, weight = torch.randn(5, latents), torch.randn(latents, 5)
    log_variance = torch.zeros(latents)
    reached = maximise(objective, decoder, weight, log_variance)

    assert reached == pytest.approx(optimum.objective.item(), abs=1e-7)
    norms = decoder.detach().norm(dim=0).sort(descending=True)
    torch.testing.assert_close(norms.values, optimum.singular_values, atol=1e-3, rtol=0)
    torch.testing.assert_close(
        log_variance.detach().exp()[norms.indices], optimum.posterior_variances, atol=1e-3, rtol=0
    )
    assert diagonal_gap(decoder.detach(), **knobs) < 1e-6
