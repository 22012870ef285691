"""A trained model in one file: what takes raw samples to classes.

A run leaves `network.pt`, tensors and plain containers in PyTorch's format. As a .safetensors file the same
model holds tensors and, as JSON in its metadata, everything else: layers, preprocessing, class names, the
run's configuration and versions. Nothing in either is ever executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from scipy.optimize import brentq
from torch import Tensor

from . import files
from .data.preprocessing import Preprocessing
from .errors import CheckpointError, ConfigError
from .network import Network, from_state

MODEL = "network.pt"
FORMAT = 1
"""Of the file; a later one is refused."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network with what surrounds it, for samples as their source stores them.

    Attributes:
        network: the weights that were kept.
        classes: name of each output.
        preprocessing: fitted on the training part.
        image_shape: shape of a sample as a picture, for instance (28, 28), or None.
        temperature: by which outputs are divided for probabilities, fitted on the validation part; None where
            there was none.
        information: what else is known: configuration, versions, epoch, errors.
    """

    network: Network
    classes: tuple[str, ...]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    image_shape: tuple[int, ...] | None = None
    temperature: float | None = None
    information: Mapping[str, Any] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Model:
        """The same model on a device."""
        return replace(self, network=self.network.to(device))

    @torch.no_grad()
    def outputs(self, X: np.ndarray | Tensor) -> Tensor:
        """The network's linear outputs n × classes, on its device, for raw samples X (n × …).

        Raises:
            DataError: samples of another shape, or not finite.
        """
        like = self.network.weights[0]
        return self.network.outputs(self.preprocessing.apply(X, device=like.device, dtype=like.dtype))

    def decision_function(self, X: np.ndarray | Tensor) -> np.ndarray:
        """Scores n × classes, the highest of which decides."""
        return self.outputs(X).cpu().numpy()

    def predict(self, X: np.ndarray | Tensor) -> np.ndarray:
        """Names of the classes of raw samples X (n × …): n strings."""
        return np.array(self.classes)[self.outputs(X).argmax(dim=1).cpu().numpy()]

    def predict_proba(self, X: np.ndarray | Tensor) -> np.ndarray:
        """Probabilities n × classes: softmax of the outputs divided by `temperature` (Guo et al. 2017).

        Raises:
            ConfigError: nothing was held out on which the temperature could have been fitted.
        """
        if self.temperature is None:
            raise ConfigError(
                "this model's probabilities are not calibrated, because nothing was held out when it was "
                "trained: train with data.validation above 0, or use decision_function"
            )
        return (self.outputs(X).double() / self.temperature).softmax(dim=1).cpu().numpy()

    def save(self, path: str | Path) -> None:
        """Write the model as one file, whole or not at all; as safetensors where the name ends so."""
        path = Path(path)
        plain = {
            "format": FORMAT,
            "bias": self.network.bias,
            "layers": [layer.state() for layer in self.network.layers],
            "classes": list(self.classes),
            "image_shape": self.image_shape,
            "temperature": self.temperature,
            "information": dict(self.information),
        }
        weights, preprocessing = self.network.weights, self.preprocessing.state()
        if path.suffix != ".safetensors":
            state = {**plain, "weights": weights, "preprocessing": preprocessing}
            files.replace(path, lambda file: torch.save(state, file))
            return
        tensors = {f"weights.{i}": W for i, W in enumerate(weights)}
        tensors |= {f"preprocessing.{name}": preprocessing.pop(name) for name in ("offset", "scale")}
        tensors = {name: T.detach().cpu().contiguous() for name, T in tensors.items()}
        metadata = {"nmfdnn": json.dumps({**plain, "preprocessing": preprocessing})}
        content = safetensors.torch.save(tensors, metadata)
        files.replace(path, lambda file: file.write(content))


def load(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """The model of a run's folder, or of a file that `Model.save` wrote, on a device.

    Raises:
        CheckpointError: there is none, it is damaged, or of a later version.
    """
    path = Path(path)
    if path.is_dir():
        path /= MODEL
        if not path.exists():
            raise CheckpointError(
                f"{path.parent} holds no {MODEL}: the run has not ended; continue it with nmfdnn resume=true "
                f"hydra.run.dir={path.parent}"
            )
    if not path.is_file():
        raise CheckpointError(f"{path} is no file: give the folder of a run, or its {MODEL}")
    try:
        if path.suffix == ".safetensors":
            state = _safetensors(path, device)
        else:
            state = torch.load(path, map_location=device, weights_only=True)
        if state.get("format", 0) > FORMAT:
            raise CheckpointError(f"{path} is of a later version of nmfdnn: update nmfdnn to read it")
        shape = state["image_shape"]
        # Before there were layers of other kinds, all were fully connected.
        layers = tuple(from_state(layer) for layer in state.get("layers", ()))
        return Model(
            Network(list(state["weights"]), state["bias"], layers),
            tuple(state["classes"]),
            Preprocessing.from_state(state["preprocessing"]),
            None if shape is None else tuple(shape),
            state.get("temperature"),
            state.get("information", {"epoch": state.get("epoch")}),
        )
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or foreign file can fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged, or no model of nmfdnn: {reason}") from error


def _safetensors(path: Path, device: torch.device | str) -> dict[str, Any]:
    with safetensors.safe_open(path, framework="pt", device=str(device)) as file:
        state = json.loads((file.metadata() or {})["nmfdnn"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
    state["preprocessing"] |= {name: tensors[f"preprocessing.{name}"] for name in ("offset", "scale")}
    return {**state, "weights": [tensors[f"weights.{i}"] for i in range(len(tensors) - 2)]}


def calibrated(outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> float:
    """The temperature T > 0 for which softmax(outputs/T) has the least log-loss on these labels (n).

    The sample that is classified right by the smallest margin counts once more, with the label that came
    second: a few samples that are all right would else ask for probabilities of 0 and 1.

    Args:
        outputs: n × classes, n ≥ 1.
        labels: n, int64.
        weights: how often samples count (n × 1); default once.
    """
    outputs = outputs.double()
    outputs = outputs - outputs.mean(dim=1, keepdim=True)
    size = float(outputs.square().mean().sqrt()) or 1.0
    counts = outputs.new_ones(len(outputs)) if weights is None else weights[:, 0].to(outputs)
    second, runner_up = outputs.scatter(1, labels[:, None], -math.inf).max(dim=1)
    margins = outputs.gather(1, labels[:, None])[:, 0] - second
    nearest = torch.where(margins > 0, margins, math.inf).argmin()
    if outputs.shape[1] > 1 and margins[nearest] > 0:
        outputs = torch.cat([outputs, outputs[nearest][None]])
        labels = torch.cat([labels, runner_up[nearest][None]])
        counts = torch.cat([counts, counts.new_ones(1)])
    own = outputs.gather(1, labels[:, None])[:, 0]

    def slope(log_temperature: float) -> float:
        """Of the log-loss in 1/T, in which it is convex."""
        shares = (outputs / (size * math.exp(log_temperature))).softmax(dim=1)
        return float(counts @ ((shares * outputs).sum(dim=1) - own))

    low, high = -7.0, 7.0
    if slope(low) <= 0:
        return size * math.exp(low)
    return size * math.exp(high if slope(high) >= 0 else brentq(slope, low, high, xtol=1e-12))
