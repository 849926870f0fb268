"""The metrics of disentanglement in a report: those that take seconds."""

from functools import partial

from pyro_bvae import plots
from pyro_bvae.datasets.arrays import Source
from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.diagnostics import DisentanglementScores, Row, disentanglement_scores
from pyro_bvae.models import VAE
from pyro_bvae.report.page import paragraph, picture, section, table
from pyro_bvae.report.words import number

REPORTED = ("mig", "modularity", "sap", "explicitness", "dci_histogram")
_POINTS, _TEST_POINTS = 5000, 2500
_HEADING = "Metrics of disentanglement"


def disentanglement(vae: VAE, data: Source, *, seed: int) -> list[str]:
    """Return a section that scores the codes against the known factors; none where none vary."""
    if not isinstance(data, FactorDataset) or max(data.factor_sizes) < 2:
        return []
    try:
        scores = disentanglement_scores(
            vae, data, metrics=REPORTED, points=_POINTS, test_points=_TEST_POINTS, seed=seed
        )
    except ValueError as error:
        return [section(_HEADING, paragraph(f"The metrics could not be computed: {error}."))]
    return [_section(scores)]


def _section(scores: DisentanglementScores) -> str:
    return section(
        _HEADING,
        paragraph(
            f"How the codes of {scores.points:,} random images stand to {len(scores.factor_names)} "
            f"factors, scored on {scores.test_points:,} others where a classifier is fitted. Each "
            "metric sees something else, and few can reach 1: hold a score against that of a "
            "perfect code, a latent for each factor, on the same images."
        ),
        picture(
            partial(plots.metric_scores, scores.rows),
            "each score and its interval against the score of a perfect code",
        )
        if scores.rows
        else "",
        table(
            ["metric", "what it sees", "score", "95 % interval", "perfect code"],
            [_cells(row) for row in scores.rows],
            texts=2,
        ),
        paragraph(*(f"{name} is left out: {why}." for name, why in scores.left_out.items())),
        paragraph(
            "Most metrics do not feel how little a latent varies: an inactive one, whose mean "
            "moves by a hair, counts like any other. "
            "An interval holds for the images drawn, not for another training of the same model. "
            "pyro-bvae evaluate takes more images, and adds the metrics that take minutes."
        ),
    )


def _cells(row: Row) -> list[str]:
    inside = "–" if row.low is None else f"{row.low:.3f} to {row.high:.3f}"
    return [row.metric, row.about, number(row.score, ".3f"), inside, number(row.ceiling, ".3f")]
