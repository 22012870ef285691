"""Training methods. Each is a `Trainer`: it trains on every sample once per `epoch()`."""

from .alternating import AlternatingConfig, AlternatingTrainer, SolverConfig
from .backprop import BackpropConfig, BackpropTrainer
from .common import Epoch, Trainer
from .jacobi import JacobiConfig, JacobiTrainer
from .methods import METHODS, Method
from .pretraining import PretrainedLayer, PretrainingConfig, pretrain
from .relaxation import RelaxationConfig
from .seidel import SeidelConfig, SeidelTrainer
from .start import Start, starting_network

__all__ = [
    "METHODS",
    "AlternatingConfig",
    "AlternatingTrainer",
    "BackpropConfig",
    "BackpropTrainer",
    "Epoch",
    "JacobiConfig",
    "JacobiTrainer",
    "Method",
    "PretrainedLayer",
    "PretrainingConfig",
    "RelaxationConfig",
    "SeidelConfig",
    "SeidelTrainer",
    "SolverConfig",
    "Start",
    "Trainer",
    "pretrain",
    "starting_network",
]
