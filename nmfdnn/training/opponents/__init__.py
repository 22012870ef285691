"""Other families of training without backpropagation, from their papers: one file each.

They train the same networks on the same batches as every method, under the same clock, without autograd.
"""

from typing import Any

from .admm import ADMMConfig, ADMMTrainer
from .bcd import BCDConfig, BCDTrainer
from .dfa import DFAConfig, DFATrainer
from .dtp import DTPConfig, DTPTrainer
from .ff import FFConfig, FFTrainer
from .localloss import LocalLossConfig, LocalLossTrainer
from .monoforward import MonoForwardConfig, MonoForwardTrainer
from .pc import PCConfig, PCTrainer
from .signsymmetry import SignSymmetryConfig, SignSymmetryTrainer

OPPONENTS: dict[str, tuple[type[Any], type[Any]]] = {
    config.name: (config, trainer)
    for config, trainer in (
        (DFAConfig, DFATrainer),
        (SignSymmetryConfig, SignSymmetryTrainer),
        (LocalLossConfig, LocalLossTrainer),
        (MonoForwardConfig, MonoForwardTrainer),
        (DTPConfig, DTPTrainer),
        (PCConfig, PCTrainer),
        (BCDConfig, BCDTrainer),
        (ADMMConfig, ADMMTrainer),
        (FFConfig, FFTrainer),
    )
}
"""Configuration and trainer by the name of the method."""

__all__ = [
    "OPPONENTS",
    "ADMMConfig",
    "ADMMTrainer",
    "BCDConfig",
    "BCDTrainer",
    "DFAConfig",
    "DFATrainer",
    "DTPConfig",
    "DTPTrainer",
    "FFConfig",
    "FFTrainer",
    "LocalLossConfig",
    "LocalLossTrainer",
    "MonoForwardConfig",
    "MonoForwardTrainer",
    "PCConfig",
    "PCTrainer",
    "SignSymmetryConfig",
    "SignSymmetryTrainer",
]
