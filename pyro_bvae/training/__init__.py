"""Training: SVI steps, the loop around them, and what they leave on disk."""

from pyro_bvae.training import schedules
from pyro_bvae.training.callbacks import Callback, EarlyStopping, Record
from pyro_bvae.training.checkpoint import CheckpointWarning
from pyro_bvae.training.critic import CriticSVI
from pyro_bvae.training.distributed import (
    Group,
    OtherProcessError,
    current_group,
    launched_group,
)
from pyro_bvae.training.evaluate import evaluate
from pyro_bvae.training.fit import Fit, fit
from pyro_bvae.training.history import NonFiniteLossError
from pyro_bvae.training.notices import FallbackWarning, RecompileWarning
from pyro_bvae.training.run import Run
from pyro_bvae.training.state import Stateful
from pyro_bvae.training.svi import CompiledSVI
from pyro_bvae.training.tensorboard import TensorBoard

__all__ = [
    "Callback",
    "CheckpointWarning",
    "CompiledSVI",
    "CriticSVI",
    "EarlyStopping",
    "FallbackWarning",
    "Fit",
    "Group",
    "NonFiniteLossError",
    "OtherProcessError",
    "RecompileWarning",
    "Record",
    "Run",
    "Stateful",
    "TensorBoard",
    "current_group",
    "evaluate",
    "fit",
    "launched_group",
    "schedules",
]
