"""Time of each metric beside its definition written with scikit-learn, on 10,000 + 5,000 codes.

Run `python tests/benchmarks/metrics.py` (`--long` adds the whole of DCI beside scikit-learn's, and
the FactorVAE score of a convolutional encoder at the reference's sample sizes: minutes). The codes
mix the factors of dSprites with noise in ten latents. One thread unless OMP_NUM_THREADS says
otherwise, but for DCI, which takes a process for each core. Nothing here gates a test.
"""

import argparse
import os
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.svm import LinearSVC

from pyro_bvae import metrics
from pyro_bvae.datasets import Sprites
from pyro_bvae.diagnostics import disentanglement_scores
from pyro_bvae.metrics.boosting import boost
from pyro_bvae.metrics.histograms import HistogramGrower
from pyro_bvae.networks import conv_encoder
from pyro_bvae.posteriors import MeanFieldPosterior

SIZES = (3, 6, 40, 32, 32)


def sample(rng, mixing, points):
    factors = np.stack([rng.integers(size, size=points) for size in SIZES], axis=1)
    codes = (factors / np.array(SIZES) - 0.5) @ mixing + 0.3 * rng.normal(size=(points, 10))
    return codes, factors


def reference_information(codes, factors):
    binned = [np.digitize(c, np.histogram(c, 20)[1][:-1]) for c in codes.T]
    return np.array([[mutual_info_score(f, b) for f in factors.T] for b in binned])


def reference_mig(codes, factors):
    table = np.sort(reference_information(codes, factors), axis=0)
    return np.mean((table[-1] - table[-2]) / [mutual_info_score(f, f) for f in factors.T])


def reference_sap(codes, factors, test_codes, test_factors):
    def accuracy(i, j):
        model = LinearSVC(C=0.01, class_weight="balanced").fit(codes[:, [i]], factors[:, j])
        return model.score(test_codes[:, [i]], test_factors[:, j])

    table = np.sort([[accuracy(i, j) for j in range(5)] for i in range(10)], axis=0)
    return np.mean(table[-1] - table[-2])


def reference_explicitness(codes, factors, test_codes, test_factors):
    mean, deviation = codes.mean(0), codes.std(0)
    areas = []
    for j in range(5):
        model = LogisticRegression().fit((codes - mean) / deviation, factors[:, j])
        scores = model.predict_proba((test_codes - mean) / deviation)
        areas.append(roc_auc_score(test_factors[:, [j]] == model.classes_, scores))
    return np.mean(areas)


def reference_importance(codes, factors, test_codes, _):
    columns = []
    for classes in factors.T:
        model = GradientBoostingClassifier(random_state=0).fit(codes, classes)
        model.predict(codes), model.predict(test_codes)
        columns.append(model.feature_importances_)
    return metrics.disentanglement(np.stack(columns, axis=1))


def timed(function, *arguments):
    start = time.perf_counter()
    value = function(*arguments)
    return getattr(value, "score", value), time.perf_counter() - start


def report(name, ours, theirs=None):
    line = f"{name:28s} {ours[0]:9.5f} {ours[1]:8.3f} s"
    if theirs is not None:
        line += (
            f"   reference {theirs[0]:9.5f} {theirs[1]:8.3f} s   ratio {ours[1] / theirs[1]:.3f}"
        )
    print(line, flush=True)


def compare_one_factor(codes, factors, test_codes):
    def reference(seed):
        model = GradientBoostingClassifier(random_state=seed).fit(codes, factors[:, 0])
        model.predict(codes), model.predict(test_codes)
        return model.feature_importances_

    print("boosted trees for the factor of 3 classes, one process:")
    exact, exact_time = timed(lambda: boost(codes, factors[:, 0], test_codes, seed=0))
    fast, fast_time = timed(
        lambda: boost(codes, factors[:, 0], test_codes, seed=0, growing=HistogramGrower)
    )
    theirs, their_time = timed(lambda: reference(0))
    again, again_time = timed(lambda: reference(1))
    for name, importance, seconds in (
        ("  exact", exact.importance, exact_time),
        ("  histograms", fast.importance, fast_time),
        ("  scikit-learn", theirs, their_time),
        ("  scikit-learn, other seed", again, again_time),
    ):
        print(
            f"{name:28s} {seconds:8.2f} s   ratio {seconds / their_time:.3f}   importances differ "
            f"by {np.abs(importance - theirs).max():.1e}",
            flush=True,
        )


def score_with_encoder():
    """Time the metrics that hold factors, images rendered and encoded, on two threads."""
    sprites, images = Sprites(64), []
    encoder = conv_encoder(sprites.shape, net="locatello")
    posterior = MeanFieldPosterior(encoder, latents=10)
    some = sprites.images(torch.randperm(len(sprites))[:1000])
    with torch.no_grad():
        spread = posterior(some).mean.std(0)

    def encode(x):
        images.append(len(x))
        return posterior(x).mean / spread  # of an untrained net, so that latents count as active

    torch.set_num_threads(2)
    for name in ("factor_vae_score", "beta_vae_score"):
        images.clear()
        start = time.perf_counter()
        scores = disentanglement_scores(encode, sprites, metrics=[name])
        seconds = time.perf_counter() - start
        print(
            f"{name:28s} {scores.results[name].score:9.5f} {seconds:8.1f} s, rendering and "
            f"encoding {sum(images):,} images of 64×64",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="time DCI and a real encoder as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 10))
    both = (*sample(rng, mixing, 10_000), *sample(rng, mixing, 5_000))
    codes, factors = both[:2]
    report("mig", timed(metrics.mig, codes, factors), timed(reference_mig, codes, factors))
    report(
        "information alone",
        timed(lambda: metrics.mutual_information_matrix(codes, factors).sum()),
        timed(lambda: reference_information(codes, factors).sum()),
    )
    report("modularity", timed(metrics.modularity, codes, factors))
    report("irs", timed(metrics.irs, codes, factors))
    report("sap", timed(metrics.sap, *both), timed(reference_sap, *both))
    report("explicitness", timed(metrics.explicitness, *both), timed(reference_explicitness, *both))
    report("total correlation", timed(metrics.total_correlation_score, codes))
    report("pairwise information", timed(metrics.pairwise_information_score, codes))
    report("beta-VAE, codes for nothing", timed(metrics.beta_vae_score, lambda r: r, SIZES))
    report("FactorVAE, codes for nothing", timed(metrics.factor_vae_score, lambda r: r, SIZES))
    compare_one_factor(codes, factors, both[2])
    report("dci_histogram", timed(metrics.dci_histogram, *both))
    report("mig_knn", timed(metrics.mig_knn, codes, factors))
    if options.long:
        reference = timed(reference_importance, *both)
        report("dci", timed(metrics.dci, *both), reference)
        report("dci_histogram", timed(metrics.dci_histogram, *both), reference)
        score_with_encoder()


if __name__ == "__main__":
    main()
