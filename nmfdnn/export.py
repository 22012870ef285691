"""A model for other programs: as a `torch.nn.Sequential`, as safetensors, or as ONNX. `nmfdnn-export`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from . import files
from .errors import ConfigError
from .factorization import split_bias
from .model import Model, load
from .network import Convolution, Dense, Layer, Pooled
from .text import one_line_errors, print_anything

SUFFIXES = {"torch": ".pt2", "safetensors": ".safetensors", "onnx": ".onnx"}


def sequential(model: Model) -> nn.Sequential:
    """The model as plain modules of PyTorch, for evaluation: raw samples n × … in, outputs n × m out: of
    classes scores, the highest of which decides, else values in their unit.

    Raw samples are floating; pictures have their channels first. The preprocessing is a batch normalisation
    with fixed statistics.

    Raises:
        ConfigError: a layer has no counterpart in PyTorch.
    """
    network, features = model.network, model.network.layers[0].inputs
    normalise = nn.BatchNorm1d(features, eps=0.0, affine=False)
    offset, scale = (T.expand(features) for T in (model.preprocessing.offset, model.preprocessing.scale))
    normalise.running_mean, normalise.running_var = offset.clone(), scale.square()
    modules: list[nn.Module] = [nn.Flatten(), normalise]
    picture: tuple[int, int, int] | None = None  # rows, columns and channels of what comes next
    for i, layer in enumerate(network.layers):
        W, b = split_bias(network.weights[i], layer.fan_in)
        if i == len(network.layers) - 1:
            W, b = model.targets.outward(W, b)
        picture, made = _modules(layer, W, b, picture)
        modules += made
        if i < len(network.layers) - 1:
            modules.append(nn.ReLU())
    return nn.Sequential(*modules).to(network.weights[0].dtype).eval()


def _modules(
    layer: Layer, W: Tensor, b: Tensor | None, picture: tuple[int, int, int] | None
) -> tuple[tuple[int, int, int] | None, list[nn.Module]]:
    """The modules of a layer, and the pictures that leave it: for codes that come in as such, or flat."""
    if isinstance(layer, Pooled):
        pooled = (layer.height // layer.size, layer.width // layer.size, layer.channels)
        after, modules = _modules(layer.then, W, b, pooled)
        return after, [nn.AvgPool2d(layer.size), *modules]
    if isinstance(layer, Convolution):
        shape = (layer.channels, layer.height, layer.width)
        convolution = nn.Conv2d(
            layer.channels, layer.units, layer.kernel, layer.stride, layer.padding, bias=b is not None
        )
        kernels = W.T.reshape(layer.units, layer.kernel, layer.kernel, layer.channels).permute(0, 3, 1, 2)
        _fill(convolution, kernels, b)
        return (*layer.places, layer.units), [
            *([nn.Unflatten(1, shape)] if picture is None else []),
            convolution,
        ]
    if isinstance(layer, Dense) and layer.positions == 1:
        if picture is not None:  # PyTorch flattens pictures channel by channel
            W = W.reshape(*picture, layer.units).permute(2, 0, 1, 3).reshape(layer.fan_in, layer.units)
        linear = nn.Linear(layer.fan_in, layer.units, bias=b is not None)
        _fill(linear, W.T, b)
        return None, [*([nn.Flatten()] if picture is not None else []), linear]
    raise ConfigError(f"a layer of kind {type(layer).__name__.lower()} has no counterpart in torch.nn")


def _fill(module: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    module.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        module.bias = nn.Parameter(bias.clone(), requires_grad=False)


def export(model: Model, path: str | Path, kind: str) -> None:
    """Write the model as `kind`: "torch" (`torch.export.load(path).module()`), "safetensors" or "onnx".

    Raises:
        ConfigError: there is no such kind, or what it needs is not installed.
    """
    if kind not in SUFFIXES:
        raise ConfigError(f"kind must be one of {', '.join(SUFFIXES)}, got {kind!r}")
    if kind == "safetensors":
        model.save(path)
        return
    modules = sequential(model)
    shape = model.preprocessing.shape or (model.network.layers[0].inputs,)
    example = torch.zeros((2, *shape), dtype=model.network.weights[0].dtype)
    write: Callable[[str], object]
    batch = torch.export.Dim("samples")
    if kind == "torch":
        program = torch.export.export(modules, (example,), dynamic_shapes=({0: batch},))
        write = lambda name: torch.export.save(program, name)  # noqa: E731
    else:
        try:
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                f"exporting to ONNX needs {error.name}: pip install 'nmfdnn[export]'"
            ) from error
        onnx = torch.onnx.export(
            modules,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=["samples"],
            output_names=["outputs"],
            verbose=False,
        )
        assert onnx is not None  # for the type checker
        write = lambda name: onnx.save(name)  # noqa: E731
    files.replace_by_name(Path(path), write)


def main() -> None:
    """Entry point."""
    print_anything()
    parser = argparse.ArgumentParser(prog="nmfdnn-export", description="Export a trained model.")
    parser.add_argument("run", help="folder of a run, or its model.safetensors")
    parser.add_argument("--to", choices=SUFFIXES, default="torch")
    parser.add_argument("-o", "--output", type=Path, help="default: model.SUFFIX here")
    arguments = parser.parse_args()
    output = arguments.output or Path(f"model{SUFFIXES[arguments.to]}")
    with one_line_errors(output):
        export(load(arguments.run), output, arguments.to)
    print(f"{output}: raw samples in, outputs of {arguments.run} out")


if __name__ == "__main__":
    main()
