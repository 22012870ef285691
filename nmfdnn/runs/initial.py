"""A run that starts from what another has learned: network, preprocessing, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..data import Preprocessing
from ..errors import ConfigError
from ..model import load
from ..network import Dense, Layer, Network
from ..targets import Targets, from_state


@dataclass(frozen=True)
class Initial:
    """What a run takes over; the network only at its start."""

    preprocessing: Preprocessing
    targets: Targets
    network: Network | None = None

    @classmethod
    def read(cls, location: str) -> Initial:
        """From the folder of a finished run, or from a model's file.

        Raises:
            CheckpointError: there is none, or a damaged one.
        """
        model = load(location)
        return cls(model.preprocessing, model.targets, model.network)

    def state(self) -> dict[str, Any]:
        """What a continued run needs, as plain containers and tensors: the file may be gone by then."""
        return {"preprocessing": self.preprocessing.state(), "targets": self.targets.state()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Initial:
        """The inverse of `state`."""
        return cls(Preprocessing.from_state(state["preprocessing"]), from_state(state["targets"]))

    def network_for(self, layers: Sequence[Layer], bias: bool, like: torch.Tensor) -> Network:
        """The network, with weights of the type and on the device of `like`.

        Raises:
            ConfigError: it has other layers than this run is to have.
        """
        assert self.network is not None  # for the type checker: only a start asks
        found = self.network
        if (tuple(found.layers), found.bias) != (tuple(layers), bias):
            raise ConfigError(
                f"init_from has a network of widths {_widths(found.layers)} {_bias(found.bias)}, and this "
                f"run is to have one of {_widths(layers)} {_bias(bias)}: {_remedy(found)}"
            )
        return Network([W.to(like) for W in found.weights], bias, layers)


def _widths(layers: Sequence[Layer]) -> str:
    return "-".join(map(str, (layers[0].inputs, *(layer.outputs for layer in layers))))


def _bias(bias: bool) -> str:
    return "with biases" if bias else "without biases"


def _remedy(network: Network) -> str:
    hidden = network.layers[:-1]
    if not all(isinstance(layer, Dense) for layer in hidden):
        return "set network.convolution, network.hidden and network.bias to what its config.yaml says"
    widths = ",".join(str(layer.units) for layer in hidden)
    return f"set network.hidden=[{widths}] network.bias={str(network.bias).lower()} 'network.convolution=[]'"
