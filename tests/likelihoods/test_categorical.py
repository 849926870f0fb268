"""The categorical likelihood: integers in, logits for each."""

import pytest
import torch
from torch import nn

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import CategoricalLikelihood
from pyro_bvae.networks import recurrent_decoder, recurrent_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from tests.contracts import LikelihoodContract

CLASSES = 5


class TestCategoricalLikelihood(LikelihoodContract):
    def make(self, decoder=None):
        return CategoricalLikelihood(decoder or self.decoder(), classes=CLASSES)

    def decoder(self, shape=None):
        return super().decoder((*(shape or self.shape), CLASSES))

    def support(self, fn):
        return fn.sample().to(fn.base_dist.logits)

    def test_density_integrates_to_one(self):
        fn = self.make(self.decoder((1,)))(torch.randn(1, self.latents))
        total = sum(fn.log_prob(torch.tensor([[k]])).exp() for k in range(CLASSES))
        assert total.item() == pytest.approx(1, abs=1e-12)

    def test_moves_to_another_dtype(self):
        module = self.make().to(torch.float32)
        fn = module(torch.randn(5, self.latents, dtype=torch.float32))
        assert fn.log_prob(fn.sample()).dtype == torch.float32

    def test_gradients_reach_every_parameter(self):
        likelihood = self.make()
        fn = self.call(likelihood)
        fn.log_prob(fn.sample()).sum().backward()
        assert all((parameter.grad != 0).any() for parameter in likelihood.parameters())

    def test_mean_is_the_mean_of_draws(self):
        """The point is the class drawn most often: 4000 draws, probabilities far enough apart."""
        likelihood = self.make()
        z = 3 * torch.randn(1, self.latents)
        draws = likelihood(z).sample((4000,))
        top = likelihood(z).base_dist.probs.topk(2).values
        clear = top[..., 0] - top[..., 1] > 5 / 4000**0.5
        assert clear.any()
        assert torch.equal(likelihood.point(z)[clear], draws.mode(0).values[clear])


def test_density_is_the_formula():
    logits = torch.randn(6, 4, CLASSES)
    x = torch.randint(CLASSES, (6, 4))
    fn = CategoricalLikelihood(nn.Unflatten(1, (4, CLASSES)), classes=CLASSES)(logits.flatten(1))
    expected = torch.log_softmax(logits, -1).gather(-1, x[..., None]).sum((1, 2))
    assert torch.allclose(fn.log_prob(x), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float64])
def test_accepts_classes_of_any_dtype(dtype):
    likelihood = CategoricalLikelihood(nn.Identity(), classes=CLASSES)
    x = torch.randint(CLASSES, (6, 4)).to(dtype)
    likelihood.check(x)
    assert likelihood(torch.randn(6, CLASSES)).log_prob(x[:, 0]).shape == (6,)


@pytest.mark.parametrize(
    "x", [torch.tensor([[-1]]), torch.tensor([[CLASSES]]), torch.tensor([[0.5]])]
)
def test_refuses_what_is_no_class(x):
    message = r"x: expected whole numbers from 0 to 4, the classes of a Cat.*got .*number the"
    with pytest.raises(ValueError, match=message):
        CategoricalLikelihood(nn.Identity(), classes=CLASSES).check(x)


def test_refuses_a_decoder_of_another_width():
    with pytest.raises(ValueError, match=r"decoder: expected logits \[n, ..., 5\], got \['n', 4\]"):
        CategoricalLikelihood(nn.Linear(2, 4), classes=5)(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="classes: expected a whole number >= 2, got 1"):
        CategoricalLikelihood(nn.Identity(), classes=1)


def test_integers_go_through_the_model_and_training():
    """Two sentences, told apart by one latent, are learned by heart."""
    x = torch.tensor([[0, 1, 2, 3], [3, 2, 2, 1]]).repeat(20, 1)
    vae = VAE(
        prior=NormalPrior(2),
        likelihood=CategoricalLikelihood(recurrent_decoder(2, (4, 5), width=16), classes=5),
        posterior=MeanFieldPosterior(recurrent_encoder((4, 5), width=16), latents=2),
    )
    optim = lambda parameters: torch.optim.Adam(parameters, lr=2e-2)  # noqa: E731
    fit(vae, x, steps=60, batch_size=40, optim=optim, compile="recorded", progress=False, beta=0.1)
    assert torch.equal(vae.reconstruct(x), x)
    assert vae.model(size=3).dtype == torch.int64
    with pytest.raises(ValueError, match="x: expected whole numbers from 0 to 4"):
        vae.model(x + 3)
