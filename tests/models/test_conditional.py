"""The conditional VAE where the conditional density is known, and its errors at the door."""

from functools import partial

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_bvae import evaluate, fit, tempered
from pyro_bvae.diagnostics import check_pair
from pyro_bvae.likelihoods import BernoulliLikelihood, NormalLikelihood
from pyro_bvae.models import ConditionalVAE, traverse
from pyro_bvae.networks import (
    ContextDecoder,
    ContextEncoder,
    NoContext,
    mlp_decoder,
    mlp_encoder,
)
from pyro_bvae.objectives import ELBO
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import ConditionalPrior, NormalPrior
from tests.models.cases import CLASS, X, conditional

A, B = torch.tensor([[1.0, -0.5], [0.3, 0.8]]).double(), torch.tensor([1.2, -0.4]).double()
NOISE = 0.5


def linear():
    """x = B z + noise, z ~ N(A₀ c, σ²(c)): all that its networks can say is linear."""
    prior = ConditionalPrior(mlp_encoder((2,), hidden=()), latents=1)
    decoder = ContextDecoder(mlp_decoder(1 + 2, (2,), hidden=()))
    encoder = ContextEncoder(mlp_encoder((2 + 2,), hidden=()))
    return ConditionalVAE(
        prior,
        NormalLikelihood(decoder, scale=NOISE),
        MeanFieldPosterior(encoder, latents=1),
    )


def exact(cvae):
    """Set a prior N(a·c, s²), a decoder B z + A c, and the exact posterior; return log p(x|c)."""
    a, s = torch.tensor([0.7, -0.2]).double(), 0.8
    variance = 1 / (1 / s**2 + (B @ B) / NOISE**2)
    gain = variance * B / NOISE**2
    with torch.no_grad():
        cvae.prior.head.weight.copy_(torch.stack([a, torch.zeros(2).double()]))
        cvae.prior.head.bias.copy_(torch.tensor([0.0, 2 * np.log(s)]))
        last = cvae.likelihood.decoder.decoder.net[0]
        last.weight.copy_(torch.cat([B[:, None], A], 1))
        last.bias.zero_()
        on_c = variance * a / s**2 - gain @ A
        rows = torch.stack([torch.cat([gain, on_c]), torch.zeros(4).double()])
        cvae.posterior.head.weight.copy_(rows)
        cvae.posterior.head.bias.copy_(torch.tensor([0.0, variance.log()]))

    def log_density(x, c):
        covariance = s**2 * torch.outer(B, B) + NOISE**2 * torch.eye(2)
        mean = (c @ a)[:, None] * B + c @ A.mT
        return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)

    return log_density


def test_with_the_exact_posterior_the_elbo_is_log_p_of_x_given_c():
    """Each draw's log p(x,z|c) − log q(z|x,c) is log p(x|c), for every datum."""
    cvae = linear()
    log_density = exact(cvae)
    x, c = torch.randn(7, 2), torch.randn(7, 2)
    q = cvae.posterior(x, c)
    z = q.sample()
    joint = cvae.prior(c).log_prob(z) + cvae.likelihood(z, c).log_prob(x)
    torch.testing.assert_close(joint - q.log_prob(z), log_density(x, c), rtol=1e-10, atol=1e-10)


def test_samples_have_the_conditional_moments():
    """20,000 draws at one c; five standard errors of mean and covariance."""
    cvae = linear()
    exact(cvae)
    c = torch.tensor([[0.5, -1.0]]).expand(20_000, 2)
    z = cvae.prior(c).sample()
    x = cvae.likelihood(z, c).sample()
    covariance = 0.64 * torch.outer(B, B) + NOISE**2 * torch.eye(2)
    mean = 0.55 * B + c[0] @ A.mT
    error = covariance.diagonal().sqrt() / 20_000**0.5
    assert ((x.mean(0) - mean).abs() < 5 * error).all()
    torch.testing.assert_close(x.T.cov(), covariance, atol=5 * 1.5 * 2**0.5 / 141, rtol=0)
    means = cvae.sample(c)
    spread = 0.64 * torch.outer(B, B)
    torch.testing.assert_close(means.T.cov(), spread, atol=5 * 2**0.5 / 141, rtol=0)


def test_training_reaches_the_conditional_likelihood():
    """4000 data of the model: within 0.02 nats of the exact mean log p(x|c), from below.

    The networks can express the exact posterior, so the only gap is the optimiser's, and the
    parameters of a fit, 17, gain at most about 17/2/4000 = 0.002 nats by over-fitting.
    """
    truth = linear()
    log_density = exact(truth)
    c = torch.randn(4000, 2)
    with torch.no_grad():
        x = truth.likelihood(truth.prior(c).sample(), c).sample()
        best = log_density(x, c).mean().item()
    torch.manual_seed(1)
    cvae = linear()
    start = evaluate(cvae, (x, c))["elbo"]
    for rate in (2e-2, 2e-3):
        optim = partial(torch.optim.Adam, lr=rate)
        fit(
            cvae, (x, c), steps=500, batch_size=400, optim=optim, compile="recorded", progress=False
        )
    reached = np.mean([evaluate(cvae, (x, c), seed=seed)["elbo"] for seed in range(5)])
    assert start < best - 0.5
    assert best - 0.02 < reached < best + 0.01


