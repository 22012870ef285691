"""Every configuration file composes, validates and trains."""

from __future__ import annotations

import math
from pathlib import Path

import nmfdnn.configs
import pytest
import torch
from hydra.errors import ConfigCompositionException
from runs import TINY, composed, configured, names

from nmfdnn.data import SCHEMAS
from nmfdnn.errors import ConfigError
from nmfdnn.model import load as load_model
from nmfdnn.network import build_layers
from nmfdnn.runs.experiment import run
from nmfdnn.runs.memory import parameters
from nmfdnn.training import METHODS
from nmfdnn.training.opponents import OPPONENTS

CONFIGS = Path(nmfdnn.configs.__file__).parent
EXPERIMENTS = names(CONFIGS / "experiment")


def test_there_is_a_file_for_every_data_set_and_a_line_of_help_for_every_file():
    assert names(CONFIGS / "data") == sorted(SCHEMAS)
    help_text = composed_help()
    for name in [*SCHEMAS, *EXPERIMENTS]:
        assert name in help_text


SMALL_PICTURES = [
    "data=digits",
    "data.train_samples=200",
    "network.convolution=[{channels:4,kernel:3,stride:2}]",
    "network.hidden=[8]",
]


def composed_help() -> str:
    return (CONFIGS / "config.yaml").read_text()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("data", [name for name in SCHEMAS if name != "arrays"])
def test_every_experiment_composes_with_every_data_set(experiment, data):
    config = configured(f"experiment={experiment}", f"data={data}")
    assert config.experiment == experiment
    assert config.data.name == data
    assert type(config.data) is SCHEMAS[data]


@pytest.mark.parametrize(
    ("experiment", "method"),
    [
        (experiment, method)
        for experiment in EXPERIMENTS
        for method in METHODS
        if method not in OPPONENTS or experiment in ("quickstart", "best_small_bp")
    ],
)
def test_every_experiment_trains_one_epoch_with_either_method(experiment, method, tmp_path):
    convolutional = configured(f"experiment={experiment}").network.convolution
    data = SMALL_PICTURES if convolutional else TINY
    summary = run(configured(*data, f"experiment={experiment}", f"method={method}", "epochs=1"), tmp_path)
    assert summary["epochs"] == 1
    assert all(math.isfinite(summary[key]) for key in ("train_error", "validation_error", "test_error"))
    weights = load_model(tmp_path).network.weights
    assert [len(weights), weights[-1].shape[1]] == ([3, 10] if convolutional else [3, 3])


CONVOLUTIONAL = {
    # pictures, widths of the codes, weights and biases, the smallest side of a picture
    "conv": ((1, 28, 28), [25088, 12544, 3136, 10], 58_826, 12),
    "conv_small": ((1, 28, 28), [25088, 12544, 3136, 10], 58_826, 12),
    "conv_large": ((1, 28, 28), [50176, 25088, 6272, 10], 228_234, 12),
    "conv_cifar10": ((3, 32, 32), [65536, 32768, 8192, 10], 231_434, 16),
    "conv_deep": ((1, 28, 28), [6272, 12544, 12544, *[4704] * 3, 10], 281_578, 11),
}


@pytest.mark.parametrize("experiment", [n for n in EXPERIMENTS if n.removesuffix("_bp") in CONVOLUTIONAL])
def test_convolutional_nets_are_those_of_the_pages(experiment):
    (channels, *sides), widths, weights, least = CONVOLUTIONAL[experiment.removesuffix("_bp")]
    network = configured(f"experiment={experiment}").network
    layers = build_layers(network, channels * math.prod(sides), (channels, *sides), 10)
    assert [layer.outputs for layer in layers] == widths
    assert parameters(layers, network.bias) == weights
    build_layers(network, least**2, (least, least), 10)
    with pytest.raises(ConfigError, match=r"network.convolution\[\d\].pool: .* does not fit"):
        build_layers(network, (least - 1) ** 2, (least - 1, least - 1), 10)


def test_every_convolutional_net_is_among_them():
    nets = {name for name in EXPERIMENTS if configured(f"experiment={name}").network.convolution}
    assert {name.removesuffix("_bp") for name in nets} == CONVOLUTIONAL.keys()


@pytest.mark.parametrize("experiment", CONVOLUTIONAL)
def test_both_relaxations_of_a_convolutional_net_have_the_same_settings(experiment):
    """Those of the log: small batches, little damping; ridges with few pictures alone."""
    config = configured(f"experiment={experiment}")
    assert vars(config.seidel) == vars(config.jacobi)
    assert (config.seidel.batch_size, config.seidel.damping, config.seidel.gram_every) == (25, 0.01, 20)
    few = experiment == "conv_small"
    assert (config.seidel.ridge, config.seidel.input_ridge) == ((0.06, 0.3) if few else (0, 0))


