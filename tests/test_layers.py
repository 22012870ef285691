"""Layers against matrices that are written entry by entry, and against torch's own convolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from pictures import matrix
from runs import configured, forked
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional

from nmfdnn.data import load
from nmfdnn.errors import ConfigError
from nmfdnn.model import load as load_model
from nmfdnn.network import (
    Convolution,
    ConvolutionConfig,
    Dense,
    Layer,
    Network,
    NetworkConfig,
    Pooled,
    build_layers,
    dense,
    from_state,
    random_weights,
)
from nmfdnn.records import read_summary

CONVOLUTIONS = {
    "one pixel": Convolution(3, 4, 2, 5, 1),
    "of pixels alone": Convolution(6, 5, 1, 4, 3),
    "of channels": Convolution(5, 6, 3, 4, 2),
    "planar": Convolution(5, 6, 3, 4, 2, planar=True),
    "the whole picture": Convolution(4, 4, 2, 3, 4),
    "apart": Convolution(6, 9, 2, 3, 3, 3),
    "strides that leave edges out": Convolution(8, 7, 2, 3, 3, 2),
    "strides over pixels": Convolution(8, 7, 2, 3, 2, 3, planar=True),
    "padded": Convolution(5, 4, 2, 3, 3, 1, 1),
    "padded, planar": Convolution(5, 4, 2, 3, 3, 1, 2, planar=True),
    "padded strides": Convolution(7, 6, 2, 3, 4, 3, 2),
    "larger than the picture": Convolution(2, 3, 2, 3, 5, 2, 2),
    "an even kernel, padded": Convolution(6, 6, 1, 2, 4, 4, 3),
}
LAYERS: dict[str, Layer] = {
    "dense": Dense(6, 4),
    **CONVOLUTIONS,
    "pooled, dense": Pooled(4, 6, 3, 2, Dense(18, 5)),
    "pooled with a rest": Pooled(7, 5, 2, 3, Dense(4, 3)),
    "pooled, convolution": Pooled(9, 8, 2, 2, Convolution(4, 4, 2, 3, 3, 1, 1)),
    "pooled to nothing": Pooled(2, 2, 3, 1, Dense(12, 2)),
}
SAMPLES = 5


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Layer:
    return LAYERS[request.param]


@pytest.fixture
def limit(dtype: torch.dtype) -> float:
    return 1e-5 if dtype == torch.float32 else 1e-12


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_rows_are_those_of_the_matrix(layer, put, dtype, limit):
    Z = values(SAMPLES, layer.inputs)
    found = layer.rows(put(Z, dtype))
    assert found.shape == (SAMPLES * layer.positions, layer.fan_in)
    assert oracle.error(found, (Z @ matrix(layer).T).reshape(-1, layer.fan_in)) < limit


def test_folding_is_the_pseudo_inverse(layer, put, dtype, limit):
    """Codes of least norm whose rows are nearest: means where patches overlap, zero where none lies."""
    A = values(SAMPLES * layer.positions, layer.fan_in)
    found = layer.fold(put(A, dtype))
    assert found.shape == (SAMPLES, layer.inputs)
    assert oracle.error(found, A.reshape(SAMPLES, -1) @ np.linalg.pinv(matrix(layer)).T) < limit


@pytest.mark.parametrize("name", [name for name in LAYERS if not name.startswith("pooled")])
def test_rows_folded_again_are_the_codes_that_any_patch_has(name, put):
    layer = LAYERS[name]
    Z = put(values(SAMPLES, layer.inputs))
    covered = put(matrix(layer).any(axis=0))
    assert oracle.error(layer.fold(layer.rows(Z)), Z * covered) < 1e-14


def test_codes_move_to_new_rows_and_keep_what_rows_leave_out(layer, put, dtype, limit):
    Z, A = abs(values(SAMPLES, layer.inputs)), abs(values(SAMPLES * layer.positions, layer.fan_in, seed=1))
    L = matrix(layer)
    expected = Z + (A.reshape(SAMPLES, -1) - Z @ L.T) @ np.linalg.pinv(L).T
    assert oracle.error(layer.moved(put(Z, dtype), put(A, dtype)), np.maximum(0, expected)) < limit
    kept = layer.rows(put(Z, dtype))
    assert oracle.error(layer.moved(put(Z, dtype), kept), Z) < limit


@pytest.mark.parametrize("bias", [False, True])
def test_products_are_those_of_the_matrix(layer, bias, put, dtype, limit):
    Z, W, b = values(SAMPLES, layer.inputs), values(layer.fan_in, layer.units), values(layer.units, seed=1)
    found = layer.product(put(Z, dtype), put(W, dtype), put(b, dtype) if bias else None)
    expected = (Z @ matrix(layer).T).reshape(-1, layer.fan_in) @ W + bias * b
    assert found.shape == (SAMPLES, layer.outputs)
    assert oracle.error(found, expected.reshape(SAMPLES, -1)) < limit


def test_cross_products_are_those_of_the_matrix(layer, put, dtype, limit):
    Z, R = values(SAMPLES, layer.inputs), values(SAMPLES, layer.outputs, seed=1)
    expected = (Z @ matrix(layer).T).reshape(-1, layer.fan_in).T @ R.reshape(-1, layer.units)
    assert oracle.error(layer.cross(put(Z, dtype), put(R, dtype)), expected) < limit


def test_residuals_go_back_by_the_pseudo_inverse(layer, put, dtype, limit):
    R, M = values(SAMPLES, layer.outputs), values(layer.units, layer.fan_in, seed=1)
    expected = (R.reshape(-1, layer.units) @ M).reshape(SAMPLES, -1) @ np.linalg.pinv(matrix(layer)).T
    assert oracle.error(layer.back(put(R, dtype), put(M, dtype)), expected) < limit


def test_fast_products_equal_the_derived_ones(layer, put):
    Z, W, b = values(SAMPLES, layer.inputs), values(layer.fan_in, layer.units), values(layer.units, seed=1)
    Z, W, b = put(Z), put(W), put(b)
    R, M = put(values(SAMPLES, layer.outputs)), put(values(layer.units, layer.fan_in, seed=1))
    assert oracle.error(layer.product(Z, W, b), Layer.product(layer, Z, W, b)) < 1e-13
    assert oracle.error(layer.cross(Z, R), Layer.cross(layer, Z, R)) < 1e-13
    assert oracle.error(layer.back(R, M), Layer.back(layer, R, M)) < 1e-13


def test_views_and_products_leave_their_arguments_alone(layer, put):
    Z, R = put(values(SAMPLES, layer.inputs)), put(values(SAMPLES, layer.outputs))
    W, b = put(values(layer.fan_in, layer.units)), put(values(layer.units))
    before = [T.clone() for T in (Z, R, W, b)]
    layer.product(Z, W, b).relu_()
    layer.cross(Z, R)
    layer.back(R, W.T.contiguous()).mul_(0)
    for T, kept in zip((Z, R, W, b), before, strict=True):
        assert torch.equal(T, kept)


@pytest.mark.parametrize("n", [0, 1])
def test_few_samples(layer, n, put):
    """A rank may have none of a batch."""
    Z, W = put(values(n, layer.inputs)), put(values(layer.fan_in, layer.units))
    V = layer.product(Z, W, None)
    assert V.shape == (n, layer.outputs)
    assert layer.cross(Z, V).shape == W.shape
    assert layer.back(V, W.T.contiguous()).shape == Z.shape
    assert layer.fold(layer.rows(Z)).shape == Z.shape


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_products_are_those_of_torch(name, put):
    layer = CONVOLUTIONS[name]
    picture = values(SAMPLES, layer.channels, layer.height, layer.width)
    W, b = values(layer.fan_in, layer.units), values(layer.units, seed=1)
    kernels = W.reshape(layer.kernel, layer.kernel, layer.channels, layer.units).transpose(3, 2, 0, 1)
    expected = functional.conv2d(put(picture), put(kernels), put(b), layer.stride, layer.padding)
    Z = put(picture if layer.planar else picture.transpose(0, 2, 3, 1)).reshape(SAMPLES, -1)
    found = layer.product(Z, put(W), put(b)).view(SAMPLES, *layer.places, layer.units)
    assert oracle.error(found.permute(0, 3, 1, 2), expected) < 1e-13


@pytest.mark.parametrize("size", [1, 2, 3])
def test_means_are_those_of_torch(size, put):
    picture = put(values(SAMPLES, 2, 7, 6))
    layer = Pooled(7, 6, 2, size, Dense((7 // size) * (6 // size) * 2, 4))
    found = layer.rows(picture.permute(0, 2, 3, 1).reshape(SAMPLES, -1))
    expected = functional.avg_pool2d(picture, size).permute(0, 2, 3, 1).reshape(SAMPLES, -1)
    assert oracle.error(found, expected) < 1e-14


def test_autograd_goes_through_products(layer, put):
    """Backpropagation uses these too; torch's gradients of the derived product are the reference."""
    Z, W = put(values(SAMPLES, layer.inputs)), put(values(layer.fan_in, layer.units))
    R = put(values(SAMPLES, layer.outputs, seed=1))
    found = []
    for product in (layer.product, lambda *arguments: Layer.product(layer, *arguments)):
        leaves = Z.clone().requires_grad_(), W.clone().requires_grad_()
        product(*leaves, None).backward(R)
        found.append([leaf.grad for leaf in leaves])
    for fast, derived in zip(*found, strict=True):
        assert oracle.error(fast, derived) < 1e-13


