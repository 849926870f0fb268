"""A guide beside draws of the posterior: where and by how much the two differ."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from pyro.ops.stats import split_gelman_rubin
from scipy.stats import binom
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.reference import Reference, flat, guide_latents
from pyro_bvae.types import PairLike


@dataclass(frozen=True)
class Comparison:
    """The guide against reference chains, for every datum and latent `[data, latents]`.

    Attributes:
        guide: draws from the guide `[draws, data, latents]`.
        reference: the chains it is compared with.
        mean, scale: of the guide's draws; reference_mean, reference_scale: of the chains'.
        wasserstein: the distance W₁ between the two, in units of the latent.
        r_hat: split R̂ of the chains with the guide as one more.
        accuracy: how often a classifier tells the two apart `[data]`; ½ where it cannot.
        p_value: of that accuracy, if the two were one `[data]`.
    """

    guide: Tensor
    reference: Reference
    mean: Tensor
    scale: Tensor
    reference_mean: Tensor
    reference_scale: Tensor
    wasserstein: Tensor
    r_hat: Tensor
    accuracy: Tensor
    p_value: Tensor

    def __str__(self) -> str:
        apart = (self.wasserstein / self.reference_scale).max()
        told = int((self.p_value < 0.05 / len(self.p_value)).sum())
        return (
            f"guide beside chains from {self.reference.target}: told apart for {told} of "
            f"{len(self.p_value)} data; largest W₁ {apart:.2f} of the chains' deviations, largest "
            f"R̂ with the guide as a chain {self.r_hat.max():.3f}"
        )

    def table(self) -> pd.DataFrame:
        """Return a row for every datum and latent, with the classifier's verdict on the datum."""
        names = ("mean", "reference_mean", "scale", "reference_scale", "wasserstein", "r_hat")
        columns = {name: getattr(self, name).flatten().numpy() for name in names}
        for name in ("accuracy", "p_value"):
            columns[name] = getattr(self, name)[:, None].expand(self.mean.shape).flatten().numpy()
        rows = [range(len(self.mean)), list(self.reference.names)]
        index = pd.MultiIndex.from_product(rows, names=["datum", "latent"])
        return pd.DataFrame(columns, index=index)


@torch.no_grad()
def compare_to_reference(
    pair: PairLike, x: Any, reference: Reference, *, num_samples: int = 1000, seed: int = 0
) -> Comparison:
    """Hold the guide's draws beside a reference's: moments, W₁, R̂ and a classifier.

    The classifier, nearest neighbours in standardised latents, learns on one half of the draws and
    is judged on the other; the chains are thinned to their effective sample size, so that its
    p-value, of the binomial distribution, is right when the two are one.

    Args:
        pair: as for `reference_posterior`.
        x: the same data.
        reference: what `reference_posterior` gave for them.
        num_samples: draws from the guide for each datum, ≥ 20.
        seed: of the draws; torch's own random state is left as it was.

    Raises:
        ValueError: other data than the reference's, chains that never moved, or fewer than 20
            draws.

    References:
        Lopez-Paz, Oquab (2017), Revisiting Classifier Two-Sample Tests.
        Gelman, Rubin (1992), Inference from Iterative Simulation Using Multiple Sequences.

    >>> import pyro, pyro.distributions as dist
    >>> from pyro_bvae.diagnostics import reference_posterior
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(2 * x, 0.5**0.5))  # the mean should be x / 2
    >>> few = {"chains": 2, "warmup": 50, "num_samples": 200}
    >>> reference = reference_posterior((model, guide), torch.ones(1), **few)
    >>> found = compare_to_reference((model, guide), torch.ones(1), reference)
    >>> bool((found.wasserstein - 1.5).abs() < 0.2), bool(found.p_value < 0.01)
    (True, True)
    """
    if check_count(num_samples, "num_samples") < 20:
        raise ValueError(f"num_samples: expected at least 20, got {num_samples}")
    sampler = Sampler(pair, x)
    chains, draws, data, latents = reference.draws.shape
    if len(sampler) != data:
        raise ValueError(f"x: expected the {data} data of the reference, got {len(sampler)}")
    if not torch.isfinite(reference.effective).all():
        raise ValueError(
            "reference: expected chains that move, got some that stay where they are; take more "
            "warm-up or other chains"
        )
    with sampler.running(seed):
        drawn = guide_latents(sampler, torch.arange(data), num_samples)
        guide = flat(drawn, dims=2).cpu()
    if guide.shape[2] != latents:
        raise ValueError(f"reference: expected {guide.shape[2]} latents, got {latents}")
    pooled = reference.draws.reshape(chains * draws, data, latents)
    judged = [classify(guide[:, i], _thinned(pooled[:, i], reference, i)) for i in range(data)]
    accuracy, p_value = (torch.tensor(v) for v in zip(*judged, strict=True))
    return Comparison(
        guide=guide,
        reference=reference,
        mean=guide.mean(0),
        scale=guide.std(0),
        reference_mean=pooled.mean(0),
        reference_scale=pooled.std(0),
        wasserstein=wasserstein(guide, pooled),
        r_hat=_r_hat(guide, reference.draws),
        accuracy=accuracy,
        p_value=p_value,
    )


def wasserstein(a: Tensor, b: Tensor) -> Tensor:
    """Return W₁ of two samples `[n, ...]` and `[m, ...]` of one dimension each, `[...]`.

    ∫ |F_a⁻¹(u) − F_b⁻¹(u)| du, exact for the empirical distributions.

    >>> wasserstein(torch.tensor([0.0, 1.0]), torch.tensor([3.0]))
    tensor(2.5000)
    """
    ends = torch.cat([torch.arange(1, len(v) + 1, dtype=torch.float64) / len(v) for v in (a, b)])
    ends = ends.sort().values
    widths = ends.diff(prepend=torch.zeros(1, dtype=torch.float64))
    middles = ends - widths / 2
    values = [v.sort(0).values[(middles * len(v)).long().clamp(max=len(v) - 1)] for v in (a, b)]
    weights = widths.to(a.dtype).reshape(-1, *[1] * (a.dim() - 1))
    return ((values[0] - values[1]).abs() * weights).sum(0)


def _thinned(draws: Tensor, reference: Reference, datum: int) -> Tensor:
    """Keep as many of a datum's draws `[n, latents]` as they are worth."""
    worth = int(reference.effective[datum].min().clamp(min=10, max=len(draws)))
    return draws[torch.linspace(0, len(draws) - 1, worth).long()]


def _r_hat(guide: Tensor, chains: Tensor) -> Tensor:
    draws = min(len(guide), chains.shape[1])
    together = torch.cat([chains[:, :draws].to(guide), guide[None, :draws]])
    return split_gelman_rubin(together, chain_dim=0, sample_dim=1)


def classify(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return the accuracy on draws kept back, and the chance of as much between equals."""
    n = min(len(a), len(b))
    a, b = a[torch.linspace(0, len(a) - 1, n).long()], b[:n]
    both = torch.cat([a, b]).double()
    points = ((both - both.mean(0)) / both.std(0).clamp(min=1e-12)).numpy()
    labels = (torch.arange(2 * n) >= n).numpy()
    learnt = (torch.arange(2 * n) % 2 == 0).numpy()
    classifier = KNeighborsClassifier(min(int(n**0.5) // 2 * 2 + 1, int(learnt.sum())))
    classifier.fit(points[learnt], labels[learnt])
    right = int((classifier.predict(points[~learnt]) == labels[~learnt]).sum())
    judged = int((~learnt).sum())
    return right / judged, float(binom.sf(right - 1, judged, 0.5))
