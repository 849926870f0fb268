"""JointVAE: a class nobody told, and draws of it that are one-hot."""

from functools import partial

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from pyro_bvae import fit
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.models import Classifier, JointVAE
from pyro_bvae.models.one_hot import MeanClass, OneHotClass, StraightThroughClass
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.models.cases import X, joint

LOGITS = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_it_finds_clusters_that_nobody_named():
    """Three clusters twenty standard deviations apart: each class of q is one of them."""
    centres = 4 * torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    truth = torch.arange(3).repeat(60)
    x = centres[truth] + 0.2 * torch.randn(180, 2)
    vae = JointVAE(
        NormalPrior(1),
        NormalLikelihood(mlp_decoder(1 + 3, (2,), hidden=()), scale=0.5),
        MeanFieldPosterior(mlp_encoder((2,), hidden=()), latents=1),
        Classifier(mlp_encoder((2,), hidden=(16,)), classes=3),
    )
    fit(
        vae, x, steps=400, batch_size=60, beta={"z": 1.0, "y": 1.0},
        optim=partial(torch.optim.Adam, lr=1e-2), compile="recorded", progress=False,
    )  # fmt: skip
    probability, told = vae.predict(x).max(-1)
    table = torch.zeros(3, 3).index_put_((truth, told), torch.ones(180), accumulate=True)
    assert (table.max(1).values == 60).all(), table
    assert table.argmax(1).unique().numel() == 3
    assert probability.min() > 0.9
    assert (vae.reconstruct(x) - centres[truth]).abs().max() < 1.5


def test_the_kl_of_classes_is_the_categorical_one():
    q, p = StraightThroughClass(logits=LOGITS), OneHotClass(logits=torch.zeros(3))
    expected = kl_divergence(Categorical(logits=LOGITS), Categorical(logits=torch.zeros(3)))
    torch.testing.assert_close(kl_divergence(q, p), expected)
    torch.testing.assert_close(kl_divergence(MeanClass(logits=LOGITS), p), expected)


def test_log_prob_is_linear_and_right_at_the_corners():
    q, eye = OneHotClass(logits=LOGITS[0]), torch.eye(3)
    torch.testing.assert_close(q.log_prob(eye), LOGITS[0].log_softmax(0))
    mean = torch.tensor([0.2, 0.5, 0.3])
    torch.testing.assert_close(q.log_prob(mean), mean @ q.log_prob(eye))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_straight_through_draws_are_one_hot_and_unbiased(temperature):
    """Frequencies of 20,000 draws within 5 standard errors √(p(1−p)/n)."""
    q = StraightThroughClass(logits=LOGITS).at(temperature)
    y = q.rsample((20_000,))
    torch.testing.assert_close(y.sum(-1), torch.ones(20_000, 4))
    torch.testing.assert_close(y.max(-1).values, torch.ones(20_000, 4))
    error = (q.probs * (1 - q.probs) / 20_000).sqrt()
    assert ((y.mean(0) - q.probs).abs() < 5 * error).all()
    assert q.expand((7, 4)).temperature == temperature


def test_straight_through_gradients_are_those_of_relaxed_draws():
    """With the noise of the relaxed draw kept, d y/d logits is that of softmax((l + g)/τ)."""
    logits = LOGITS.clone().requires_grad_()
    torch.manual_seed(3)
    y = StraightThroughClass(logits=logits).at(0.5).rsample()
    weights = torch.arange(12.0).reshape(4, 3)
    (mine,) = torch.autograd.grad((weights * y).sum(), logits)
    torch.manual_seed(3)
    normalised = logits - logits.logsumexp(-1, keepdim=True)
    gumbels = -torch.empty_like(normalised).exponential_().log()
    relaxed = ((normalised + gumbels) / 0.5).softmax(-1)
    (expected,) = torch.autograd.grad((weights * relaxed).sum(), logits)
    torch.testing.assert_close(mine, expected)


def test_the_mean_in_place_of_a_draw():
    q = MeanClass(logits=LOGITS)
    torch.testing.assert_close(q.rsample(), LOGITS.softmax(-1))
    torch.testing.assert_close(q.rsample((2,))[1], LOGITS.softmax(-1))


def test_encode_predict_decode_sample():
    vae = joint().model
    torch.testing.assert_close(vae.predict(X).sum(-1), torch.ones(5))
    most = torch.eye(3)[vae.predict(X).argmax(-1)]
    assert torch.equal(vae.reconstruct(X), vae.decode(vae.encode(X), most))
    assert vae.sample(4).shape == (4, *X.shape[1:])
    assert vae.model(size=4).shape == (4, *X.shape[1:])


def test_refuses_parts():
    model = joint().model
    parts = (model.prior, model.likelihood, model.posterior)
    with pytest.raises(TypeError, match="classifier: expected a Classifier, got Encoder"):
        JointVAE(*parts, mlp_encoder((3,)))
    with pytest.raises(ValueError, match="expected a decoder of 6 numbers, latents and classes"):
        JointVAE(*parts, Classifier(mlp_encoder((3,)), classes=4))
    with pytest.raises(ValueError, match=r"temperature: expected a finite number > 0, got 0\.0"):
        JointVAE(*parts, model.classifier, temperature=0.0)
    with pytest.raises(ValueError, match="classes: expected"):
        Classifier(mlp_encoder((3,)), classes=1)
    with pytest.raises(ValueError, match=r"features: ReLU has no \.features"):
        Classifier(torch.nn.ReLU(), classes=2)
