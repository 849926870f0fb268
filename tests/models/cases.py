"""One small model of every kind, the data it takes, and its ELBO written out by hand."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import one_hot

from pyro_bvae import Pair, tempered
from pyro_bvae.likelihoods import BernoulliLikelihood, CategoricalLikelihood, NormalLikelihood
from pyro_bvae.models import (
    Classifier,
    ConditionalVAE,
    HierarchicalVAE,
    InformationBottleneck,
    JointVAE,
    PartialFactorsVAE,
    SemiSupervisedVAE,
)
from pyro_bvae.networks import (
    ContextDecoder,
    ContextEncoder,
    OneHot,
    mlp_decoder,
    mlp_encoder,
)
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import ConditionalPrior, NormalPrior

SHAPE, PIXELS, LATENTS, CLASSES, BATCH = (1, 2, 3), 6, 2, 3, 5


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


X = torch.sigmoid(noise(BATCH, *SHAPE))
CLASS = torch.tensor([2, 0, 1, 1, 2])
SOME = torch.tensor([2, -1, 1, -1, -1])
FACTORS = noise(BATCH, 2, seed=1)
KNOWN = torch.tensor([[1, 1], [0, 0], [1, 0], [0, 1], [0, 0]]).bool()
Terms = dict[str, Tensor]
"""What one datum costs, `[batch]`: "reconstruction" and "kl_SITE", of known draws."""


@dataclass
class Case:
    model: Any
    data: tuple[Tensor, ...]
    plates: dict[str, list[str]]

    def model_and_guide(self, beta: float) -> Pair:
        return tempered(self.model, beta)

    def terms(self, sites: dict[str, Tensor]) -> Terms:
        """Return the terms at draws of the latent sites, from the model's networks alone."""
        return getattr(self, "_" + type(self.model).__name__)(sites, *self.data)

    def _ConditionalVAE(self, sites: dict[str, Tensor], x: Tensor, c: Tensor) -> Terms:
        m, z = self.model, sites["z"]
        hot = one_hot(c, CLASSES).double()
        q = normal(m.posterior.head(m.posterior.encoder.encoder(torch.cat([x.flatten(1), hot], 1))))
        logits = m.likelihood.decoder.decoder(torch.cat([z, hot], 1))
        return {
            "reconstruction": cross_entropy(logits, x),
            "kl_z": kl_divergence(q, normal(m.prior.head(hot))).sum(1),
        }

    def _InformationBottleneck(self, sites: dict[str, Tensor], x: Tensor, y: Tensor) -> Terms:
        m, z = self.model, sites["z"]
        logits = m.likelihood.decoder(z).log_softmax(-1)
        return {
            "reconstruction": -logits[torch.arange(len(x)), y],
            "kl_z": standard_kl(m.posterior.head(m.posterior.encoder(x))),
        }

    def _HierarchicalVAE(self, sites: dict[str, Tensor], x: Tensor) -> Terms:
        m, z1, z2 = self.model, sites["z1"], sites["z2"]
        q1 = normal(m.posterior.head(m.posterior.encoder(x)))
        q2 = normal(m.upper.head(m.upper.encoder(z1)))
        p1 = normal(m.layer.head(m.layer.network(z2)))
        p2 = Normal(torch.zeros_like(z2), torch.ones_like(z2))
        x_given = Normal(m.likelihood.decoder(z1), m.likelihood.scale())
        return {
            "reconstruction": -x_given.log_prob(x).flatten(1).sum(1),
            "kl_z1": (q1.log_prob(z1) - p1.log_prob(z1)).sum(1),
            "kl_z2": (q2.log_prob(z2) - p2.log_prob(z2)).sum(1),
        }

    def _JointVAE(self, sites: dict[str, Tensor], x: Tensor) -> Terms:
        m, z, y = self.model, sites["z"], sites["y"]
        log_q = m.classifier(x).log_softmax(-1)
        logits = m.likelihood.decoder(torch.cat([z, y], 1))
        return {
            "reconstruction": cross_entropy(logits, x),
            "kl_z": standard_kl(m.posterior.head(m.posterior.encoder(x))),
            "kl_y": (log_q.exp() * log_q).sum(1) + torch.tensor(float(CLASSES)).log(),
        }

    def _SemiSupervisedVAE(self, sites: dict[str, Tensor], x: Tensor, labels: Tensor) -> Terms:
        """Datum by datum and class by class, as Kingma et al. write it."""
        m, z = self.model, sites["z"]
        log_q = m.classifier(x).log_softmax(-1)
        rows: dict[str, list[Tensor]] = {"reconstruction": [], "kl_z": [], "kl_y": []}
        for i, label in enumerate(labels.tolist()):
            known = label >= 0
            costs = []
            for c in [label] if known else range(CLASSES):
                hot = one_hot(torch.tensor([c]), CLASSES).double()
                joined = torch.cat([x[i : i + 1].flatten(1), hot], 1)
                kl = standard_kl(m.posterior.head(m.posterior.encoder.encoder(joined)))[0]
                logits = m.likelihood.decoder(torch.cat([z[c, i : i + 1], hot], 1))
                costs.append((torch.tensor(1.0) if known else log_q[i, c].exp(), kl, logits))
            nll = [w * cross_entropy(logits, x[i : i + 1])[0] for w, _, logits in costs]
            extra = -m.alpha * log_q[i, label] if known else torch.tensor(0.0)
            rows["reconstruction"].append(torch.stack(nll).sum() + extra)
            rows["kl_z"].append(torch.stack([w * kl for w, kl, _ in costs]).sum())
            log_classes = torch.tensor(float(CLASSES)).log()
            entropy = torch.tensor(0.0) if known else -(log_q[i].exp() * log_q[i]).sum()
            rows["kl_y"].append(log_classes - entropy)
        return {name: torch.stack(values) for name, values in rows.items()}

    def _PartialFactorsVAE(
        self, sites: dict[str, Tensor], x: Tensor, factors: Tensor, known: Tensor
    ) -> Terms:
        m, z, y = self.model, sites["z"], sites["y"]
        assert torch.equal(y[known], factors[known])
        assert not torch.isclose(y, factors)[~known].any()
        q_y = normal(m.regressor.head(m.regressor.encoder(x)))
        joined = torch.cat([x.flatten(1), y], 1)
        logits = m.likelihood.decoder(torch.cat([z, y], 1))
        prior = Normal(torch.zeros(2), torch.ones(2))
        told = torch.stack([(q_y.log_prob(factors)[i][k]).sum() for i, k in enumerate(known)])
        costs = torch.where(known, -prior.log_prob(factors), kl_divergence(q_y, prior))
        return {
            "reconstruction": cross_entropy(logits, x) - m.alpha * told,
            "kl_z": standard_kl(m.posterior.head(m.posterior.encoder.encoder(joined))),
            "kl_y": costs.sum(1),
        }


