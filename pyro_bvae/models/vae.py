"""The variational autoencoder: prior, likelihood and posterior as a pair of Pyro functions."""

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_bvae.checks import check_count, check_data
from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.models.parameters import register
from pyro_bvae.models.parts import check_observed, check_parts, check_shape, data_plate
from pyro_bvae.posteriors import Posterior
from pyro_bvae.priors import Prior
from pyro_bvae.types import Distribution


class VAE(nn.Module):
    """z ~ p(z), x ~ p(x|z), with the guide z ~ q(z|x): the model and guide of a β-VAE.

    `model` and `guide` are plain Pyro functions, with plate "data" and sites "z"
    `[batch, latents]` and "x" `[batch, *shape]`. They state the probabilistic model alone; β
    comes with `tempered(vae, beta)`. As a module the VAE moves, saves and loads like any other.

    Args:
        prior: p(z), of event shape `[latents]`.
        likelihood: p(x|z).
        posterior: q(z|x), of event shape `[latents]`.

    The parameters belong to the module, not to Pyro's store: `vae.parameters()` and
    `vae.state_dict()` have them, while `pyro.optim`'s `save`, and options for each parameter by
    its name, find no name there; use `fit` or `CompiledSVI` with a torch optimiser for these.

    Raises:
        TypeError: a part is not of its kind.
        ValueError: prior and posterior differ in their number of latents.

    References:
        Kingma, Welling (2014), Auto-Encoding Variational Bayes.
        Higgins et al. (2017), β-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework.

    >>> from pyro_bvae.likelihoods import BernoulliLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> vae = VAE(
    ...     prior=NormalPrior(2),
    ...     likelihood=BernoulliLikelihood(mlp_decoder(2, (1, 8, 8))),
    ...     posterior=MeanFieldPosterior(mlp_encoder((1, 8, 8)), latents=2),
    ... )
    >>> vae.encode(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 2])
    """

    def __init__(self, prior: Prior, likelihood: Likelihood, posterior: Posterior) -> None:
        super().__init__()
        check_parts(prior, likelihood, posterior)
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior

    def model(self, x: Tensor | None = None, *, size: int | None = None) -> Tensor:
        """Draw z from the prior and x from the likelihood, or observe the given x.

        Args:
            x: the batch `[batch, *shape]`; None draws it.
            size: the number of data the batch was subsampled from, which scales the plate's
                log-probabilities by size / batch; without x, how many to draw (default 1).

        Returns: x `[batch, *shape]`.

        Raises: ValueError if x is empty or has another shape than the likelihood draws, with
            Pyro's validation on (its default) also if its values are impossible, or if size is
            smaller than the batch; TypeError if x is not a tensor of floating-point numbers.
        """
        register(self)
        prior = self.prior()
        with self._plate(x, size):
            z = pyro.sample("z", prior)
            likelihood = self.likelihood(z)
            if x is not None:
                check_shape(x, likelihood)
            return pyro.sample("x", likelihood, obs=x)

    def guide(self, x: Tensor, *, size: int | None = None) -> Tensor:
        """Draw z from q(z|x), and what the prior itself depends on from its posterior.

        Returns: z `[batch, latents]`.
        """
        register(self)
        self.prior.guide()
        with self._plate(x, size):
            return pyro.sample("z", self.posterior(x))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes `[batch, latents]` of x: `posterior.code`, the means of q(z|x)."""
        check_data(x, integers=self.likelihood.integers)
        return self.posterior.code(x)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return `likelihood.point(z)`, the means E[x|z] `[batch, *shape]`."""
        return self.likelihood.point(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the codes of x: `[batch, *shape]` to `[batch, *shape]`."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Decode `n` ≥ 1 draws of z from the prior, with σ from its posterior if it has one."""
        check_count(n, "n")
        return self.decode(self.trained_prior().sample((n,)))

    def trained_prior(self) -> Distribution:
        """Return p(z), with σ drawn from its posterior if it has one."""
        with poutine.replay(trace=poutine.trace(self.prior.guide).get_trace()):
            return self.prior()

    def check(self, x: Tensor, *_: Tensor) -> None:
        """Raise ValueError if x holds values that the likelihood cannot draw."""
        self.likelihood.check(x)

    def _plate(self, x: Tensor | None, size: int | None) -> pyro.plate:
        if x is not None:
            check_observed(x, self.likelihood)
        return data_plate(x, size)
