"""Networks: tensors in, tensors out."""

from pyro_bvae.networks.conv import conv_decoder, conv_encoder
from pyro_bvae.networks.critic import mlp_critic
from pyro_bvae.networks.mlp import mlp_decoder, mlp_encoder

__all__ = ["conv_decoder", "conv_encoder", "mlp_critic", "mlp_decoder", "mlp_encoder"]
