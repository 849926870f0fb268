"""Every disentanglement metric of a trained pair, in one table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.diagnostics.codes import Encodes, ImageCodes
from pyro_bvae.diagnostics.measures import (
    COMPLETENESS,
    INFORMATIVENESS,
    MEASURES,
    VARIANTS,
    Sample,
)
from pyro_bvae.metrics import DCIScore, Score
from pyro_bvae.metrics.interventions import check_counts
from pyro_bvae.metrics.score import check_seed


class Row(NamedTuple):
    """A line of the table: a score, its 95 % interval, and what a perfect code scores.

    `low` and `high` are None where the metric has no honest interval. `about` says in a sentence
    what the metric sees and what it does not.
    """

    metric: str
    score: float
    low: float | None
    high: float | None
    ceiling: float
    about: str


@dataclass(frozen=True, eq=False)
class DisentanglementScores:
    """The metrics of one model on one data set.

    Attributes:
        results: what each metric returned, with its parts, by the name of its function.
        left_out: why a metric that was asked for could not be computed, by the same names.
        factor_names, factor_sizes: of the factors that were scored: those of two classes or more.
        points, test_points: how many images the metrics of codes were fitted to, and scored on.
    """

    results: Mapping[str, Score]
    left_out: Mapping[str, str]
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    points: int
    test_points: int

    @property
    def rows(self) -> list[Row]:
        """The table; `pandas.DataFrame(scores.rows)` makes a frame of it."""
        return [row for name, result in self.results.items() for row in _rows(name, result)]

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """Numbers by the metrics' titles: "score", "low", "high", "ceiling"."""
        return {
            row.metric: {name: getattr(row, name) for name in ("score", "low", "high", "ceiling")}
            for row in self.rows
        }

    def __str__(self) -> str:
        lines = [f"{'metric':33} score   95 % interval   perfect code"]
        for row in self.rows:
            inside = "" if row.low is None else f"{row.low:.3f} to {row.high:.3f}"
            lower = "  (lower is better)" if "lower is better" in row.about else ""
            lines.append(
                f"{row.metric:32.32} {row.score:6.3f}  {inside:>14} {row.ceiling:14.3f}{lower}"
            )
        for name, reason in self.left_out.items():
            lines.append(f"{MEASURES[name].title}: left out; {reason}")
        return "\n".join(lines)


def disentanglement_scores(
    pair: Encodes,
    data: FactorDataset,
    *,
    metrics: Sequence[str] | None = None,
    points: int = 10_000,
    test_points: int = 5_000,
    seed: int = 0,
) -> DisentanglementScores:
    """Score how the codes of a model stand to the known factors of its data.

    Each distinct image is encoded once for all metrics, in large batches, in evaluation mode and
    without gradients. Images are drawn without replacement, those to fit and those to test on
    apart; data with fewer images than asked for are parted two to one. Factors of one class are
    left out, and test images with a class that only they have. Metrics that hold factors need one
    image for every combination, and encode most of a data set of up to a million images. Those
    that compare models of several seeds (`metrics.udr`) are not of one model, and not here.

    Args:
        pair: a `VAE` or `(model, guide)`, whose codes are posterior means, or a function from
            images to codes.
        data: images with known factors.
        metrics: names of functions in `pyro_bvae.metrics`; None for all but the variants
            "mig_knn", "dci_histogram" and "dci_forest".
        points: images to fit on.
        test_points: images to score on.
        seed: of the images drawn and of every metric.

    Raises:
        TypeError: data without known factors, or `pair` has no codes.
        ValueError: an unknown metric, no factor that varies, counts below 2, codes that are not
            finite, a seed that is no whole number ≥ 0.

    References:
        Locatello et al. (2019), Challenging Common Assumptions in the Unsupervised Learning of
        Disentangled Representations.

    >>> from pyro_bvae.datasets import Sprites
    >>> dots = Sprites(32).subset(shape=[1], orientation=[0], posX=range(8), posY=range(8))
    >>> def brightness_and_height(x):
    ...     height = torch.arange(32.0) @ x.sum((1, 3)).T / x.sum((1, 2, 3))
    ...     return torch.stack([x.sum((1, 2, 3)), height], dim=1)
    >>> scores = disentanglement_scores(brightness_and_height, dots, metrics=["mig", "modularity"])
    >>> [row.metric for row in scores.rows], scores.factor_names
    (['MIG', 'modularity'], ('scale', 'posX', 'posY'))
    """
    names = _check(data, metrics, points, test_points, seed)
    codes = ImageCodes(pair, data)
    drawn, tested = _draw(data, points, test_points, seed)
    varying = _varying(data.factors(drawn))
    sample = Sample(
        codes=codes(drawn),
        factors=data.factors(drawn)[:, varying].numpy(),
        test_codes=codes(tested),
        test_factors=data.factors(tested)[:, varying].numpy(),
        encode=lambda rows: codes(_indices(data, rows, varying)),
        sizes=_grid_sizes(data, varying),
    )
    results: dict[str, Score] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            results[name] = MEASURES[name].compute(sample, seed)
        except ValueError as error:
            left_out[name] = str(error)
    return DisentanglementScores(
        results=results,
        left_out=left_out,
        factor_names=tuple(data.factor_names[j] for j in varying),
        factor_sizes=tuple(data.factor_sizes[j] for j in varying),
        points=len(sample.codes),
        test_points=len(sample.test_codes),
    )


