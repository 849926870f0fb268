"""What a gap is held against where it is known exactly: a guide moved off the posterior."""

import pytest
import torch
from torch import Tensor

POINTS = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)
MANY = {"num_samples": 2000, "learning_rate": 0.05, "batch_size": 4096}


def check_gap(gap, kl: Tensor, evidence: Tensor, *, left: float = 0.005) -> None:
    """Amortisation is KL(q‖p) and approximation 0: at 4 errors of the means, `left` for Adam.

    The evidence may lack what a class has that is too rare to be drawn: a tenth of `left`.
    """
    value, error = gap.mean("amortization")
    assert value == pytest.approx(kl.mean().item(), abs=4 * error + left)
    assert 4 * error + left < kl.mean() / 2
    value, error = gap.mean("approximation")
    assert value == pytest.approx(0, abs=4 * error + left)
    assert gap.log_evidence.mean().item() == pytest.approx(
        evidence.mean().item(), abs=4 * gap.mean("log_evidence")[1] + left / 10
    )
