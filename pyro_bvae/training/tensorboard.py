"""What training measures, shown by TensorBoard."""

from pathlib import Path
from typing import Any

import torch

from pyro_bvae.training.callbacks import Record


class TensorBoard:
    """Write every record of a run as TensorBoard events; look at them with `tensorboard --logdir`.

    Numbers become scalars under their own names. What has an entry per latent, such as
    "kl_per_latent.z", becomes a scalar for each, "kl_per_latent.z/0" and so on, and a histogram.
    A run that goes on hides what the broken off one had written after its last checkpoint.

    Args:
        log_dir: the directory to write to; one for each run.

    Raises: ModuleNotFoundError if tensorboard is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     callback = TensorBoard(folder)
    ...     callback(Record(1, 1, {"loss": 2.0, "kl_per_latent.z": [0.5, 0.1]}, None))
    ...     print(len(list(Path(folder).iterdir())))
    1
    """

    def __init__(self, log_dir: str | Path) -> None:
        self.log_dir = Path(log_dir)
        self._factory = _writer_type()
        self._writer: Any = None

    def __call__(self, record: Record) -> None:
        """Write a record, so that it can be seen at once."""
        if self._writer is None:
            self._writer = self._factory(str(self.log_dir), purge_step=record.step)
        for name, value in record.values.items():
            if name == "step":
                continue
            if isinstance(value, list):
                self._writer.add_histogram(name, torch.tensor(value), record.step)
                for place, entry in enumerate(value):
                    self._writer.add_scalar(f"{name}/{place}", entry, record.step)
            else:
                self._writer.add_scalar(name, value, record.step)
        self._writer.flush()
        if record.step == record.steps:
            self.close()

    def close(self) -> None:
        """Close the file, as the last step does; a record after that begins another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _writer_type() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "TensorBoard: expected the package tensorboard, which is not installed; "
            "pip install 'pyro-bvae[tensorboard]'"
        ) from error
    return SummaryWriter
