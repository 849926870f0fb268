"""The conditional VAE: prior, likelihood and posterior given a context."""

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.models.parameters import register
from pyro_bvae.models.parts import (
    check_context,
    check_observed,
    check_parts,
    check_shape,
    check_takes_context,
    data_plate,
)
from pyro_bvae.networks.context import OneHot, check_labels
from pyro_bvae.posteriors import Posterior
from pyro_bvae.priors import Prior
from pyro_bvae.types import Distribution


class ConditionalVAE(nn.Module):
    """z ~ p(z|c), x ~ p(x|z,c), with the guide z ~ q(z|x,c), for a context c that is given.

    ELBO = E_q[log p(x|z,c)] − KL(q(z|x,c) ‖ p(z|c)) ≤ log p(x|c). Plate "data", sites "z"
    `[batch, latents]` and "x" `[batch, *shape]`; the context is no site. A context is a tensor
    `[batch, ...]` or several of them: classes, numbers, another image, a part of the image. Data
    are tuples: `fit(cvae, (x, context), ...)`.

    Args:
        prior: p(z|c), a `ConditionalPrior`; or any other prior, for a z that is independent of c.
        likelihood: p(x|z,c); its decoder is called as `decoder(z, *context)`, such as a
            `ContextDecoder`, or `NoContext(decoder)` for p(x|z).
        posterior: q(z|x,c); its encoder is called as `encoder(x, *context)`, such as a
            `ContextEncoder`, or `NoContext(encoder)` for q(z|x).

    Raises:
        TypeError: a part is not of its kind, or has a network that takes no context.
        ValueError: prior and posterior differ in their number of latents.

    References:
        Sohn, Lee, Yan (2015), Learning Structured Output Representation using Deep Conditional
        Generative Models.

    >>> from pyro_bvae.likelihoods import BernoulliLikelihood
    >>> from pyro_bvae.networks import ContextDecoder, ContextEncoder, OneHot
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import ConditionalPrior
    >>> decoder = ContextDecoder(mlp_decoder(2 + 10, (1, 8, 8)), OneHot(10))
    >>> encoder = ContextEncoder(mlp_encoder((64 + 10,)), OneHot(10))
    >>> cvae = ConditionalVAE(
    ...     prior=ConditionalPrior(OneHot(10), latents=2),
    ...     likelihood=BernoulliLikelihood(decoder),
    ...     posterior=MeanFieldPosterior(encoder, latents=2),
    ... )
    >>> cvae.sample(torch.tensor([7, 7, 3])).shape
    torch.Size([3, 1, 8, 8])
    """

    def __init__(self, prior: Prior, likelihood: Likelihood, posterior: Posterior) -> None:
        super().__init__()
        check_parts(prior, likelihood, posterior)
        check_takes_context("decoder", getattr(likelihood, "decoder", None))
        check_takes_context("encoder", getattr(posterior, "encoder", None))
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior

    def model(self, x: Tensor | None = None, *context: Tensor, size: int | None = None) -> Tensor:
        """Draw z from p(z|c) and x from p(x|z,c), or observe the given x.

        Args:
            x: the batch `[batch, *shape]`; None draws one for every row of the context.
            context: tensors `[batch, ...]`.
            size: the number of data the batch was subsampled from.

        Returns: x `[batch, *shape]`.

        Raises: ValueError or TypeError for an x that `VAE.model` refuses, or a context that is
            missing or has another number of rows.
        """
        self._check(x, context)
        register(self)
        prior = self.prior(*context)
        with data_plate(context[0], size):
            z = pyro.sample("z", prior)
            likelihood = self.likelihood(z, *context)
            if x is not None:
                check_shape(x, likelihood)
            return pyro.sample("x", likelihood, obs=x)

    def guide(self, x: Tensor, *context: Tensor, size: int | None = None) -> Tensor:
        """Draw z `[batch, latents]` from q(z|x,c)."""
        self._check(x, context)
        register(self)
        self.prior.guide()
        with data_plate(context[0], size):
            return pyro.sample("z", self.posterior(x, *context))

    @torch.no_grad()
    def encode(self, x: Tensor, *context: Tensor) -> Tensor:
        """Return the codes `[batch, latents]` of x, given the context."""
        self._check(x, context)
        return self.posterior.code(x, *context)

    @torch.no_grad()
    def decode(self, z: Tensor, *context: Tensor) -> Tensor:
        """Return what stands for p(x|z,c) `[batch, *shape]`: its mean, as a rule."""
        check_context(context, len(z))
        return self.likelihood.point(z, *context)

    def reconstruct(self, x: Tensor, *context: Tensor) -> Tensor:
        """Decode the codes of x, given the context."""
        return self.decode(self.encode(x, *context), *context)

    @torch.no_grad()
    def sample(self, *context: Tensor) -> Tensor:
        """Decode a draw of z from p(z|c) for every row of the context: `[batch, *shape]`."""
        check_context(context, None)
        prior = self.trained_prior(*context)
        z = prior.sample() if prior.batch_shape else prior.sample((len(context[0]),))
        return self.decode(z, *context)

    def trained_prior(self, *context: Tensor) -> Distribution:
        """Return p(z|c), with σ drawn from its posterior if it has one."""
        with poutine.replay(trace=poutine.trace(self.prior.guide).get_trace()):
            return self.prior(*context)

    def check(self, x: Tensor, *context: Tensor) -> None:
        """Raise ValueError if the likelihood cannot draw x, or there is no such class.

        Raises: TypeError if there is no context.
        """
        self._check(x, context)
        for module in self.modules():
            embed = getattr(module, "embed", getattr(module, "network", None))
            if isinstance(embed, OneHot) and len(context) == 1:
                check_labels(context[0], embed.features)

    def _check(self, x: Tensor | None, context: tuple[Tensor, ...]) -> None:
        if x is not None:
            check_observed(x, self.likelihood)
        check_context(context, None if x is None else len(x))
