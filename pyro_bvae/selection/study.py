"""Train one kind of pair over a grid of β, σ_z and σ_x, and tabulate what it came to."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_bvae.selection.measures import measure
from pyro_bvae.selection.training import train
from pyro_bvae.training import Run
from pyro_bvae.types import as_pair

Build = Callable[..., Any]
Setting = float | str
CELL = "cell.json"


def beta_sigma_study(
    build: Build,
    data: Any,
    *,
    betas: Sequence[float],
    prior_scales: Sequence[Setting] = (1.0,),
    likelihood_scales: Sequence[Setting] = (1.0,),
    seeds: Sequence[int] = (0,),
    steps: int,
    warm_steps: int | None = None,
    evaluation: Tensor | None = None,
    factors: Mapping[str, Any] | None = None,
    num_particles: int = 16,
    run: str | Path | None = None,
    progress: bool = True,
    **fitting: Any,
) -> pd.DataFrame:
    """Train a pair for every (β, σ_z, σ_x, seed), and measure each at β = 1: a row per cell.

    For each (σ_z, σ_x, seed) one pair is built and trained at the smallest β; each next β starts
    from the weights of the one before. Upwards, because a latent that a high β has switched off
    does not come back. `latent_table` has a row per cell and latent.

    Args:
        build: `build(prior_scale=σ_z, likelihood_scale=σ_x)` gives a `VAE`, or any pair of
            functions of one argument with one local latent site "z". What it puts into Pyro's
            store stays out of the caller's.
        data: what to train on (see `datasets.as_source`).
        betas: distinct numbers > 0.
        prior_scales, likelihood_scales: what `build` is to be given: numbers, `"learned"`, ...
        seeds: of the initial weights and of the training.
        steps: how many for the smallest β.
        warm_steps: how many for each further one; `steps` by default.
        evaluation: the data `[n, *shape]` to measure on; `data` by default.
        factors: what is known of `evaluation`, by name, `[n]` each.
        num_particles: K of the importance-weighted bound.
        run: a directory. A cell that is finished there is read and not trained again; one that
            was stopped goes on.
        progress: show a progress bar of the cells.
        fitting: more for `fit`, such as `batch_size`, `optim`, `objective`, `compile`. "auto", the
            default, records and compiles the steps of a cell where that pays. Every cell records
            anew; those after the first find their graph compiled in torch's cache.

    Returns: "beta", "prior_scale", "likelihood_scale", "seed", and what `measures.measure` lists.

    Raises:
        ValueError: no β or one that is not positive, or a run directory of another study.
        TypeError: `build` gives no pair, or there is no tensor to measure on.
        KeyboardInterrupt: Ctrl-C ended a training.

    References:
        Higgins et al. (2017), β-VAE. Alemi et al. (2018), Fixing a Broken ELBO, for the curve of
        rate and distortion that such a study walks along.

    >>> from pyro_bvae import VAE
    >>> from pyro_bvae.likelihoods import NormalLikelihood
    >>> from pyro_bvae.networks import mlp_decoder, mlp_encoder
    >>> from pyro_bvae.posteriors import MeanFieldPosterior
    >>> from pyro_bvae.priors import NormalPrior
    >>> def build(*, prior_scale, likelihood_scale):
    ...     return VAE(
    ...         prior=NormalPrior(1, scale=prior_scale),
    ...         likelihood=NormalLikelihood(mlp_decoder(1, (3,)), scale=likelihood_scale),
    ...         posterior=MeanFieldPosterior(mlp_encoder((3,)), latents=1),
    ...     )
    >>> x = torch.randn(64, 3)
    >>> table = beta_sigma_study(build, x, betas=[1.0, 4.0], steps=5, progress=False)
    >>> table[["beta", "prior_scale"]].values.tolist()
    [[1.0, 1.0], [4.0, 1.0]]
    """
    betas = _rising(betas)
    x = data if evaluation is None else evaluation
    if not isinstance(x, Tensor):
        raise TypeError(
            f"evaluation: expected a tensor [n, *shape] to measure on, got {type(x).__name__}"
        )
    study = _Study(
        data=data,
        x=x,
        factors=factors or {},
        num_particles=num_particles,
        folder=None if run is None else Path(run),
        fitting=fitting,
    )
    chains = list(itertools.product(prior_scales, likelihood_scales, seeds))
    rows = []
    with tqdm(total=len(chains) * len(betas), unit="cell", disable=not progress) as bar:
        for prior, likelihood, seed in chains:
            cell = {"prior_scale": prior, "likelihood_scale": likelihood, "seed": seed}
            with pyro.get_param_store().scope():
                pair = _build(build, prior, likelihood, seed=seed)
                for place, beta in enumerate(betas):
                    taken = steps if place == 0 or warm_steps is None else warm_steps
                    whole = {"beta": beta, **cell}
                    values = study.cell(pair, whole, steps=taken, after=betas[:place])
                    rows.append({**whole, **values})
                    bar.update()
    return pd.DataFrame(rows)


def latent_table(study: pd.DataFrame) -> pd.DataFrame:
    """Spread a study's lists: a row per cell and latent, numbered in column "latent".

    >>> study = pd.DataFrame({"beta": [4.0], "latent": [[0, 1]], "kl_per_latent": [[0.5, 0.0]]})
    >>> latent_table(study)[["beta", "latent", "kl_per_latent"]].values.tolist()
    [[4.0, 0.0, 0.5], [4.0, 1.0, 0.0]]
    """
    lists = [name for name in study if isinstance(study[name].iloc[0], list)]
    return study.explode(lists, ignore_index=True).astype(
        {name: int if name == "latent" else float for name in lists}
    )


@dataclass(frozen=True)
class _Study:
    """What all cells of a study share."""

    data: Any
    x: Tensor
    factors: Mapping[str, Any]
    num_particles: int
    folder: Path | None
    fitting: Mapping[str, Any]

    def cell(
        self, pair: Any, cell: Mapping[str, Any], *, steps: int, after: list[float]
    ) -> dict[str, Any]:
        """Train a cell as far as it has not been, and measure it if that was not done."""
        options: dict[str, Any] = {**self.fitting, "steps": steps, "progress": False}
        recipe = {**cell, **self._recipe(steps), "after": after}
        files, values = None, None
        if self.folder is not None:
            files = Run(self.folder / "_".join(f"{k}={v}" for k, v in cell.items()))
            values = _measured(files, recipe)
            options |= {"run": files.path, "resume": True}
        train(pair, self.data, beta=cell["beta"], seed=cell["seed"], **options)
        if values is not None:
            return values
        values = measure(pair, self.x, factors=self.factors, num_particles=self.num_particles)
        if files is not None:
            files.write_json(CELL, {"recipe": recipe, "values": values})
        return values

    def _recipe(self, steps: int) -> dict[str, Any]:
        plain = {k: v for k, v in self.fitting.items() if isinstance(v, int | float | str)}
        sizes = {"data": len(self.data), "evaluation": len(self.x)}
        return {**plain, **sizes, "steps": steps, "num_particles": self.num_particles}


def _measured(files: Run, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was measured of a finished cell, None of one that is not."""
    if not (files.path / CELL).exists():
        return None
    found = files.read_json(CELL)
    if found["recipe"] != recipe:
        other = sorted(k for k, v in recipe.items() if found["recipe"].get(k) != v)
        raise ValueError(
            f"run: {files.path} holds a cell that was trained with other {other}; give the "
            "arguments of that study, or another directory"
        )
    return found["values"]


def _build(build: Build, prior: Setting, likelihood: Setting, *, seed: int) -> Any:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        pair = build(prior_scale=prior, likelihood_scale=likelihood)
    as_pair(pair)
    return pair


def _rising(betas: Sequence[float]) -> list[float]:
    values = sorted(float(beta) for beta in betas)
    if not values or len(set(values)) < len(values) or not 0 < values[0] <= values[-1] < math.inf:
        raise ValueError(f"betas: expected distinct finite numbers > 0, got {list(betas)}")
    return values
