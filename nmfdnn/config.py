"""The typed schema of a run: every key, its type, its default and its range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from .data import DataConfig
from .errors import ConfigError, require
from .kernels import BACKENDS
from .network import NetworkConfig
from .training import AlternatingConfig, BackpropConfig, JacobiConfig, PretrainingConfig, SolverConfig

METHODS = ("nmf", "jacobi", "bp")
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "float64")
PRECISIONS = ("highest", "high", "medium")


@dataclass
class Config:
    """One run.

    Attributes:
        data: which data, see `nmfdnn.data`.
        experiment: name of the recipe, for the record.
        method: "nmf" (alternating factorizations, layer after layer), "jacobi" (all layers from one
            forward pass) or "bp" (backpropagation).
        epochs: passes over the training data.
        records_per_epoch: evaluations in each epoch, at equal distances, at most one a mini-batch. Each
            gives a row of `metrics.csv` and a checkpoint; those at the end of an epoch go to TensorBoard.
        seed: of the split, the start and the order of the data, ≥ 0.
        device: "auto" (cuda where there is one), "cpu" or "cuda".
        dtype: "float32" or "float64".
        threads: CPU threads; null leaves PyTorch's choice.
        kernels: element-wise backend, "reference" or "compiled".
        matmul_precision: of float32 products on CUDA: "highest" is full float32, the others allow TF32, BF16.
        patience: stop after so many epochs without a better validation error; null trains all epochs.
        resume: continue the run in `hydra.run.dir`.
    """

    data: DataConfig
    experiment: str = "none"
    method: str = "nmf"
    epochs: int = 10
    records_per_epoch: int = 1
    seed: int = 1
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    kernels: str = "reference"
    matmul_precision: str = "highest"
    patience: int | None = None
    resume: bool = False
    network: NetworkConfig = field(default_factory=NetworkConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    nmf: AlternatingConfig = field(default_factory=AlternatingConfig)
    jacobi: JacobiConfig = field(default_factory=JacobiConfig)
    bp: BackpropConfig = field(default_factory=BackpropConfig)

    def __post_init__(self) -> None:
        for key, choices in (
            ("method", METHODS),
            ("device", DEVICES),
            ("dtype", DTYPES),
            ("kernels", BACKENDS),
            ("matmul_precision", PRECISIONS),
        ):
            require(getattr(self, key) in choices, key, f"one of {', '.join(choices)}", getattr(self, key))
        require(self.epochs >= 0, "epochs", "≥ 0", self.epochs)
        require(self.records_per_epoch >= 1, "records_per_epoch", "≥ 1", self.records_per_epoch)
        require(0 <= self.seed < 2**63, "seed", "in [0, 2^63)", self.seed)
        require(self.threads is None or self.threads >= 1, "threads", "null or ≥ 1", self.threads)
        require(self.patience is None or self.patience >= 1, "patience", "null or ≥ 1", self.patience)
        if self.patience is not None and self.data.validation == 0:
            raise ConfigError(
                "patience needs a validation part: set data.validation above 0, or patience=null"
            )

    def torch_device(self) -> torch.device:
        """The device to run on.

        Raises:
            ConfigError: device=cuda where there is none.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "device=cuda, but PyTorch finds no CUDA device here: use device=cpu or device=auto"
            )
        cuda = self.device != "cpu" and torch.cuda.is_available()
        return torch.device("cuda" if cuda else "cpu")

    def fit_batches(self, samples: int, overrides: Sequence[str]) -> Config:
        """The same configuration with no batch larger than the data.

        A recipe's batch size is lowered to the number of training samples, so that every recipe runs on every
        data set; a size that was asked for explicitly, in `overrides`, is refused.
        """
        asked = {override.partition("=")[0].lstrip("+") for override in overrides}
        parts = {}
        for name in METHODS:
            part = getattr(self, name)
            key = f"{name}.batch_size"
            if part.batch_size > samples:
                if key in asked and self.method == name:
                    require(False, key, f"at most the {samples} training samples", part.batch_size)
                parts[name] = replace(part, batch_size=samples)
        return replace(self, **parts)