def test_every_part_may_leave_the_context_out():
    encoder = NoContext(mlp_encoder((1, 2, 3)))
    decoder = NoContext(mlp_decoder(2, (1, 2, 3)))
    plain = ConditionalVAE(
        NormalPrior(2, scale="learned"),
        BernoulliLikelihood(decoder),
        MeanFieldPosterior(encoder, latents=2),
    )
    torch.manual_seed(0)
    a = ELBO().loss(plain.model, plain.guide, X, CLASS)
    torch.manual_seed(0)
    b = ELBO().loss(plain.model, plain.guide, X, CLASS.flip(0))
    assert a == b
    assert plain.sample(CLASS).shape == X.shape


def test_a_prior_whose_scale_has_a_hyperprior():
    """The scale is sampled once, outside the plate of the data, in model and guide."""
    parts = conditional().model
    prior = NormalPrior(2, scale=dist.HalfNormal(1.0))
    cvae = ConditionalVAE(prior, parts.likelihood, parts.posterior)
    check = check_pair(*tempered(cvae, 2.0), X, CLASS)
    assert check.sound, str(check)
    trace = poutine.trace(cvae.model).get_trace(X, CLASS)
    assert trace.nodes["prior_scale"]["cond_indep_stack"] == ()
    assert cvae.sample(CLASS).shape == X.shape


def test_several_contexts():
    encoder = ContextEncoder(mlp_encoder((6 + 2 + 1,)))
    decoder = ContextDecoder(mlp_decoder(2 + 2 + 1, (1, 2, 3)))
    cvae = ConditionalVAE(
        NormalPrior(2), BernoulliLikelihood(decoder), MeanFieldPosterior(encoder, latents=2)
    )
    data = (X, torch.randn(5, 2), torch.randn(5))
    history = fit(cvae, data, steps=2, batch_size=3, progress=False).history
    assert np.isfinite(history["loss"]).all()
    assert cvae.reconstruct(*data).shape == X.shape


def test_completing_an_image_from_a_quadrant():
    """The context is a quadrant, x the rest: what is seen of the quadrant decides the draw."""
    images = (torch.rand(200) > 0.5).double()[:, None].expand(200, 16)
    seen, rest = images[:, :4], images[:, 4:]
    cvae = ConditionalVAE(
        NormalPrior(1),
        BernoulliLikelihood(ContextDecoder(mlp_decoder(1 + 4, (12,)))),
        MeanFieldPosterior(ContextEncoder(mlp_encoder((12 + 4,))), latents=1),
    )
    fit(
        cvae, (rest, seen), steps=150, batch_size=50,
        optim=partial(torch.optim.Adam, lr=1e-2), compile="recorded", progress=False,
    )  # fmt: skip
    drawn = cvae.sample(torch.tensor([[0.0] * 4, [1.0] * 4]))
    assert drawn.shape == (2, 12)
    assert drawn[0].max() < 0.1
    assert drawn[1].min() > 0.9


def test_encode_decode_reconstruct_and_traverse():
    cvae = conditional().model
    z = cvae.encode(X, CLASS)
    assert torch.equal(z, cvae.posterior(X, CLASS).mean)
    assert torch.equal(cvae.reconstruct(X, CLASS), cvae.decode(z, CLASS))
    assert not cvae.reconstruct(X, CLASS).requires_grad
    values = torch.tensor([-1.0, 0.0, 2.0])
    moved = traverse(cvae, z[0], CLASS[:1], latent=1, values=values)
    codes = z[0].repeat(3, 1)
    codes[:, 1] = values
    assert torch.equal(moved, cvae.decode(codes, CLASS[:1].expand(3)))


def test_draws_without_data():
    cvae = conditional().model
    assert cvae.model(None, CLASS).shape == X.shape


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((X,), TypeError, "context: expected at least one tensor"),
        ((X, CLASS[:3]), ValueError, r"context: expected 5 rows, one for each datum, got .*\[3\]"),
        ((X, [1, 2]), TypeError, "context: expected tensors"),
        ((X, CLASS.double()), TypeError, r"labels: expected integers \[batch\] from 0 to 2, got"),
        ((X, CLASS + 1), ValueError, "labels: expected integers .* got 1 to 3; number the classes"),
        ((X, CLASS[:, None]), ValueError, r"labels: .* got shape \[5, 1\]"),
    ],
)
def test_refuses_context(data, error, message):
    cvae = conditional().model
    for function in (cvae.guide, cvae.model):
        with pytest.raises(error, match=message):
            function(*data)


def test_refuses_networks_that_take_no_context():
    parts = conditional().model
    with pytest.raises(TypeError, match=r"decoder: .*ContextDecoder\(decoder, ...\), or as NoCont"):
        ConditionalVAE(parts.prior, BernoulliLikelihood(mlp_decoder(2, (3,))), parts.posterior)
    posterior = MeanFieldPosterior(mlp_encoder((3,)), latents=2)
    with pytest.raises(TypeError, match=r"encoder: expected a network of two arguments"):
        ConditionalVAE(parts.prior, parts.likelihood, posterior)


def test_refuses_parts_of_another_kind_or_width():
    parts = conditional().model
    with pytest.raises(TypeError, match="prior: expected a Prior, got Linear"):
        ConditionalVAE(nn.Linear(2, 2), parts.likelihood, parts.posterior)
    with pytest.raises(ValueError, match="posterior: expected the prior's 4 latents, got 2"):
        ConditionalVAE(NormalPrior(4), parts.likelihood, parts.posterior)
