"""Where the nats of an ELBO go: reconstruction, mutual information, total correlation, the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.encoded import Encoded, code_site, encoded_batches
from pyro_bvae.diagnostics.simulation import names_of
from pyro_bvae.objectives.decomposition import Bracket, bracket
from pyro_bvae.types import PairLike

_SHOWN = ("mutual_information", "total_correlation", "dimension_wise_kl")


class Bracketed(NamedTuple):
    """An estimate from two sides, `low` and `high`, and the standard `error` of either, nats."""

    low: Tensor
    high: Tensor
    error: Tensor

    @property
    def middle(self) -> Tensor:
        """The middle of the two."""
        return (self.low + self.high) / 2

    def __str__(self) -> str:
        error = f"± {self.error.item():.3f}"
        if torch.equal(self.low, self.high):
            return f"{self.low.item():.3f} {error}"
        return f"{self.low.item():.3f} to {self.high.item():.3f} {error}"


@dataclass(frozen=True, eq=False)
class Surgery:
    """The parts of an ELBO, nats per datum: ELBO = −reconstruction − MI − TC − Σ_j KL_j.

    Attributes:
        names: of the latents: "z[0]", "z[1]", ...
        reconstruction: −E log p(x|z), 0-dim.
        kl: E KL(q(z|x)‖p(z)), from one draw for each datum, 0-dim.
        mutual_information: I(x; z) under q, the index-code mutual information, 0-dim.
        total_correlation: KL(q(z)‖Π_j q(z_j)), 0-dim.
        dimension_wise_kl: KL(q(z_j)‖p(z_j)) of each latent's aggregate from the prior, `[latents]`.
        information_per_latent: I(x; z_j), `[latents]`.
        others: E log q/p of the latents of all other sites, 0-dim; 0 where there is no other.
        batch_size: of the batches whose mixtures stand for q(z).
        exact: whether the densities of single latents are known; else those of normals with the
            same moments stand for them in what is per latent, and in the total correlation.
    """

    names: tuple[str, ...]
    reconstruction: Bracketed
    kl: Bracketed
    mutual_information: Bracketed
    total_correlation: Bracketed
    dimension_wise_kl: Bracketed
    information_per_latent: Bracketed
    others: Bracketed
    batch_size: int
    exact: bool

    @property
    def elbo(self) -> float:
        """The ELBO at β = 1, nats per datum."""
        return -(self.reconstruction.low + self.kl.low + self.others.low).item()

    @property
    def dimension_wise_total(self) -> Bracketed:
        """Σ_j KL(q(z_j)‖p(z_j)), 0-dim; its error is not more than this."""
        return Bracketed(*(part.sum() for part in self.dimension_wise_kl))

    def table(self) -> pd.DataFrame:
        """Return a row for each part: "low", "high" and "error", nats per datum.

        The last, where there are several latent sites, is the KL of the others.
        """
        parts = {name: getattr(self, name) for name in ("reconstruction", "kl", *_SHOWN[:2])}
        rows = parts | {_SHOWN[2]: self.dimension_wise_total}
        if self._has_others:
            rows["others"] = self.others
        return pd.DataFrame(
            {name: [value.item() for value in part] for name, part in rows.items()},
            index=list(Bracketed._fields),
        ).T.rename_axis("part")

    def __str__(self) -> str:
        parts = (
            f"nats per datum at β = 1: reconstruction {self.reconstruction}; KL {self.kl}, of "
            f"which mutual information {self.mutual_information}, total correlation "
            f"{self.total_correlation}, latents off the prior {self.dimension_wise_total}"
        )
        if not self.exact:
            parts += ", the last two with normals for single latents"
        if self._has_others:
            parts += f"; log q/p of the other latents, at whose draws all this is, {self.others}"
        return parts

    @property
    def _has_others(self) -> bool:
        return bool(self.others.low or self.others.error)


@torch.no_grad()
def elbo_surgery(
    pair: PairLike, x: Any, *, site: str | None = None, batch_size: int = 512, seed: int = 0
) -> Surgery:
    """Split the KL of an ELBO: E KL(q(z|x)‖p(z)) = I(x; z) + TC(z) + Σ_j KL(q(z_j)‖p(z_j)).

    The aggregate posterior q(z) = E_x q(z|x) is the mixture over a batch, once with each datum's
    own posterior and once without: the mutual information lies between the two in expectation,
    and the other parts where the joint density's error is the larger. Their errors are of order
    1/batch and of opposite sign. Mutual information far beyond ln(batch) nats cannot be measured:
    the bracket is then wide. Errors are standard errors over at least 4 batches; where an end is
    itself biased they say how well this end is known. With a prior of dependent latents the last
    part is against its marginals, and the total correlation is what remains.

    Of a pair with several latent sites one is looked at, its q and p as the pair states them at
    one draw of the others for each datum. Where q depends on these, as q(z|x,y) does on a class,
    I(x; z) stands for I(x,y; z); where p does, as p(z₁|z₂) in a hierarchy, the parts are against
    the prior at the guide's own z₂, and sum to E log q(z₁|x)/p(z₁|z₂) as ever.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: at least 8 data, as `datasets.as_source` takes them; all of them are used, but for what
            would make batches unequal.
        site: the latent site in the plate of the data: by default the only one, or of several "z".
        batch_size: the most data in a batch; memory is of order batch² · latents, and limited.
        seed: of the draws; torch's own random state is left as it was.

    Raises:
        ValueError: fewer than 8 data, fewer than 2 in a batch; no latent site of that name, none
            named "z" among several, or one that is discrete or has codes at points.

    References:
        Hoffman, Johnson (2016), ELBO Surgery: Yet Another Way to Carve Up the Variational
        Evidence Lower Bound.
        Chen, Li, Grosse, Duvenaud (2018), Isolating Sources of Disentanglement in VAEs.
        Poole, Ozair, van den Oord, Alemi, Tucker (2019), On Variational Bounds of Mutual
        Information.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))
    >>> _ = torch.manual_seed(0)
    >>> parts = elbo_surgery((model, guide), 2**0.5 * torch.randn(4000))
    >>> bool(parts.mutual_information.low < 0.3466 < parts.mutual_information.high + 0.02)
    True
    """
    sampler = Sampler(pair, x)
    with sampler.running(seed):
        name = code_site(sampler.layout, site)
        encoded = encoded_batches(sampler, batch_size=batch_size, seed=seed, site=name)
        batches = [parts_of_batch(batch) for batch in encoded]
    return surgery_of(batches, names=names_of(sampler, name))


class BatchParts(NamedTuple):
    """One batch's estimates, each end `[2]` or `[2, latents]`, low first."""

    reconstruction: Tensor
    kl: Tensor
    mutual_information: Tensor
    total_correlation: Tensor
    dimension_wise_kl: Tensor
    information_per_latent: Tensor
    others: Tensor
    size: int
    exact: bool


