"""Linear-Gaussian pairs as bare Pyro functions, whose posteriors are known exactly."""

import pyro
import pyro.distributions as dist
import torch

from pyro_bvae import theory


def linear_pair(decoder, guide, *, likelihood_scale, prior_scale=1.0):
    """z ~ N(0, σ_z² I), x ~ N(Wz, σ_x² I), and the guide N(Vx, S)."""
    independent = torch.equal(guide.covariance, torch.diag(guide.covariance.diagonal()))

    def model(x):
        with pyro.plate("data", len(x)):
            prior = dist.Normal(torch.zeros(decoder.shape[1]), prior_scale).to_event(1)
            z = pyro.sample("z", prior)
            pyro.sample("x", dist.Normal(z @ decoder.mT, likelihood_scale).to_event(1), obs=x)

    def q(x):
        mean = x @ guide.weight.mT
        if independent:
            return dist.Normal(mean, guide.covariance.diagonal().sqrt()).to_event(1)
        return dist.MultivariateNormal(mean, guide.covariance)

    def guide_function(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", q(x))

    return model, guide_function


def tempered_pair(decoder, *, beta=1.0, likelihood_scale, prior_scale=1.0):
    """The pair with the best guide for β."""
    knobs = {"likelihood_scale": likelihood_scale, "prior_scale": prior_scale}
    guide = theory.tempered_posterior(decoder, beta=beta, **knobs)
    return linear_pair(decoder, guide, **knobs)


def optimum_pair(beta, *, latents, spectrum, noise):
    """The linear β-VAE at its optimum, in the data's principal axes, and its variances of q."""
    optimum = theory.linear_optimum(spectrum, latents, beta=beta, likelihood_scale=noise)
    decoder = torch.zeros(len(spectrum), latents)
    decoder[:latents] = torch.diag(optimum.singular_values)
    return tempered_pair(decoder, beta=beta, likelihood_scale=noise)
