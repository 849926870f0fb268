"""A class known for some of the data: what it learns from few labels, and errors at the door."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pyro_bvae import fit
from pyro_bvae.datasets import digits
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.models import Classifier, SemiSupervisedVAE
from pyro_bvae.networks import ContextEncoder, mlp_decoder, mlp_encoder
from pyro_bvae.objectives import ELBO
from pyro_bvae.posteriors import MeanFieldPosterior, Posterior
from pyro_bvae.priors import NormalPrior
from tests.models.cases import CLASS, SOME, X, semi_supervised


def few_labels(labels, seed):
    """Ten labels of each class, −1 elsewhere."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    known = torch.cat([order[labels[order] == digit][:10] for digit in range(10)])
    some = torch.full_like(labels, -1)
    some[known] = labels[known]
    return some


def of_digits():
    return SemiSupervisedVAE(
        NormalPrior(5),
        BernoulliLikelihood(mlp_decoder(5 + 10, (1, 8, 8), hidden=(64,))),
        MeanFieldPosterior(ContextEncoder(mlp_encoder((64 + 10,), hidden=(64,))), latents=5),
        Classifier(mlp_encoder((1, 8, 8), hidden=(64,)), classes=10),
        alpha=20.0,
    )


def supervised(x, labels):
    """The same classifier, trained on the labelled rows alone until it fits them."""
    net = Classifier(mlp_encoder((1, 8, 8), hidden=(64,)), classes=10)
    optim = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(200):
        optim.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optim.step()
    return net


def test_images_without_labels_help_to_tell_digits():
    """With 100 labels, on the 1697 others: better than the same data without them teach.

    The sd of a share p of 1697 is √(p(1−p)/1697) = 0.007; the gain asked for is on average 0.01.
    """
    images, labels = digits()
    gains = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        some = few_labels(labels, seed)
        known = some >= 0
        vae = of_digits()
        fit(
            vae, (images, some), steps=500, batch_size=64, seed=seed,
            optim=partial(torch.optim.Adam, lr=5e-3), progress=False,
        )  # fmt: skip
        x, y = images[known], labels[known]
        others, truth = images[~known], labels[~known]
        mine = (vae.predict(others).argmax(-1) == truth).double().mean().item()
        alone = (supervised(x, y)(others).argmax(-1) == truth).double().mean().item()
        linear = LogisticRegression(max_iter=5000).fit(x.flatten(1), y)
        gains.append((mine - alone, mine - linear.score(others.flatten(1), truth)))
    assert (np.mean(gains, axis=0) > 0.01).all(), gains


def test_a_label_takes_the_place_of_q():
    """The y of labelled data is their label, of others q(y|x), and only these have an entropy."""
    case = semi_supervised()
    values = ELBO().estimate(*case.model_and_guide(1.0), X, SOME)
    q = case.model.predict(X)[SOME < 0]
    expected = 5 * np.log(3) + (q * q.log()).sum()
    torch.testing.assert_close(values.kl_per_latent["y"].sum(), expected)


def test_alpha_weighs_the_classification_term_alone():
    losses = []
    for alpha in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        case = semi_supervised(alpha)
        losses.append(ELBO().loss(*case.model_and_guide(1.0), X, SOME))
    term = -case.model.classifier(X).log_softmax(-1)[[0, 2], [2, 1]].sum().item()
    assert losses[1] - losses[0] == pytest.approx(term)
    assert losses[2] - losses[0] == pytest.approx(3 * term)


def test_without_labels_it_is_as_if_none_were_known():
    case = semi_supervised()
    torch.manual_seed(0)
    none = ELBO().loss(*case.model_and_guide(2.0), X)
    torch.manual_seed(0)
    unknown = ELBO().loss(*case.model_and_guide(2.0), X, torch.full((5,), -1))
    assert none == pytest.approx(unknown, rel=1e-12)


def test_certain_classifiers_stay_finite():
    """With logits a thousand apart q(y|x) underflows to 0: no NaN in loss or gradient."""
    case = semi_supervised()
    with torch.no_grad():
        case.model.classifier.head.weight.mul_(1e4)
    loss = ELBO().differentiable_loss(*case.model_and_guide(1.0), X, SOME)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in case.model.parameters())


def test_predict_encode_decode_sample():
    vae = semi_supervised().model
    guess = vae.predict(X).argmax(-1)
    assert torch.equal(vae.encode(X), vae.encode(X, guess))
    mixed = torch.where(SOME < 0, guess, SOME)
    assert torch.equal(vae.encode(X, SOME), vae.encode(X, mixed))
    assert torch.equal(vae.reconstruct(X, SOME), vae.decode(vae.encode(X, mixed), mixed))
    assert vae.sample(CLASS).shape == X.shape
    assert vae.model(size=4).shape == (4, *X.shape[1:])


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (CLASS + 1, ValueError, "labels: expected integers .* from -1 to 2, −1 where .* 1 to 3"),
        (CLASS - 2, ValueError, "got -2 to 0"),
        (CLASS.double(), TypeError, r"labels: .* got torch.float64; use torch.as_tensor\(labels"),
        (CLASS[:3], ValueError, "labels: expected one for each x, 5, got 3; write −1"),
        (CLASS[:, None], ValueError, r"labels: .* got shape \[5, 1\]"),
    ],
)
def test_refuses_labels(labels, error, message):
    model = semi_supervised().model
    for function in (model.guide, model.model):
        with pytest.raises(error, match=message):
            function(X, labels)


class Other(Posterior):
    def forward(self, x, *context):
        raise NotImplementedError


def test_refuses_parts():
    model = semi_supervised().model
    parts = (model.prior, model.likelihood, model.posterior, model.classifier)
    with pytest.raises(ValueError, match="alpha: expected a finite number >= 0, got -1"):
        SemiSupervisedVAE(*parts, alpha=-1.0)
    with pytest.raises(TypeError, match="posterior: expected a AmortisedPosterior, got Other"):
        SemiSupervisedVAE(*parts[:2], Other(2), parts[3], alpha=1.0)
    with pytest.raises(ValueError, match="expected a decoder of 6 numbers, latents and classes"):
        SemiSupervisedVAE(*parts[:3], Classifier(mlp_encoder((3,)), classes=4), alpha=1.0)