def parts_of_batch(batch: Encoded) -> BatchParts:
    """Estimate the parts from one batch."""
    whole = bracket(batch.joint[..., None], batch.log_prior)
    single = [
        bracket(batch.pairs[..., j : j + 1], batch.log_priors[:, j])
        for j in range(batch.pairs.shape[-1])
    ]
    off_prior = torch.stack([_ends([one], "dimension_wise_kl")[:, 0] for one in single], 1)
    kl = (batch.joint.diagonal() - batch.log_prior).mean()
    reconstruction = -batch.log_likelihood.mean()
    return BatchParts(
        reconstruction=reconstruction.expand(2),
        kl=kl.expand(2),
        mutual_information=_ends([whole], "mutual_information")[:, 0],
        total_correlation=_ends([whole], "dimension_wise_kl")[:, 0] - off_prior.sum(1),
        dimension_wise_kl=off_prior,
        information_per_latent=_ends(single, "mutual_information"),
        others=batch.others.mean().expand(2),
        size=len(batch.z),
        exact=batch.exact,
    )


def surgery_of(batches: Sequence[BatchParts], *, names: Sequence[str]) -> Surgery:
    """Average batches' estimates, with standard errors over the batches."""
    fields = BatchParts._fields[:-2]
    parts = {name: _average([getattr(batch, name) for batch in batches]) for name in fields}
    return Surgery(names=tuple(names), batch_size=batches[0].size, exact=batches[0].exact, **parts)


def _ends(brackets: Sequence[Bracket], part: str) -> Tensor:
    """Return low and high of a part of several brackets, `[2, brackets]`."""
    return torch.stack([torch.stack([getattr(b[side], part) for b in brackets]) for side in (0, 1)])


def _average(ends: Sequence[Tensor]) -> Bracketed:
    values = torch.stack(list(ends)).double().cpu()
    mean = values.mean(0)
    errors = values.std(0) / len(values) ** 0.5
    return Bracketed(mean.min(0).values, mean.max(0).values, errors.max(0).values)