def normal(numbers: Tensor) -> Normal:
    loc, log_variance = numbers.chunk(2, -1)
    return Normal(loc, (log_variance / 2).exp())


def standard_kl(numbers: Tensor) -> Tensor:
    loc, log_variance = numbers.chunk(2, -1)
    return 0.5 * (loc**2 + log_variance.exp() - 1 - log_variance).sum(-1)


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    p = torch.sigmoid(logits)
    return -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)


def conditional() -> Case:
    encoder = ContextEncoder(mlp_encoder((PIXELS + CLASSES,), hidden=(4,)), OneHot(CLASSES))
    decoder = mlp_decoder(LATENTS + CLASSES, SHAPE, hidden=(4,))
    model = ConditionalVAE(
        ConditionalPrior(OneHot(CLASSES), latents=LATENTS),
        BernoulliLikelihood(ContextDecoder(decoder, OneHot(CLASSES))),
        MeanFieldPosterior(encoder, latents=LATENTS),
    )
    return Case(model, (X, CLASS), {"z": ["data"], "x": ["data"]})


def bottleneck() -> Case:
    model = InformationBottleneck(
        NormalPrior(LATENTS),
        CategoricalLikelihood(mlp_decoder(LATENTS, (CLASSES,), hidden=(4,)), classes=CLASSES),
        MeanFieldPosterior(mlp_encoder(SHAPE, hidden=(4,)), latents=LATENTS),
    )
    return Case(model, (X, CLASS), {"z": ["data"], "y": ["data"]})


def hierarchical() -> Case:
    model = HierarchicalVAE(
        prior=NormalPrior(LATENTS),
        layer=ConditionalPrior(mlp_encoder((LATENTS,), hidden=(4,)), latents=4),
        likelihood=NormalLikelihood(mlp_decoder(4, SHAPE, hidden=(4,)), scale="learned"),
        posterior=MeanFieldPosterior(mlp_encoder(SHAPE, hidden=(4,)), latents=4),
        upper=MeanFieldPosterior(mlp_encoder((4,), hidden=(4,)), latents=LATENTS),
    )
    return Case(model, (X,), {"z2": ["data"], "z1": ["data"], "x": ["data"]})


def joint() -> Case:
    model = JointVAE(
        NormalPrior(LATENTS),
        BernoulliLikelihood(mlp_decoder(LATENTS + CLASSES, SHAPE, hidden=(4,))),
        MeanFieldPosterior(mlp_encoder(SHAPE, hidden=(4,)), latents=LATENTS),
        Classifier(mlp_encoder(SHAPE, hidden=(4,)), CLASSES),
    )
    return Case(model, (X,), {"y": ["data"], "z": ["data"], "x": ["data"]})


def semi_supervised(alpha: float = 2.0) -> Case:
    encoder = ContextEncoder(mlp_encoder((PIXELS + CLASSES,), hidden=(4,)))
    model = SemiSupervisedVAE(
        NormalPrior(LATENTS),
        BernoulliLikelihood(mlp_decoder(LATENTS + CLASSES, SHAPE, hidden=(4,))),
        MeanFieldPosterior(encoder, latents=LATENTS),
        Classifier(mlp_encoder(SHAPE, hidden=(4,)), CLASSES),
        alpha=alpha,
    )
    both = ["data", "classes"]
    return Case(model, (X, SOME), {"y": ["data"], "label": ["data"], "z": both, "x": both})


def partial_factors(alpha: float = 2.0) -> Case:
    encoder = ContextEncoder(mlp_encoder((PIXELS + 2,), hidden=(4,)))
    model = PartialFactorsVAE(
        NormalPrior(LATENTS),
        BernoulliLikelihood(mlp_decoder(LATENTS + 2, SHAPE, hidden=(4,))),
        MeanFieldPosterior(encoder, latents=LATENTS),
        MeanFieldPosterior(mlp_encoder(SHAPE, hidden=(4,)), latents=2),
        alpha=alpha,
    )
    plates = {name: ["data"] for name in ("y", "z", "factors", "x")}
    return Case(model, (X, FACTORS, KNOWN), plates)


CASES = [conditional, bottleneck, hierarchical, joint, semi_supervised, partial_factors]
