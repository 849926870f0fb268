"""JointVAE: continuous and discrete latents together."""

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_bvae.checks import check_count, check_data, check_number
from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.models.one_hot import Classifier, OneHotClass, StraightThroughClass
from pyro_bvae.models.parameters import register
from pyro_bvae.models.parts import (
    check_decoder,
    check_observed,
    check_part,
    check_parts,
    check_shape,
    data_plate,
)
from pyro_bvae.posteriors import Posterior
from pyro_bvae.priors import Prior


class JointVAE(nn.Module):
    """y ~ one of the classes, z ~ p(z), x ~ p(x|z,y), with the guide q(y|x) q(z|x).

    Nobody tells the classes: y is a latent, a one-hot vector, as z is. Plate "data", sites "y"
    `[batch, classes]`, "z" `[batch, latents]` and "x"; each has its β:
    `beta={"z": 4.0, "y": 1.0}`.

    A draw of y is one-hot, so the loss is an unbiased estimate of the ELBO of this discrete model,
    with the exact categorical KL(q(y|x) ‖ p(y)) = Σ_c q_c log(q_c/p_c) in place of a density of
    relaxed draws. Only the gradient that passes through the draw is that of a relaxed one
    (Gumbel-softmax, straight-through), which is biased, less at a lower temperature, when it
    scatters more.

    Args:
        prior: p(z).
        likelihood: p(x|z,y), with a decoder of latents + classes numbers, z and y end to end.
        posterior: q(z|x).
        classifier: q(y|x). Its encoder may be the posterior's own.
        temperature: of the relaxed draws, > 0.

    Raises:
        TypeError: a part is not of its kind.
        ValueError: another number of latents, or a decoder of another width.

    References:
        Dupont (2018), Learning Disentangled Joint Continuous and Discrete Representations.
        Jang, Gu, Poole (2017), Categorical Reparameterization with Gumbel-Softmax.

    >>> from pyro_bvae.likelihoods import BernoulliLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> encoder = mlp_encoder((1, 8, 8))
    >>> vae = JointVAE(
    ...     prior=NormalPrior(2),
    ...     likelihood=BernoulliLikelihood(mlp_decoder(2 + 10, (1, 8, 8))),
    ...     posterior=MeanFieldPosterior(encoder, latents=2),
    ...     classifier=Classifier(encoder, classes=10),
    ... )
    >>> vae.predict(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    class_logits: Tensor

    def __init__(
        self,
        prior: Prior,
        likelihood: Likelihood,
        posterior: Posterior,
        classifier: Classifier,
        *,
        temperature: float = 0.67,
    ) -> None:
        super().__init__()
        check_parts(prior, likelihood, posterior)
        check_part("classifier", classifier, Classifier)
        check_decoder(likelihood, prior.latents + classifier.classes, "latents and classes")
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        self.classifier = classifier
        self.temperature = check_number(temperature, "temperature", positive=True)
        self.register_buffer("class_logits", torch.zeros(classifier.classes))

    def model(self, x: Tensor | None = None, *, size: int | None = None) -> Tensor:
        """Draw y, z and x, or observe the given x, as `VAE.model` does."""
        register(self)
        prior = self.prior()
        with self._plate(x, size):
            y = pyro.sample("y", OneHotClass(logits=self.class_logits, validate_args=False))
            z = pyro.sample("z", prior)
            likelihood = self.likelihood(torch.cat([z, y], -1))
            if x is not None:
                check_shape(x, likelihood)
            return pyro.sample("x", likelihood, obs=x)

    def guide(self, x: Tensor, *, size: int | None = None) -> Tensor:
        """Draw y from q(y|x) and z from q(z|x); return z."""
        register(self)
        self.prior.guide()
        with self._plate(x, size):
            q = StraightThroughClass(logits=self.classifier(x), validate_args=False)
            pyro.sample("y", q.at(self.temperature))
            return pyro.sample("z", self.posterior(x))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return the codes `[batch, latents]` of x, without the classes."""
        check_data(x, integers=self.likelihood.integers)
        return self.posterior.code(x)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the probabilities q(y|x) `[batch, classes]`."""
        return self.classifier(x).softmax(-1)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Return what stands for p(x|z,y), for classes y `[batch, classes]`, one-hot."""
        if y.shape != (*z.shape[:-1], self.classifier.classes):
            raise ValueError(
                f"y: expected one-hot classes {[*z.shape[:-1], self.classifier.classes]}, a row "
                f"for each z, got {list(y.shape)}; of class numbers take networks.OneHot"
            )
        return self.likelihood.point(torch.cat([z, y.to(z)], -1))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the codes of x and its most probable classes."""
        most = self.predict(x).argmax(-1)
        return self.decode(self.encode(x), torch.eye(self.classifier.classes).to(x)[most])

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Decode `n` ≥ 1 draws of y and z from their priors."""
        check_count(n, "n")
        with poutine.replay(trace=poutine.trace(self.prior.guide).get_trace()):
            z = self.prior().sample((n,))
        return self.decode(z, OneHotClass(logits=self.class_logits).sample((n,)))

    def check(self, x: Tensor, *_: Tensor) -> None:
        """Raise ValueError if x holds values that the likelihood cannot draw."""
        self.likelihood.check(x)

    def _plate(self, x: Tensor | None, size: int | None) -> pyro.plate:
        if x is not None:
            check_observed(x, self.likelihood)
        return data_plate(x, size)
