"""A trained model in one file: what takes raw samples to classes, or to real values.

A run leaves `model.safetensors`: tensors and, as JSON in the metadata, everything else: layers,
preprocessing, targets, the run's configuration and versions. Under any other ending the same is saved in
PyTorch's format, as tensors and plain containers. Nothing in either is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from . import files
from .data.preprocessing import Preprocessing
from .errors import CheckpointError
from .network import Network, from_state
from .targets import Targets
from .targets import from_state as from_target_state

if TYPE_CHECKING:
    import pandas

    Samples: TypeAlias = np.ndarray | Tensor | pandas.DataFrame

MODEL = "model.safetensors"
FORMER = "network.pt"
"""All that earlier versions left. Runs still write it, for those and for programs that `torch.load` it."""
FORMAT = 2
"""Of the file; a later one is refused."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network with what surrounds it, for samples as their source stores them.

    Attributes:
        network: the weights that were kept.
        targets: what the outputs are: classes with their names, or values in a unit.
        preprocessing: fitted on the training part.
        image_shape: shape of a sample as a picture, for instance (28, 28), or None.
        temperature: by which outputs are divided for probabilities, fitted on the validation part; None where
            there was none, or no classes.
        information: what else is known: configuration, versions, epoch, errors.
    """

    network: Network
    targets: Targets
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    image_shape: tuple[int, ...] | None = None
    temperature: float | None = None
    information: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each output."""
        return self.targets.names

    def to(self, device: torch.device | str) -> Model:
        """The same model on a device."""
        return replace(self, network=self.network.to(device))

    @torch.no_grad()
    def outputs(self, X: Samples) -> Tensor:
        """The network's linear outputs n × m, on its device, for raw samples X (n × …). Of a data frame the
        columns are taken that the model was trained on, if both have names.

        Raises:
            DataError: samples of another shape, without some of these columns, or not finite.
        """
        like = self.network.weights[0]
        return self.network.outputs(self.preprocessing.apply(X, device=like.device, dtype=like.dtype))

    def decision_function(self, X: Samples) -> np.ndarray:
        """Scores n × classes, the highest of which decides; outputs in units of their deviation of values."""
        return self.outputs(X).cpu().numpy()

    def predict(self, X: Samples) -> np.ndarray:
        """What raw samples X (n × …) are: names of classes, n strings; or values, n or n × m, in a unit."""
        return self.targets.answers(self.outputs(X))

    def predict_proba(self, X: Samples) -> np.ndarray:
        """Probabilities n × classes: softmax of the outputs divided by `temperature` (Guo et al. 2017).

        Raises:
            ConfigError: there are no classes, or nothing was held out to fit the temperature on.
        """
        return self.targets.probabilities(self.outputs(X), self.temperature).cpu().numpy()

    def save(self, path: str | Path) -> None:
        """Write the model as one file, whole or not at all; as safetensors where the name ends so."""
        path = Path(path)
        plain = {
            "format": FORMAT,
            "bias": self.network.bias,
            "layers": [layer.state() for layer in self.network.layers],
            "image_shape": self.image_shape,
            "temperature": self.temperature,
            "information": dict(self.information),
        }
        weights, parts = self.network.weights, {}
        parts["preprocessing"], parts["targets"] = self.preprocessing.state(), self.targets.state()
        if path.suffix != ".safetensors":
            state = {**plain, **parts, "weights": weights}
            files.replace(path, lambda file: torch.save(state, file))
            return
        tensors = {f"weights.{i}": W for i, W in enumerate(weights)}
        for part, values in parts.items():
            for name in [name for name, value in values.items() if isinstance(value, Tensor)]:
                tensors[f"{part}.{name}"] = values.pop(name)
        tensors = {name: T.detach().cpu().contiguous() for name, T in tensors.items()}
        metadata = {"nmfdnn": json.dumps({**plain, **parts})}
        content = safetensors.torch.save(tensors, metadata)
        files.replace(path, lambda file: file.write(content))


def load(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """The model of a run's folder, or of a file that `Model.save` wrote, on a device.

    Raises:
        CheckpointError: there is none, it is damaged, or of a later version.

    >>> import nmfdnn
    >>> from nmfdnn.estimators import NMFNetworkClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> NMFNetworkClassifier(random_state=0).fit(X, y).model_.save("iris.safetensors")
    >>> model = nmfdnn.load("iris.safetensors")
    >>> model.predict(X[:2]).tolist(), model.predict_proba(X[:2]).shape
    (['0', '0'], (2, 3))
    """
    path = Path(path)
    if path.is_dir():
        folder = path
        path = next((folder / name for name in (MODEL, FORMER) if (folder / name).exists()), folder)
        if path == folder:
            raise CheckpointError(
                f"{folder} holds no {MODEL}: the run has not ended; continue it with nmfdnn resume=true "
                f"hydra.run.dir={folder}"
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
        if state.keys() == {"weights", "bias"}:
            raise CheckpointError(
                f"{path} holds weights alone, as the first versions of nmfdnn left them: preprocessing and "
                "classes are unknown; train that run again to predict, or read the weights by torch.load"
            )
        shape = state["image_shape"]
        # Before there were layers of other kinds, all were fully connected.
        layers = tuple(from_state(layer) for layer in state.get("layers", ()))
        # And all that there was to predict were classes.
        targets = state.get("targets") or {"kind": "classes", "names": state["classes"]}
        return Model(
            Network(list(state["weights"]), state["bias"], layers),
            from_target_state(targets),
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
    count = 0
    for key, T in tensors.items():
        part, _, name = key.partition(".")
        if part == "weights":
            count += 1
        else:
            state[part][name] = T
    return {**state, "weights": [tensors[f"weights.{i}"] for i in range(count)]}
