"""A VAE whose latents include a class that is known for some of the data."""

import pyro
import torch
from pyro import poutine
from pyro.distributions import Categorical
from torch import Tensor, nn

from pyro_bvae.checks import check_number
from pyro_bvae.likelihoods import Likelihood
from pyro_bvae.models.drawn_class import draw, draw_guide, told
from pyro_bvae.models.one_hot import Classifier, MeanClass, OneHotClass
from pyro_bvae.models.parameters import register
from pyro_bvae.models.parts import (
    check_decoder,
    check_observed,
    check_part,
    check_parts,
    check_shape,
    check_takes_context,
    data_plate,
    under_plates,
)
from pyro_bvae.models.weighted import Weighted
from pyro_bvae.networks.context import check_labels
from pyro_bvae.posteriors.amortised import AmortisedPosterior
from pyro_bvae.priors import Prior
from pyro_bvae.types import Distribution, Pair


class SemiSupervisedVAE(nn.Module):
    """y ~ one of the classes, z ~ p(z), x ~ p(x|z,y), with the guide q(y|x) q(z|x,y).

    Where the class is known q(y|x) is that class; where it is not, the sum over the classes is
    taken inside, exactly: a code z is drawn for every class, and weighs what q(y|x) gives it.
    The loss of a batch, at β = 1, is

        − Σ_labelled [E_q log p(x|z,y) − KL_z(y) + log p(y)] − α Σ_labelled log q(y|x)
        − Σ_others [Σ_y q(y|x) (E_q log p(x|z,y) − KL_z(y)) − KL(q(y|x) ‖ p(y))].

    Plates "data" and, within, "classes"; sites "y" `[batch, classes]`, one-hot in the model, whose
    value is its mean under the guide; "z" `[classes, batch, latents]`; "x"; and "label", the
    classification term, which counts as a reconstruction: evaluate without labels, or with α = 0,
    for the ELBO. Each latent has its β: `beta={"z": 1.0, "y": 1.0}`. Data are pairs:
    `fit(vae, (x, labels), ...)`, the labels integers `[batch]` with −1 where the class is unknown.
    Objectives about the distribution of codes take that of z, of every class with weight q(y|x).
    Diagnostics hold the pair `drawn`, of one y and one z for each datum.

    Args:
        prior: p(z).
        likelihood: p(x|z,y), with a decoder of latents + classes numbers, z and y end to end.
        posterior: q(z|x,y); its encoder is called as `encoder(x, y)`, y one-hot: a
            `ContextEncoder`, or `NoContext(encoder)` for q(z|x).
        classifier: q(y|x).
        alpha: α ≥ 0, the weight of the classification term per labelled datum. Kingma et al. take
            0.1 N/N_labelled, for N data; where labels are few, more does better.

    Raises:
        TypeError: a part is not of its kind.
        ValueError: another number of latents, a decoder of another width, or α < 0.

    References:
        Kingma, Rezende, Mohamed, Welling (2014), Semi-supervised Learning with Deep Generative
        Models, model M2.

    >>> from pyro_bvae.likelihoods import BernoulliLikelihood
    >>> from pyro_bvae.networks import ContextEncoder, mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> vae = SemiSupervisedVAE(
    ...     prior=NormalPrior(5),
    ...     likelihood=BernoulliLikelihood(mlp_decoder(5 + 10, (1, 8, 8))),
    ...     posterior=MeanFieldPosterior(ContextEncoder(mlp_encoder((64 + 10,))), latents=5),
    ...     classifier=Classifier(mlp_encoder((1, 8, 8)), classes=10),
    ...     alpha=20.0,
    ... )
    >>> vae.predict(torch.zeros(4, 1, 8, 8)).shape
    torch.Size([4, 10])
    """

    class_logits: Tensor
    one_hot: Tensor

    def __init__(
        self,
        prior: Prior,
        likelihood: Likelihood,
        posterior: AmortisedPosterior,
        classifier: Classifier,
        *,
        alpha: float,
    ) -> None:
        super().__init__()
        check_parts(prior, likelihood, posterior)
        check_part("posterior", posterior, AmortisedPosterior)
        check_part("classifier", classifier, Classifier)
        check_takes_context("encoder", posterior.encoder)
        self.classes = classifier.classes
        check_decoder(likelihood, prior.latents + self.classes, "latents and classes")
        self.prior = prior
        self.likelihood = likelihood
        self.posterior = posterior
        self.classifier = classifier
        self.alpha = check_number(alpha, "alpha")
        self.register_buffer("class_logits", torch.zeros(self.classes))
        self.register_buffer("one_hot", torch.eye(self.classes), persistent=False)

    def model(
        self, x: Tensor | None = None, labels: Tensor | None = None, *, size: int | None = None
    ) -> Tensor:
        """Draw y, z and x; or observe x, for every class, and the labels where there are some.

        Raises: ValueError or TypeError for an x that `VAE.model` refuses; labels that are no
            integers from −1 to classes − 1, or not as many as x.
        """
        register(self)
        prior = self.prior()
        with self._plate(x, labels, size):
            if x is None:
                return draw(prior, self.class_logits, self.likelihood)
            y = pyro.sample("y", OneHotClass(logits=self.class_logits, validate_args=False))
            self._observe_labels(x, labels)
            with pyro.plate("classes", self.classes), Weighted(_over_classes(y)):
                z = pyro.sample("z", prior)
                likelihood = self.likelihood(torch.cat([z, self._each_class(z)], -1))
                check_shape(x, likelihood)
                return pyro.sample("x", likelihood, obs=x)

    def guide(self, x: Tensor, labels: Tensor | None = None, *, size: int | None = None) -> Tensor:
        """Put q(y|x), or the label, in place of y, and draw z from q(z|x,y) for every class."""
        register(self)
        self.prior.guide()
        with self._plate(x, labels, size):
            q = MeanClass(
                logits=told(self.classifier(x), labels, self.one_hot), validate_args=False
            )
            y = pyro.sample("y", q)
            with pyro.plate("classes", self.classes), Weighted(_over_classes(y)):
                return pyro.sample("z", self._posterior_of_each_class(x))

    @property
    def drawn(self) -> Pair:
        """The pair that draws one y and one z for each datum, which is what diagnostics hold.

        y ~ p(y), z ~ p(z), x ~ p(x|z,y), with the guide q(y|x) q(z|x,y), of the same parameters,
        plate and data. A known label is an observation of y, site "label", so that the evidence
        is log p(x, y) where the class is known, and log p(x) = log Σ_y p(y) p(x|y) where it is
        not. There is no classification term, which belongs to the training.
        """
        return Pair(self._drawn_model, self._drawn_guide)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the probabilities q(y|x) `[batch, classes]`."""
        return self.classifier(x).softmax(-1)

    @torch.no_grad()
    def encode(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the codes `[batch, latents]` of x, given its labels or most probable classes."""
        return self.posterior.code(x, self.one_hot[self._known(x, labels)])

    @torch.no_grad()
    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return what stands for p(x|z,y) `[batch, *shape]`, for class numbers `[batch]`."""
        check_labels(labels, self.classes)
        if len(labels) != len(z):
            raise ValueError(f"labels: expected one for each z, {len(z)}, got {len(labels)}")
        return self.likelihood.point(torch.cat([z, self.one_hot[labels]], -1))

    def reconstruct(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Decode the codes of x, given its labels or most probable classes."""
        return self.decode(self.encode(x, labels), self._known(x, labels))

    @torch.no_grad()
    def sample(self, labels: Tensor) -> Tensor:
        """Decode a draw of z from the prior for each of these classes: `[batch, *shape]`."""
        check_labels(labels, self.classes)
        with poutine.replay(trace=poutine.trace(self.prior.guide).get_trace()):
            return self.decode(self.prior().sample((len(labels),)), labels)

    def check(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Raise ValueError if the likelihood cannot draw x, or labels are no classes."""
        self.likelihood.check(x)
        self._check_labels(x, labels)

    def _drawn_model(
        self, x: Tensor | None = None, labels: Tensor | None = None, *, size: int | None = None
    ) -> Tensor:
        register(self)
        prior = self.prior()
        with self._plate(x, labels, size):
            return draw(prior, self.class_logits, self.likelihood, x, labels)

    def _drawn_guide(
        self, x: Tensor, labels: Tensor | None = None, *, size: int | None = None
    ) -> Tensor:
        register(self)
        self.prior.guide()
        with self._plate(x, labels, size):
            return draw_guide(self.posterior, told(self.classifier(x), labels, self.one_hot), x)

    def _known(self, x: Tensor, labels: Tensor | None) -> Tensor:
        guess = self.predict(x).argmax(-1)
        if labels is None:
            return guess
        self._check_labels(x, labels)
        return torch.where(labels < 0, guess, labels)

    def _observe_labels(self, x: Tensor, labels: Tensor | None) -> None:
        """Observe the labels under q(y|x), which the ELBO of labelled data would not train."""
        if labels is None:
            return
        label = Categorical(logits=self.classifier(x), validate_args=False).mask(labels >= 0)
        with Weighted(self.alpha):
            pyro.sample("label", label, obs=labels.clamp(min=0))

    def _each_class(self, like: Tensor) -> Tensor:
        """Return one-hot classes `[..., classes, batch, classes]`, for a z of such batch shape."""
        return self.one_hot[:, None].expand(*like.shape[:-1], self.classes)

    def _posterior_of_each_class(self, x: Tensor) -> Distribution:
        batch = torch.Size([self.classes, len(x)])
        y = self._each_class(x.new_empty(*batch, 1))
        return under_plates(self.posterior, x.expand(*batch, *x.shape[1:]), y, batch=batch)

    def _plate(self, x: Tensor | None, labels: Tensor | None, size: int | None) -> pyro.plate:
        if x is not None:
            check_observed(x, self.likelihood)
        self._check_labels(x, labels)
        return data_plate(x, size)

    def _check_labels(self, x: Tensor | None, labels: Tensor | None) -> None:
        if labels is None:
            return
        check_labels(labels, self.classes, missing=True)
        if x is None or len(labels) != len(x):
            raise ValueError(
                f"labels: expected one for each x, {0 if x is None else len(x)}, got "
                f"{len(labels)}; write −1 where the class is not known"
            )


def _over_classes(y: Tensor) -> Tensor:
    """Turn weights `[..., batch, classes]` of the plate "data" into `[..., classes, batch]`."""
    weights = y.movedim(-1, -2)
    return weights.squeeze(-3) if weights.dim() > 2 else weights
