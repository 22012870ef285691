"""Variants of training pictures: which there are, who decides, and that nothing but training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import load, save_folder
from runs import configured
from torch import Tensor

from nmfdnn import data
from nmfdnn.data import Arrays, AugmentConfig, augmented
from nmfdnn.errors import ConfigError
from nmfdnn.model import load as load_model
from nmfdnn.network import Network, NetworkConfig, build_layers, random_weights
from nmfdnn.records import read_metrics
from nmfdnn.runs.experiment import run
from nmfdnn.runs.results import measure
from nmfdnn.source import Batch, Memory, Order, Source
from nmfdnn.training import JacobiConfig, JacobiTrainer

SHAPES = {"grey": (5, 7), "colours": (3, 6, 4)}
BOTH = AugmentConfig(2, True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(shape: Sequence[int], n: int = 60) -> Memory:
    """No two numbers in them are equal, and none is zero."""
    return Memory(1.0 + torch.arange(n * int(np.prod(shape))).view(n, -1), torch.arange(n) % 3)


def variants(picture: np.ndarray, config: AugmentConfig) -> list[np.ndarray]:
    """All that may become of a picture (… × height × width), pixel by pixel."""
    height, width = picture.shape[-2:]
    found = []
    for mirrored in (False, True)[: 1 + config.flip]:
        seen = picture[..., ::-1] if mirrored else picture
        for down in range(-config.shift, config.shift + 1):
            for right in range(-config.shift, config.shift + 1):
                moved = np.zeros_like(seen)
                for y in range(height):
                    for x in range(width):
                        if 0 <= y + down < height and 0 <= x + right < width:
                            moved[..., y, x] = seen[..., y + down, x + right]
                found.append(moved)
    return found


def epoch(order: Order) -> list[Batch]:
    return [batch for _ in range(order.parts) for batch in order.part()]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("config", [BOTH, AugmentConfig(1), AugmentConfig(flip=True)], ids=str)
def test_every_variant_comes_and_nothing_else(shape, config):
    plain = pictures(shape, 1)
    allowed = {variant.tobytes() for variant in variants(plain.X.view(shape).numpy(), config)}
    source, g, seen = augmented(plain, config, shape), generator(), set()
    for _ in range(500):
        source = source.epoch(g)
        seen.add(source.take(torch.tensor([0])).X.numpy().tobytes())
    assert seen == allowed


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_sample_has_a_draw_and_a_label_of_its_own(shape):
    plain = pictures(shape)
    source = augmented(plain, BOTH, shape).epoch(generator())
    rows = torch.tensor([7, 3, 3, 59, 0])
    batch = source.take(rows)
    assert torch.equal(batch.labels, plain.labels[rows])
    for row, X in zip(rows.tolist(), batch.X, strict=True):
        allowed = variants(plain.X[row].view(shape).numpy(), BOTH)
        assert X.numpy().tobytes() in {variant.tobytes() for variant in allowed}
    assert len(source.drawn.unique()) > 25  # of 50
    torch.testing.assert_close(batch.X[1], batch.X[2], rtol=0, atol=0)


def test_epochs_are_drawn_anew_by_the_generator():
    source = augmented(pictures((5, 7)), BOTH, (5, 7))
    one, again, other = (Order(source, 20, generator(seed)) for seed in (1, 1, 2))
    first, second = epoch(one), epoch(one)
    assert all(torch.equal(a.X, b.X) for a, b in zip(first, epoch(again), strict=True))
    assert not torch.equal(first[0].X, epoch(other)[0].X)

    def by_row(batches: list[Batch]) -> Tensor:
        X = torch.cat([batch.X for batch in batches])
        return X[X.max(dim=1).values.argsort()]  # the largest number tells the sample, or nearly

    assert not torch.equal(by_row(first), by_row(second))


@pytest.mark.parametrize("done", range(1, 6))
def test_an_epoch_goes_on_in_its_middle(done):
    source = augmented(pictures((5, 7)), BOTH, (5, 7))
    whole, cut, after = (Order(source, 10, generator(), 3) for _ in range(3))
    expected = [list(whole.part()) for _ in range(6)]
    for _ in range(done):
        list(cut.part())
    after.load_state(cut.state())
    for one, other in zip(expected[done], after.part(), strict=True):
        assert torch.equal(one.X, other.X)
        assert torch.equal(one.labels, other.labels)


def test_outside_of_epochs_there_is_one_draw():
    """Statistics are made again when a run is continued, and must be the same."""
    source = augmented(pictures((5, 7)), BOTH, (5, 7))
    (seen,) = source.passes()
    assert not torch.equal(seen.X, pictures((5, 7)).X)
    epoch(Order(source, 10, generator()))
    rows = torch.arange(60)
    assert torch.equal(source.take(rows).X, seen.X)
    assert torch.equal(torch.cat([batch.X for batch in source.batches(rows.split(7))]), seen.X)
    assert torch.equal(augmented(pictures((5, 7)), BOTH, (5, 7)).take(rows).X, seen.X)
    assert torch.equal(source.sample(20), pictures((5, 7)).sample(20))


def test_a_part_of_the_samples_has_the_draws_of_its_own_rows():
    plain = pictures((5, 7))
    here = Memory(plain.X[20:45], plain.labels, 20)
    whole, part = (augmented(source, BOTH, (5, 7)).epoch(generator(4)) for source in (plain, here))
    rows = torch.randperm(60, generator=generator())
    for batch, expected in (
        (part.take(rows), whole.take(rows)),
        (next(part.batches([rows])), whole.take(rows)),
        (next(part.passes()), next(whole.passes())),
    ):
        assert batch.mine is not None
        assert len(batch.X) == 25
        assert torch.equal(batch.X, expected.X[batch.mine])


def test_samples_in_files_have_the_draws_of_those_in_memory(tmp_path):
    X = np.random.default_rng(0).integers(1, 255, (300, 6, 5)).astype(np.uint8)
    path = save_folder(tmp_path / "mine", [100, 200], X=X, y=np.arange(300) % 3)
    stream = load(Arrays(path=str(path), memory_gb=1e-5)).train
    memory = Memory(torch.cat([batch.X for batch in stream.passes()]), stream.labels)
    ours, theirs = (augmented(source, BOTH, (6, 5)).epoch(generator()) for source in (stream, memory))
    order = torch.randperm(len(stream), generator=generator()).split(50)
    for one, other in zip(ours.batches(order), theirs.batches(order), strict=True):
        assert torch.equal(one.X, other.X)
        assert torch.equal(one.labels, other.labels)
    assert torch.equal(torch.cat([b.X for b in ours.passes()]), next(theirs.passes()).X)


def test_without_variants_a_source_stays_as_it_is():
    plain = pictures((5, 7))
    assert augmented(plain, AugmentConfig(), (5, 7)) is plain
    assert augmented(plain, AugmentConfig(), None) is plain


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (AugmentConfig(1), None, r"data\.augment needs pictures, but a sample is a row of 35 numbers"),
        (AugmentConfig(flip=True), None, r"data\.augment needs pictures"),
        (
            AugmentConfig(5),
            (5, 7),
            r"data\.augment\.shift must be less than the side of .*, 5, got 5",
        ),
    ],
)
def test_what_cannot_be_is_refused(config, shape, message):
    with pytest.raises(ConfigError, match=message):
        augmented(pictures((5, 7)), config, shape)
    with pytest.raises(ConfigError, match=r"data\.augment\.shift must be ≥ 0, got -1"):
        AugmentConfig(-1)


def test_a_shift_that_the_data_cannot_have_is_refused_by_a_run_and_its_remedy_works(tmp_path):
    config = configured("data=synthetic", "data.augment.shift=1", "epochs=0", "network.start=he")
    with pytest.raises(ConfigError, match=r"leave data\.augment\.shift=0 and data\.augment\.flip=false"):
        run(config, tmp_path)
    run(replace(config, data=replace(config.data, augment=AugmentConfig(0, False))), tmp_path)


NET = "network.convolution=[{channels:4,kernel:3,stride:2}]"


@pytest.mark.parametrize("method", ["nmf", "jacobi", "bp"])
def test_a_run_goes_on_as_if_it_had_not_stopped_and_is_measured_on_the_pictures_themselves(method, tmp_path):
    config = configured(
        *("data=digits", NET, "network.hidden=[]", "network.start=he", f"method={method}", "epochs=2"),
        *("data.augment.shift=1", "data.augment.flip=true", "data.train_samples=400", "records_per_epoch=2"),
        *("jacobi.batch_size=100", "nmf.batch_size=300", "nmf.weight_steps=1"),
    )
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    for folder in (whole, parts):
        folder.mkdir()
    summary = run(config, whole)

    class StoppedError(Exception): ...

    def stop(folder: Path, records: Sequence[object]) -> None:
        if len(records) == 3:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nmfdnn.runs.experiment.write_metrics", stop)
        with pytest.raises(StoppedError):
            run(config, parts)
    run(replace(config, resume=True), parts)
    first, second = (read_metrics(folder) for folder in (whole, parts))
    assert [{**record, "train_seconds": 0} for record in first] == [
        {**record, "train_seconds": 0} for record in second
    ]
    train = data.load(config.data, seed=1, device=torch.device("cpu"), dtype=torch.float32).train
    network = load_model(whole).network
    assert measure(network, train)[0] == summary["train_error"]
    assert measure(network, augmented(train, config.data.augment, (8, 8)))[0] != summary["train_error"]


def test_training_learns_what_it_is_shown():
    """Half of the pictures mirrored: a class that only they have is then known, else not."""
    g = generator()
    X = torch.rand(600, 6, 6, generator=g)
    labels = torch.arange(600) % 2
    X[labels == 1, :, :2] += 0.5  # bright at the left
    plain = Memory(X.flatten(1), labels)
    mirrored = X.flip(2).flatten(1)
    net = NetworkConfig([16], True)
    layers = build_layers(net, 36, (6, 6), 2)
    start = Network(random_weights(layers, True, "he", g, X), True, layers)

    def wrong(source: Source) -> float:
        trainer = JacobiTrainer(start, source, JacobiConfig(50), 5, generator())
        for _ in range(5):
            trainer.epoch()
        return float((trainer.network.predict(mirrored) != labels).double().mean())

    assert wrong(augmented(plain, AugmentConfig(flip=True), (6, 6))) < 0.1 < wrong(plain)
