"""What the disentanglement metrics are called, what each sees, and what it needs to be computed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyro_bvae import metrics
from pyro_bvae.metrics import Score

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Codes and factors of two disjoint sets of images, and how to get more of them.

    Attributes:
        codes, factors: `[n, latents]` and `[n, factors]`, to fit on.
        test_codes, test_factors: `[m, latents]` and `[m, factors]`, to score on.
        encode: class indices `[n, factors]` to codes `[n, latents]`.
        sizes: of the factors; None where not every combination has one image.
    """

    codes: Array
    factors: Array
    test_codes: Array
    test_factors: Array
    encode: Callable[[Tensor], Array]
    sizes: tuple[int, ...] | None


@dataclass(frozen=True)
class Measure:
    """A metric: its title, what it sees and does not, and how it is computed of a sample."""

    title: str
    about: str
    compute: Callable[[Sample, int], Score]


def _one_sample(metric: Callable[..., Score]) -> Callable[[Sample, int], Score]:
    return lambda sample, seed: metric(sample.codes, sample.factors, seed=seed)


def _two_samples(metric: Callable[..., Score]) -> Callable[[Sample, int], Score]:
    return lambda sample, seed: metric(
        sample.codes, sample.factors, sample.test_codes, sample.test_factors, seed=seed
    )


def _codes_only(metric: Callable[..., Score]) -> Callable[[Sample, int], Score]:
    return lambda sample, seed: metric(sample.codes, seed=seed)


def _whole_grid(metric: Callable[..., Score]) -> Callable[[Sample, int], Score]:
    def compute(sample: Sample, seed: int) -> Score:
        if sample.sizes is None:
            raise ValueError("data: expected one image for every combination of the factors")
        return metric(sample.encode, sample.sizes, seed=seed)

    return compute


_DCI = "Whether each latent matters for one factor only, to trees that predict the factor; blind "
COMPLETENESS = (
    "Whether each factor matters through one latent only, to the same trees; low where a factor "
    "is spread over several latents, although each of them may be pure."
)
INFORMATIVENESS = (
    "How often the same trees tell the class of a factor from all latents; blind to how these "
    "share it, and short of 1 where images of several classes look alike."
)

MEASURES = {
    "mig": Measure(
        "MIG",
        "How far the latent that tells most of a factor is ahead of the next; sees nothing of a "
        "factor that several latents share, and minds how a latent is warped.",
        _one_sample(metrics.mig),
    ),
    "mig_knn": Measure(
        "MIG by neighbours",
        "As MIG, without bins: it does not mind how a latent is warped; not comparable with MIG.",
        _one_sample(metrics.mig_knn),
    ),
    "modularity": Measure(
        "modularity",
        "Whether each latent tells of one factor only; blind to factors that no latent tells of, "
        "and far above 0 for noise.",
        _one_sample(metrics.modularity),
    ),
    "sap": Measure(
        "SAP",
        "How much better the best latent predicts a factor than the next, by a linear classifier; "
        "a line singles out few of many classes, so its ceiling is low.",
        _two_samples(metrics.sap),
    ),
    "explicitness": Measure(
        "explicitness",
        "Whether a linear classifier on all latents ranks the classes of a factor; blind to how "
        "the latents share it. Chance is 0.5.",
        _two_samples(metrics.explicitness),
    ),
    "dci": Measure(
        "DCI",
        _DCI + "to how much is told, which informativeness counts.",
        _two_samples(metrics.dci),
    ),
    "dci_histogram": Measure(
        "DCI, histograms",
        _DCI + "to how much is told. Nearly DCI, with latents cut into 128 bins.",
        _two_samples(metrics.dci_histogram),
    ),
    "dci_forest": Measure(
        "DCI, forests",
        _DCI + "to how much is told. Random forests: not comparable with DCI.",
        _two_samples(metrics.dci_forest),
    ),
    "irs": Measure(
        "IRS",
        "Whether a latent stands still while all factors but its own change; minds the latents' "
        "scales, and is well above 0 for noise.",
        lambda sample, seed: metrics.irs(sample.codes, sample.factors),
    ),
    "beta_vae_score": Measure(
        "β-VAE score",
        "Whether the factor held in pairs of images can be told from how little the latents "
        "differ; easily near 1 for rotated codes. Chance is 1 / factors.",
        _whole_grid(metrics.beta_vae_score),
    ),
    "factor_vae_score": Measure(
        "FactorVAE score",
        "Whether the latent that varies least tells which factor is held; blind to what else "
        "that latent tells. Chance is 1 / factors.",
        _whole_grid(metrics.factor_vae_score),
    ),
    "total_correlation_score": Measure(
        "total correlation",
        "Nats by which the latents, taken as Gaussian, depend on each other: lower is better; "
        "knows no factors, so noise is as good as it gets.",
        _codes_only(metrics.total_correlation_score),
    ),
    "pairwise_information_score": Measure(
        "pairwise information",
        "Nats that two latents tell of each other, on average: lower is better; knows no "
        "factors, so noise is as good as it gets.",
        _codes_only(metrics.pairwise_information_score),
    ),
}
"""Every metric of one model, by the name of its function."""

VARIANTS = ("mig_knn", "dci_histogram", "dci_forest")
"""Those that are left out unless asked for: what they stand in for is there."""
