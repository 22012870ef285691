"""Training methods. Each is a `Trainer`: it trains on every sample once per `epoch()`."""

from .alternating import AlternatingConfig, AlternatingTrainer, SolverConfig
from .backprop import BackpropConfig, BackpropTrainer
from .common import Epoch, Trainer
from .jacobi import JacobiConfig, JacobiTrainer
from .pretraining import PretrainedLayer, PretrainingConfig, pretrain
from .start import Start, starting_network

__all__ = [
    "AlternatingConfig",
    "AlternatingTrainer",
    "BackpropConfig",
    "BackpropTrainer",
    "Epoch",
    "JacobiConfig",
    "JacobiTrainer",
    "PretrainedLayer",
    "PretrainingConfig",
    "SolverConfig",
    "Start",
    "Trainer",
    "pretrain",
    "starting_network",
]
