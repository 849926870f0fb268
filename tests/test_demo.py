"""What `make demo` promises: the two positions each have a latent of their own."""

import torch

from pyro_bvae.recipe import Recipe, load
from pyro_bvae.report import summary


def test_the_demo_learns_both_positions(tmp_path):
    torch.set_default_dtype(torch.float32)
    Recipe().train(tmp_path, progress=False)
    _, vae, data = load(tmp_path)
    measured = summary(vae, data)
    assert set(measured.factor_names) == {"shape", "scale", "orientation", "posX", "posY"}
    x, y = (measured.factor_names.index(name) for name in ("posX", "posY"))
    latents = measured.best_latent[x], measured.best_latent[y]
    assert latents[0] != latents[1]
    assert measured.r2[latents[0], x] >= 0.9
    assert measured.r2[latents[1], y] >= 0.9
