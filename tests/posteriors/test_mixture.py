"""The mixture posterior."""

from pyro_bvae.posteriors import MixturePosterior
from tests.contracts import PosteriorContract


class TestMixturePosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return MixturePosterior(encoder or self.encoder(), latents, features=features)