def _check(
    data: Any, metrics: Sequence[str] | None, points: int, test_points: int, seed: int
) -> list[str]:
    """Return the names of the metrics to compute, or complain about an argument."""
    if not isinstance(data, FactorDataset):
        raise TypeError(
            "data: expected a data set with known factors (a FactorDataset), got "
            f"{type(data).__name__}; FactorTable(images, factors) makes one"
        )
    check_seed(seed)
    check_counts(2, points=points, test_points=test_points)
    names = [n for n in MEASURES if n not in VARIANTS] if metrics is None else list(metrics)
    unknown = [name for name in names if name not in MEASURES]
    if unknown or not names:
        raise ValueError(f"metrics: expected some of {', '.join(MEASURES)}, got {unknown or names}")
    return names


def _draw(data: FactorDataset, points: int, test_points: int, seed: int) -> tuple[Tensor, Tensor]:
    """The indices of images to fit on, and of others to test on that hold no other class."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    if len(order) < points + test_points:
        points, test_points = len(order) - len(order) // 3, len(order) // 3
    drawn, rest = order[:points], order[points : points + test_points]
    seen = [
        torch.isin(column, known)
        for column, known in zip(data.factors(rest).T, data.factors(drawn).T, strict=True)
    ]
    tested = rest[torch.stack(seen).all(0)]
    if len(tested) < 2:
        raise ValueError(
            f"data: expected images to test on whose classes others have too, got {len(tested)} "
            f"of {len(data)}; metrics of factors need more data"
        )
    return drawn, tested


def _varying(factors: Tensor) -> list[int]:
    varying = [j for j, column in enumerate(factors.T) if len(column.unique()) > 1]
    if not varying:
        raise ValueError("data: expected a factor of two classes or more, got none that varies")
    return varying


def _grid_sizes(data: FactorDataset, varying: list[int]) -> tuple[int, ...] | None:
    """The sizes of the factors that vary, if every combination has one image."""
    everything = torch.arange(len(data))
    if len(data) != math.prod(data.factor_sizes[j] for j in varying) or not torch.equal(
        data.index(data.factors(everything)), everything
    ):
        return None
    return tuple(data.factor_sizes[j] for j in varying)


def _indices(data: FactorDataset, rows: Tensor, varying: list[int]) -> Tensor:
    """The images with these classes of the factors that vary, and class 0 of the others."""
    whole = torch.zeros(len(rows), len(data.factor_sizes), dtype=torch.long)
    whole[:, varying] = rows
    return data.index(whole)


def _rows(name: str, result: Score) -> list[Row]:
    measure = MEASURES[name]
    low, high = result.interval or (None, None)
    first = Row(measure.title, result.score, low, high, result.ceiling, measure.about)
    if not isinstance(result, DCIScore):
        return [first]
    title, accuracy = measure.title, result.informativeness
    told = result.informativeness_interval
    return [
        first._replace(metric=f"{title}: disentanglement"),
        Row(f"{title}: completeness", result.completeness, None, None, 1.0, COMPLETENESS),
        Row(f"{title}: informativeness", accuracy, *told, 1.0, INFORMATIVENESS),
    ]
