"""Whether the posterior of a VAE can be believed, in a report: the tests that take seconds."""

from functools import partial

import torch
from torch import Tensor

from pyro_bvae import plots
from pyro_bvae.datasets.arrays import Source
from pyro_bvae.diagnostics import (
    Calibration,
    Collapse,
    Importance,
    calibration,
    collapse,
    importance,
)
from pyro_bvae.models import VAE
from pyro_bvae.report.page import bullets, paragraph, picture, section, side_by_side
from pyro_bvae.report.summary import some
from pyro_bvae.report.words import number
from pyro_bvae.training.notices import said
from pyro_bvae.training.source import read

_WEIGHED, _DRAWS = 24, 200
_SIMULATIONS = 400
_ENCODED, _COMPARED = 1000, 300
_HEADING = "Can the posterior be believed?"


def posterior_section(vae: VAE, data: Source, *, seed: int) -> str:
    """Return a section that holds q(z|x) against p(z|x), and the codes of all data to the prior."""
    x = read(data, some(data, _ENCODED, seed=seed), vae)[0]
    try:
        weighed = importance(vae, x[:_WEIGHED], num_samples=_DRAWS, seed=seed)
        ranked = calibration(vae, x, num_simulations=_SIMULATIONS, num_samples=99, seed=seed)
        codes = collapse(vae, x, compared=_COMPARED, seed=seed)
    except ValueError as error:
        return section(_HEADING, paragraph(f"The posterior could not be tested: {said(error)}."))
    return _section(weighed, ranked, codes, worst=_worst(x[:_WEIGHED], weighed))


def _worst(x: Tensor, weighed: Importance) -> str:
    """Show the data with the largest k̂, where they are images."""
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        return ""
    drawn = partial(plots.worst_data, x.cpu(), weighed.k, count=8)
    return picture(drawn, "the images with the largest k̂, the worst first")


def _section(weighed: Importance, ranked: Calibration, codes: Collapse, *, worst: str) -> str:
    return section(
        _HEADING,
        paragraph(
            "The encoder's q(z|x) stands for the posterior p(z|x) of the decoder and the prior. A "
            "model may reconstruct well and still be wrong about what it does not know. Three "
            "tests, each of which sees something else, at β = 1: a guide that was trained at "
            "another β aims at another posterior, too wide for β > 1, and fails the first two by "
            "design."
        ),
        bullets(
            [f"Weights. {_of_weights(weighed)}", f"Ranks. {_of_ranks(ranked)}", f"Codes. {codes}"]
        ),
        side_by_side(
            [
                picture(
                    partial(plots.rank_distribution, ranked),
                    "ranks of truths among the guide's draws, against the band of uniform ranks",
                ),
                picture(
                    partial(plots.latent_variances, codes),
                    "variance of the means and mean variance of each latent",
                ),
            ]
        ),
        paragraph(
            "Left: a line for each latent, which stays in the grey band if its intervals are "
            "right for data that the model itself draws. Right: a latent that says nothing of x "
            "is all variance of q(z|x); where the two do not add up to 1, the codes of all data "
            "do not have the prior's variance."
        ),
        worst,
    )


def _of_weights(weighed: Importance) -> str:
    found, total = weighed.verdicts(), len(weighed.k)
    fit = sum(found.count(word) for word in ("exact", "good", "usable"))
    words = (
        f"For {fit} of {total} data the draws of q(z|x) can be reweighted to p(z|x) (Pareto k̂ "
        f"below 0.7, from {weighed.num_samples} draws each)"
    )
    if fit == total:
        return f"{words}: q(z|x) reaches all of where p(z|x) is."
    k = number(torch.where(weighed.exact, 0.0, weighed.k).median().item())
    return (
        f"{words}; the median k̂ is {k}. For the others p(z|x) has mass where "
        "q(z|x) hardly goes, and the ELBO does not tell."
    )


def _of_ranks(ranked: Calibration) -> str:
    table, shapes = ranked.coverage([0.9]), ranked.shapes()
    off = [shape for shape in dict.fromkeys(shapes) if shape != "calibrated"]
    low, high = table["coverage"].min(), table["coverage"].max()
    share = f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"
    words = f"Its 90 % intervals hold the truth {share} of the time on data drawn from the model"
    if not off:
        return f"{words}: no latent is seen to be off (p = {ranked.p_value:.2g})."
    counts = [f"{shapes.count(shape)} of {len(shapes)} latents {shape}" for shape in off]
    return f"{words}; q(z|x) is {', '.join(counts)} (p = {ranked.p_value:.2g})."
