"""The numbers a report is about, measured once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_bvae.datasets.arrays import Source, as_source
from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.metrics.information import entropy, mutual_information_matrix, r2_matrix
from pyro_bvae.models import VAE
from pyro_bvae.plots.latents import ACTIVE_ABOVE, decreasing
from pyro_bvae.training.evaluate import evaluate
from pyro_bvae.training.source import Part, evaluating, read

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Summary:
    """What a VAE is worth on data, and what each latent tells of each known factor.

    Attributes:
        data: how many data were measured.
        elbo, reconstruction, kl: nats per datum; elbo = −reconstruction − kl, at β = 1.
        kl_per_latent: `[latents]`, nats per datum.
        factor_names, factor_sizes: of the known factors that vary; empty where none is known.
        r2: `[latents, factors]`, of the posterior means with the factors (see `r2_matrix`).
        mutual_information: `[latents, factors]`, nats (see `mutual_information_matrix`).
        chance_information: `[latents, factors]`, nats: the same of codes shuffled among the data,
            which tell nothing; so much of the mutual information is the estimate's own bias.
        entropy: `[factors]`, nats: the most the mutual information can be.
    """

    data: int
    elbo: float
    reconstruction: float
    kl: float
    kl_per_latent: NDArray[Any]
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    r2: NDArray[Any]
    mutual_information: NDArray[Any]
    chance_information: NDArray[Any]
    entropy: NDArray[Any]

    @property
    def active_latents(self) -> list[int]:
        """The latents whose KL exceeds 0.01 nats, in decreasing order of KL."""
        order = decreasing(self.kl_per_latent).tolist()
        return [latent for latent in order if self.kl_per_latent[latent] > ACTIVE_ABOVE]

    @property
    def active(self) -> int:
        """How many latents are active."""
        return len(self.active_latents)

    @property
    def best_latent(self) -> tuple[int | None, ...]:
        """For each factor the active latent with the highest R²; None where none is active."""
        return self._best(self.r2)

    @property
    def most_informative_latent(self) -> tuple[int | None, ...]:
        """For each factor the active latent with the most mutual information, or None."""
        return self._best(self.mutual_information)

    def _best(self, matrix: NDArray[Any]) -> tuple[int | None, ...]:
        latents = self.active_latents
        if not latents:
            return (None,) * len(self.factor_names)
        return tuple(latents[row] for row in matrix[latents].argmax(0))

    def __str__(self) -> str:
        shown = ", ".join(f"z{z} {self.kl_per_latent[z]:.2f}" for z in self.active_latents[:8])
        more = ", …" if self.active > 8 else ""
        lines = [
            f"nats per datum, at β = 1, on {self.data} data",
            f"elbo           {self.elbo:10.2f}",
            f"reconstruction {self.reconstruction:10.2f}",
            f"kl             {self.kl:10.2f}",
            f"active latents {self.active:7} of {len(self.kl_per_latent)}"
            + (f": {shown}{more}" if shown else ""),
        ]
        if self.factor_names:
            lines.append("factor         best latent    R²   nats told, of all")
        for j, (name, z) in enumerate(zip(self.factor_names, self.best_latent, strict=True)):
            told = 0.0 if z is None else self.mutual_information[z, j]
            r2 = 0.0 if z is None else self.r2[z, j]
            best = "none" if z is None else f"z{z}"
            lines.append(f"{name:14.14} {best:>11} {r2:5.2f}   {told:.2f} of {self.entropy[j]:.2f}")
        return "\n".join(lines)


def summary(vae: VAE, data: Any, *, size: int = 5000, seed: int = 0) -> Summary:
    """Measure the ELBO, the KL per latent, and what the latents tell of the data's factors.

    Args:
        vae: a trained VAE.
        data: what it was trained on, or held-out data (see `datasets.as_source`); the factors
            are known where it is a `FactorDataset`.
        size: how many data are measured, drawn without replacement; all if there are fewer.
        seed: of which data, of the draws from the posterior, and of the shuffling.

    Raises:
        ValueError: size < 1, or data that the VAE cannot take.
        TypeError: data whose batches are tuples.

    >>> from pyro_bvae.likelihoods import NormalLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> vae = VAE(
    ...     prior=NormalPrior(2),
    ...     likelihood=NormalLikelihood(mlp_decoder(2, (3,))),
    ...     posterior=MeanFieldPosterior(mlp_encoder((3,)), latents=2),
    ... )
    >>> measured = summary(vae, torch.zeros(10, 3))
    >>> measured.data, measured.r2.shape
    (10, (2, 0))
    """
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    source = as_source(data)
    indices = some(source, size, seed=seed)
    check_one_tensor(source)
    with evaluating(vae):
        measured = evaluate(
            vae, Part(source, indices), size=len(source), batch_size=_BATCH, seed=seed
        )
        told = _told(vae, source, indices, seed=seed)
    return Summary(
        data=len(indices),
        elbo=float(measured["elbo"]),
        reconstruction=float(measured["reconstruction"]),
        kl=float(measured["kl"]),
        kl_per_latent=np.asarray(measured["kl_per_latent.z"], dtype=float),
        **told,
    )


def some(source: Source, size: int, *, seed: int) -> Tensor:
    """Draw the indices of `size` data without replacement, or of all where there are fewer."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(source), generator=generator)[:size]


def check_one_tensor(source: Source) -> None:
    """Raise TypeError if batches are tuples: a VAE takes one tensor."""
    if isinstance(source[torch.tensor([0])], tuple):
        raise TypeError(
            "data: expected batches of one tensor, which a VAE takes, got tuples; pass the part "
            "the VAE was trained on, such as data.images"
        )


def _encode(vae: VAE, source: Source, indices: Tensor) -> NDArray[Any]:
    codes = [vae.encode(*read(source, part, vae)) for part in indices.split(_BATCH)]
    return torch.cat(codes).double().cpu().numpy()


def _told(vae: VAE, source: Source, indices: Tensor, *, seed: int) -> dict[str, Any]:
    """Return the fields of a Summary that speak of factors."""
    sizes = source.factor_sizes if isinstance(source, FactorDataset) else ()
    varying = [j for j, size in enumerate(sizes) if size > 1]
    if not isinstance(source, FactorDataset) or not varying:
        nothing = np.zeros((vae.prior.latents, 0))
        return {
            "factor_names": (),
            "factor_sizes": (),
            "r2": nothing,
            "mutual_information": nothing,
            "chance_information": nothing,
            "entropy": np.zeros(0),
        }
    factors = source.factors(indices)[:, varying].numpy()
    codes = _encode(vae, source, indices)
    shuffled = np.random.default_rng(seed).permutation(codes)
    return {
        "factor_names": tuple(source.factor_names[j] for j in varying),
        "factor_sizes": tuple(sizes[j] for j in varying),
        "r2": r2_matrix(codes, factors),
        "mutual_information": mutual_information_matrix(codes, factors),
        "chance_information": mutual_information_matrix(shuffled, factors),
        "entropy": entropy(factors),
    }