@pytest.mark.parametrize("name", [name for name, layer in CONVOLUTIONS.items() if not layer.padding])
def test_rows_are_drawn_as_patches_with_their_channels_first(name, put):
    layer = CONVOLUTIONS[name]
    picture = put(values(1, layer.channels, layer.height, layer.width))
    Z = (picture if layer.planar else picture.permute(0, 2, 3, 1)).reshape(1, -1)
    rows, shape = layer.pictures(layer.rows(Z), (layer.channels, layer.height, layer.width))
    assert shape == (layer.channels, layer.kernel, layer.kernel)
    down, right = layer.places
    for place, row in enumerate(rows.view(down * right, *shape)):
        y, x = (layer.stride * number for number in divmod(place, right))
        assert torch.equal(row, picture[0, :, y : y + layer.kernel, x : x + layer.kernel])


def test_states_are_plain_and_lead_back(layer):
    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        return isinstance(value, int | str)

    assert plain(layer.state())
    assert from_state(layer.state()) == layer


def built(
    convolution: list[ConvolutionConfig], hidden: list[int], shape: tuple[int, ...], classes: int = 3
) -> tuple[Layer, ...]:
    config = NetworkConfig(hidden, convolution=convolution)
    return build_layers(config, int(np.prod(shape)), shape, classes)


