"""Networks run in bfloat16 where asked, everything else as ever."""

import threading

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from torch import nn
from torch.nn.modules import module as registry

from pyro_bvae import VAE, fit
from pyro_bvae.likelihoods import BernoulliLikelihood
from pyro_bvae.networks import conv_decoder, conv_encoder, mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training.precision import prepared
from pyro_bvae.types import as_pair

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def single_precision():
    """Autocast leaves double precision alone."""
    torch.set_default_dtype(torch.float32)


def vae(encoder=conv_encoder, decoder=conv_decoder):
    torch.manual_seed(1)
    return VAE(
        prior=NormalPrior(2),
        likelihood=BernoulliLikelihood(decoder(2, SHAPE)),
        posterior=MeanFieldPosterior(encoder(SHAPE), latents=2),
    )


def images(n=20):
    return (torch.rand(n, *SHAPE) < 0.3).float()


def traces(pair, x):
    """Return the sites z and x of a run of guide and model."""
    torch.manual_seed(2)
    guide = poutine.trace(pair.guide).get_trace(x)
    model = poutine.trace(poutine.replay(pair.model, guide)).get_trace(x)
    return guide.nodes["z"], model.nodes["x"]


def seen_by(pair, x, kind):
    """Return what layers of a kind were given and gave, by a hook on each."""
    seen = []
    handles = [
        layer.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
        for layer in pair.modules()
        if isinstance(layer, kind)
    ]
    traces(prepared(pair, precision="bf16"), x)
    for handle in handles:
        handle.remove()
    return seen


def test_layers_run_in_bfloat16_and_distributions_in_float32():
    """All but the posterior's last, which stands alone: what comes out of it is float32 again."""
    pair, x = vae(), images()
    dtypes = [y.dtype for _, y in seen_by(pair, x, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    assert dtypes == [torch.bfloat16] * 2 + [torch.float32] + [torch.bfloat16] * 3
    z, observed = traces(prepared(pair, precision="bf16"), x)
    assert z["value"].dtype == z["fn"].log_prob(z["value"]).dtype == torch.float32
    assert observed["fn"].base_dist.logits.dtype == torch.float32
    assert {p.dtype for p in pair.parameters()} == {torch.float32}


def test_numbers_are_those_of_float32_to_the_bits_that_are_left():
    """bfloat16 keeps 8 bits: log p(x|z), a sum of 64 terms a datum, is within a few 2^-8."""
    pair, x = vae(), images()
    (_, exact), (_, lowered) = traces(as_pair(pair), x), traces(prepared(pair, precision="bf16"), x)
    exact, lowered = (site["fn"].log_prob(x) for site in (exact, lowered))
    assert not torch.equal(exact, lowered)
    torch.testing.assert_close(exact, lowered, rtol=0.02, atol=0.0)


def test_float32_is_the_pair_itself():
    pair = vae(mlp_encoder, mlp_decoder)
    assert prepared(pair) == as_pair(pair)


def hooks():
    return dict(registry._global_forward_pre_hooks), dict(registry._global_forward_hooks)


def test_everything_is_put_back_after_an_error():
    class Fails(nn.Module):
        def forward(self, x):
            raise ArithmeticError

    net = nn.Sequential(nn.Linear(3, 3), Fails())
    before = hooks()
    model, guide = prepared((net, net[0]), precision="bf16")
    with pytest.raises(ArithmeticError):
        model(torch.ones(1, 3))
    assert hooks() == before
    assert not torch.is_autocast_enabled("cpu")
    assert net[0](torch.ones(1, 3)).dtype == torch.float32
    assert guide(torch.ones(1, 3)).dtype == torch.float32


def test_an_error_that_is_caught_inside_does_not_leak():
    linear = nn.Linear(3, 3)

    def model(x):
        try:
            nn.Sequential(nn.Linear(4, 3))(x)
        except RuntimeError:
            return linear(x).dtype

    prepared_model, _ = prepared((model, model), precision="bf16")
    prepared_model(torch.ones(1, 3))
    assert not torch.is_autocast_enabled("cpu")


def test_other_threads_are_left_alone():
    linear, dtypes = nn.Linear(3, 3), []
    net = nn.Sequential(linear)
    linear.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))

    def model():
        thread = threading.Thread(target=net, args=(torch.ones(1, 3),))
        thread.start()
        thread.join()
        return net(torch.ones(1, 3))

    model, _ = prepared((model, model), precision="bf16")
    model()
    assert dtypes == [torch.float32, torch.bfloat16]


def test_functions_that_call_each_other_are_one():
    linear = nn.Linear(3, 3)
    inner, _ = prepared((linear, linear), precision="bf16")
    outer, _ = prepared((lambda x: inner(x), linear), precision="bf16")
    assert outer(torch.ones(1, 3)).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_recorded_training_is_eager_training_bit_for_bit(precision):
    x, weights = images(40), []
    for mode in ("eager", "recorded"):
        pair = vae()
        result = fit(
            pair, x, steps=6, batch_size=10, compile=mode, precision=precision, progress=False
        )
        weights.append([result.history["loss"], *pair.state_dict().values()])
        assert {value.dtype for value in weights[-1][1:]} == {torch.float32}
    assert (weights[0][0] == weights[1][0]).all()
    assert all(map(torch.equal, weights[0][1:], weights[1][1:]))


def test_any_pair_of_functions():
    net = nn.Linear(2, 1)

    def model(x):
        pyro.module("net", net)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(net(x).squeeze(-1) + z, 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.0)), 1.0))

    x = torch.randn(50, 2)
    result = fit((model, guide), x, steps=3, batch_size=50, precision="bf16", progress=False)
    assert result.history["loss"].shape == (3,)
    assert net.weight.dtype == torch.float32


def test_refuses_other_precisions():
    message = r"precision: expected one of \('float32', 'bf16'\), got 'half'"
    with pytest.raises(ValueError, match=message):
        fit(vae(), images(), steps=1, precision="half", progress=False)