PUBLISHED = {
    # hidden, bias, δ_x, δ_h, pre-training, W steps, Z steps, λ_W, λ_Z
    "sakurai2016_mnist": ([1000, 500], False, 5e-3, 1e-14, (20, 25, 25), 10, 1, 0, 0),
    "arai2018_mnist": ([1000, 500], True, 4e-2, 1e-14, (5, 10, 10), 1, 1, 1e-3, 1e-5),
    "arai2018_cifar10": ([1500, 1000, 500], True, 5e-3, 1e-14, (20, 10, 10), 25, 25, 1e-5, 1e-7),
}


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_published_settings(experiment):
    config = configured(f"experiment={experiment}")
    pretraining, nmf = config.pretraining, config.nmf
    assert (
        config.network.hidden,
        config.network.bias,
        config.solver.input_delta,
        config.solver.hidden_delta,
        (pretraining.outer_iterations, pretraining.nmf_iterations, pretraining.lsq_iterations),
        nmf.weight_steps,
        nmf.code_steps,
        pytest.approx(nmf.weight_ridge * nmf.batch_size),  # as published: in the unit of codes of one
        nmf.code_ridge,
    ) == PUBLISHED[experiment]
    assert (nmf.output_iterations, nmf.hidden_iterations, nmf.batch_size, nmf.omega) == (1, 1, 5000, 1.0)
    assert (config.dtype, config.solver.method, config.network.start) == ("float64", "svd", "pretrained")
    assert not config.data.scale


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method=adam", r"method must be one of nmf, jacobi, seidel, bp, .*, got 'adam'"),
        ("epochs=-1", r"epochs must be ≥ 0"),
        ("seed=-1", r"seed must be in \[0, 2\^63\)"),
        ("epochs=1000000001", r"epochs must be ≥ 0 and at most 10⁹"),
        ("threads=0", r"threads must be null or ≥ 1"),
        ("threads=1000000", r"threads must be null or ≥ 1 and at most \d+, 4 for each of \d+ CPUs"),
        (f"seed={2**63}", r"seed must be in \[0, 2\^63\)"),
        ("patience=0", r"patience must be null or ≥ 1"),
        ("device=tpu", r"device must be one of auto, cpu, cuda"),
        ("dtype=float16", r"dtype must be one of float32, float64"),
        ("kernels=cuda", r"kernels must be one of reference, compiled"),
        ("network.hidden=[]", r"network.hidden must be a list of at least one width"),
        ("network.hidden=[10,0]", r"network.hidden must be a list of widths ≥ 1"),
        ("nmf.omega=0", r"nmf.omega must be in \(0, 2\], got 0.0"),
        ("nmf.batch_size=-5", r"nmf.batch_size must be ≥ 1, got -5"),
        ("bp.batch_size=0", r"bp.batch_size must be ≥ 1, got 0"),
        ("solver.input_delta=1", r"solver.input_delta must be in \[0, 1\), got 1.0"),
        ("solver.hidden_delta=1.5", r"solver.hidden_delta must be in \[0, 1\), got 1.5"),
        ("data.validation=1", r"data.validation must be in \[0, 1\)"),
        ("data=arrays", r"data.path must be set: add data.path=VALUE"),
    ],
)
def test_an_impossible_value_is_named_with_its_range(override, message):
    with pytest.raises(ConfigError, match=message):
        configured(override)


FLOATS = [key for key, value in configured().flat().items() if isinstance(value, float)]


@pytest.mark.parametrize("key", [*FLOATS, "data.noise"])
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_no_number_is_infinite_or_none(key, value):
    with pytest.raises(ConfigError, match=f"{key} must be .*, got {value}"):
        configured("data=synthetic", f"{key}={value}")


@pytest.mark.parametrize(
    ("key", "value"), [("nmf.omega", "${nope}"), ("seed", "${oc.env:NOPE_}"), ("network.hidden", "${a.b}")]
)
def test_an_interpolation_of_nothing_is_named(key, value):
    with pytest.raises(ConfigError, match=f"^{key}: .*not found") as caught:
        configured(f"{key}={value}")
    assert "\n" not in str(caught.value)


def test_the_largest_accepted_numbers_train(tmp_path):
    largest = [f"seed={2**63 - 1}", "epochs=1000000000", "records_per_epoch=1000000000", "patience=1"]
    batch = ["method=bp", "network.start=he", "bp.learning_rate=1e-30", "bp.optimizer=sgd"]
    summary = run(configured(*TINY, *largest, *batch, "bp.batch_size=1000000000"), tmp_path)
    assert summary["epochs_trained"] >= 1


def test_patience_needs_validation():
    with pytest.raises(ConfigError, match=r"set data\.validation above 0"):
        configured("patience=2", "data.validation=0")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("nmf.omgea=1", "omgea"),
        ("epochs=many", "epochs"),
        ("nmf.batch_size=1.5", "batch_size"),
        ("x=1", "'x'"),
    ],
)
def test_a_typo_or_a_wrong_type_fails_at_composition_and_names_the_key(override, key):
    with pytest.raises(ConfigCompositionException) as caught:
        composed(override)
    assert key in str(caught.value) + str(caught.value.__cause__)


@pytest.mark.parametrize(
    "method", [name for name in METHODS if hasattr(getattr(configured(), name), "batch_size")]
)
def test_a_batch_that_was_asked_for_must_fit_the_data_but_a_recipe_adapts(method):
    config = configured("experiment=quickstart", f"method={method}", f"{method}.batch_size=5000")
    assert getattr(config.fit_batches(3600, []), method).batch_size == 3600
    with pytest.raises(ConfigError, match=rf"{method}.batch_size must be at most the 3600 training samples"):
        config.fit_batches(3600, [f"{method}.batch_size=5000"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none():
    with pytest.raises(ConfigError, match="use device=cpu or device=auto"):
        configured("device=cuda").torch_device()