def test_layers_of_a_configuration():
    layers = built([ConvolutionConfig(8, 3, 1, 1, 2), ConvolutionConfig(4, 2, 2)], [20], (3, 9, 11), 10)
    assert layers == (
        Convolution(9, 11, 3, 8, 3, 1, 1, planar=True),
        Pooled(9, 11, 8, 2, Convolution(4, 5, 8, 4, 2, 2)),
        Dense(2 * 2 * 4, 20),
        Dense(20, 10),
    )
    assert built([ConvolutionConfig(5, 3, pool=2)], [], (8, 7)) == (
        Convolution(8, 7, 1, 5, 3, planar=True),
        Pooled(6, 5, 5, 2, Dense(3 * 2 * 5, 3)),
    )
    assert built([], [7], (3, 2, 2)) == dense(12, 7, 3)


def test_the_forward_pass_is_that_of_torch(put):
    shape = (3, 9, 10)
    layers = built([ConvolutionConfig(6, 3, 1, 1, 2), ConvolutionConfig(5, 2, 2)], [12], shape)
    g = torch.Generator().manual_seed(0)
    X = put(values(SAMPLES, *shape))
    weights = random_weights(layers, True, "he", g, X)
    for W in weights:
        W[-1] += 0.1
    network = Network(weights, True, layers)
    kernels = [
        W[:-1].view(layer, layer, -1, W.shape[1]).permute(3, 2, 0, 1)
        for W, layer in zip(weights[:2], (3, 2), strict=True)
    ]
    Z = functional.conv2d(X, kernels[0], weights[0][-1], padding=1).relu()
    Z = functional.conv2d(functional.avg_pool2d(Z, 2), kernels[1], weights[1][-1], stride=2).relu()
    Z = (Z.permute(0, 2, 3, 1).flatten(1) @ weights[2][:-1] + weights[2][-1]).relu()
    assert oracle.error(network.outputs(X.flatten(1)), Z @ weights[3][:-1] + weights[3][-1]) < 1e-13
    assert network.widths == [270, 9 * 10 * 6, 2 * 2 * 5, 12, 3]


@pytest.mark.parametrize(
    ("convolution", "shape", "message"),
    [
        (
            [ConvolutionConfig(4, 9)],
            (8, 8),
            r"\[0\].kernel: a kernel of 9 does not fit into pictures of 8 × 8",
        ),
        ([ConvolutionConfig(4, 5)] * 2, (8, 8), r"\[1\].kernel: a kernel of 5 .* pictures of 4 × 4"),
        (
            [ConvolutionConfig(4, 3, pool=7), ConvolutionConfig(4, 1)],
            (8, 8),
            r"\[0\].pool: a pool of 7 .* 6 × 6",
        ),
        (
            [ConvolutionConfig(4, 3), ConvolutionConfig(4, 3, pool=5)],
            (8, 8),
            r"\[1\].pool: a pool of 5 .* 4 × 4",
        ),
        ([ConvolutionConfig(4, 3)], (2, 64), r"\[0\].kernel: a kernel of 3 .* of 2 × 64"),
    ],
)
def test_kernels_and_pools_that_do_not_fit(convolution, shape, message):
    with pytest.raises(ConfigError, match=f"network.convolution{message}"):
        built(convolution, [5], shape)


