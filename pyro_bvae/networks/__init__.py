"""Networks: tensors in, tensors out."""

from pyro_bvae.networks.channels import ChannelsLast
from pyro_bvae.networks.context import ContextDecoder, ContextEncoder, NoContext, OneHot
from pyro_bvae.networks.conv import conv_decoder, conv_encoder
from pyro_bvae.networks.critic import mlp_critic
from pyro_bvae.networks.mlp import mlp_decoder, mlp_encoder
from pyro_bvae.networks.recurrent import recurrent_decoder, recurrent_encoder
from pyro_bvae.networks.residual import residual_decoder, residual_encoder
from pyro_bvae.networks.spectrogram import Spectrogram, spectrogram_encoder

__all__ = [
    "ChannelsLast",
    "ContextDecoder",
    "ContextEncoder",
    "NoContext",
    "OneHot",
    "Spectrogram",
    "conv_decoder",
    "conv_encoder",
    "mlp_critic",
    "mlp_decoder",
    "mlp_encoder",
    "recurrent_decoder",
    "recurrent_encoder",
    "residual_decoder",
    "residual_encoder",
    "spectrogram_encoder",
]