def test_samples_that_are_no_pictures():
    with pytest.raises(ConfigError, match="a sample is a row of 12 numbers"):
        build_layers(NetworkConfig([5], convolution=[ConvolutionConfig()]), 12, None, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 0}, r"convolution\[…\]\.channels must be ≥ 1, got 0"),
        ({"kernel": 0}, r"kernel must be ≥ 1"),
        ({"stride": 0}, r"stride must be ≥ 1"),
        ({"pool": 0}, r"pool must be ≥ 1"),
        ({"padding": -1}, r"padding must be ≥ 0"),
        ({"kernel": 3, "padding": 3}, r"padding must be less than the kernel, 3, got 3"),
    ],
)
def test_bad_configuration(values, message):
    with pytest.raises(ConfigError, match=message):
        ConvolutionConfig(**values)


def test_convolutions_alone_are_a_network():
    assert [layer.units for layer in built([ConvolutionConfig(5, 3)], [], (8, 8))] == [5, 3]


CONVOLUTION = "network.convolution=[{channels:4,kernel:3}]"
QUICK = ["data=digits", "network.hidden=[8]", "network.start=he", "threads=1", "device=cpu"]


def run(folder: Path, *overrides: str) -> tuple[int, str]:
    settings = [] if "resume=true" in overrides else QUICK
    return forked(*settings, *overrides, f"hydra.run.dir={folder}", cwd=folder.parent)


@pytest.mark.parametrize(
    ("given", "message", "remedies"),
    [
        (
            ["network.convolution=[{channels:4,kernel:5,stride:2},{channels:4,kernel:3}]"],
            "kernel of 3 does not fit into pictures of 2 × 2 with padding 0: choose smaller kernels, strides",
            [
                ["network.convolution=[{channels:4,kernel:5,stride:2},{channels:4,kernel:2}]"],
                ["network.convolution=[{channels:4,kernel:5},{channels:4,kernel:3}]"],
                ["network.convolution=[{channels:4,kernel:5,stride:2}]"],
            ],
        ),
        (
            ["network.convolution=[{channels:4,kernel:3,pool:7}]"],
            "a pool of 7 does not fit into pictures of 6 × 6",
            [["network.convolution=[{channels:4,kernel:3,pool:6}]"]],
        ),
        (
            ["data=synthetic", CONVOLUTION],
            "network.convolution needs pictures, but a sample is a row of 50 numbers: leave it empty",
            [
                ["data=synthetic", "network.convolution=[]"],
                ["data=arrays", "data.path=pictures.npz", CONVOLUTION],
            ],
        ),
        (
            ["network.convolution=[{kernel:3,padding:3}]"],
            "padding must be less than the kernel, 3, got 3",
            [],
        ),
        (["network.convolution=[{kernel:0}]"], "kernel must be ≥ 1, got 0", []),
        (["network.convolution=[{kernels:3}]"], "no key kernels: did you mean kernel?", []),
    ],
)
def test_what_the_command_line_refuses_and_its_remedies(given, message, remedies, tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (40, 5, 6, 3)).astype(np.uint8)
    np.savez(tmp_path / "pictures.npz", X=X, y=np.arange(40) % 2)
    status, printed = run(tmp_path / "refused", *given)
    assert status == 2
    assert message in printed
    assert "Traceback" not in printed
    for number, remedy in enumerate(remedies):
        status, printed = run(tmp_path / str(number), *remedy, "method=bp", "epochs=1")
        assert status == 0, printed


@pytest.mark.parametrize("method", ["nmf", "jacobi", "bp"])
def test_a_run_from_the_command_line(method, tmp_path):
    """Pre-trained on patches; its network is whole in one file, and its pictures are drawn."""
    net = [
        "network.convolution=[{channels:6,kernel:3,pool:2},{channels:8,kernel:2}]",
        "network.start=pretrained",
    ]
    status, printed = run(tmp_path / "run", *net, f"method={method}", "epochs=2", "records_per_epoch=2")
    assert status == 0, printed
    assert "left out" not in printed
    summary = read_summary(tmp_path / "run")
    assert summary["layers"] == [64, 216, 32, 8, 10]
    network = load_model(tmp_path / "run").network
    config = configured("data=digits")
    data = load(config.data, seed=config.seed, device=torch.device("cpu"), dtype=torch.float32)
    wrong = (network.predict(data.test.X) != data.test.labels).double().mean()
    assert 100 * float(wrong) == pytest.approx(summary["test_error"])
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert {"images/nmf_parts", "images/reconstructions", "images/first_layer_weights"} <= {
        *events.Tags()["images"]
    }
    if method == "nmf":
        status, printed = run(tmp_path / "run", "resume=true", "epochs=3")
        assert status == 0, printed
        assert read_summary(tmp_path / "run")["epochs_trained"] == 3
