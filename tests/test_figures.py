"""Pictures: what they show, and that no shape, number of classes, value or name holds one up."""

from __future__ import annotations

import resource
import sys
import warnings

import numpy as np
import pytest
import torch

from nmfdnn.factorization import RankChoice
from nmfdnn.views.figures import (
    CLASSES,
    UNITS,
    confusion_figure,
    is_image,
    mistakes_figure,
    parts_figure,
    pixels,
    rank_figure,
    reconstruction_figure,
    weights_figure,
)

LIMIT = 2500  # pixels at either side

SHAPES = [
    *((28, 1), (60, 1), (1000, 1), (100_000, 1), (1, 1000), (1, 100_000), (2, 50), (1, 1), (300, 200)),
    *((3, 32, 32), (3, 1, 1), (3, 1, 5000), (3, 5000, 1), (1, 28, 28)),
]


def four_figures(rows: torch.Tensor, shape: tuple[int, ...]):
    """A figure of each kind that shows tiles."""
    yield parts_figure(rows.abs(), shape)
    yield weights_figure(rows, shape)
    yield reconstruction_figure(rows[:12], rows[:12] / 2, shape)
    yield mistakes_figure(rows[:40], [("cat", "dog")] * len(rows[:40]), shape, "mistakes")


def arrays(figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_picture_is_bounded_for_every_shape(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(66 if shape[-2] * shape[-1] < 5000 else 9, int(np.prod(shape)), generator=generator)
    for figure in four_figures(rows, shape):
        drawn = pixels(figure)
        assert 40 < drawn.shape[0] < LIMIT
        assert 400 < drawn.shape[1] < LIMIT
        assert np.ptp(drawn) > 100


@pytest.mark.parametrize("rows", [1, 2, 9, 65])
def test_a_picture_has_a_tile_for_each_unit_or_sample(rows: int) -> None:
    X = torch.rand(rows, 16) + 0.1
    shown = [len(figure.axes[0].images) for figure in four_figures(X, (4, 4))]
    assert shown == [min(rows, UNITS), min(rows, UNITS), 2 * min(rows, 12), min(rows, 40)]


def test_no_mistake_is_a_picture_too() -> None:
    assert pixels(mistakes_figure(torch.empty(0, 16), [], (4, 4), "nothing is wrong")).shape[0] < LIMIT


def test_large_images_are_shrunk_one_by_one() -> None:
    side, units = 3000, 20
    weights = torch.linspace(-1, 1, side * side).expand(units, -1)  # in memory once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figure = weights_figure(weights, (side, side))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 4 * side * side * units
    assert {tile.shape for tile in arrays(figure)} == {(110, 110)}
    np.testing.assert_allclose(
        arrays(figure)[0].mean(axis=1), np.linspace(-1, 1, 111)[:-1] + 1 / 110, atol=1e-3
    )


# A power of two changes no bit of the tiles.
@pytest.mark.parametrize("exponent", [-1070, -1020, -100, 100, 1020])
@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4)])
def test_a_picture_does_not_depend_on_the_unit_of_its_values(exponent: int, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-7, 8, (20, int(np.prod(shape))), generator=generator).double()
    for plain, scaled in zip(
        four_figures(rows, shape), four_figures(rows * 2.0**exponent, shape), strict=True
    ):
        assert plain.axes[0].get_title() == scaled.axes[0].get_title()
        for one, other in zip(plain.axes[0].images, scaled.axes[0].images, strict=True):
            np.testing.assert_array_equal(one.get_array(), other.get_array())
            assert one.get_clim() == other.get_clim()


def test_float32_near_its_ends_is_drawn_like_any_other() -> None:
    rows = torch.rand(5, 16) - 0.5
    for factor in (1e-30, 1e38):
        plain, scaled = weights_figure(rows, (4, 4)), weights_figure(rows * factor, (4, 4))
        for one, other in zip(arrays(plain), arrays(scaled), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    *_, last = weights_figure(torch.full((1, 4), 3e38), (2, 2)).axes[1].get_yticklabels()
    assert float(last.get_text()) == 3e38


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_samples_are_drawn_on_their_own_range(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    X = torch.rand(11, int(np.prod(shape)), generator=generator, dtype=torch.float64)
    names = [("a", "b")] * 11
    seen = []
    plain, moved = (mistakes_figure(A, names, shape, "mistakes") for A in (X, 50 * X - 1000))
    for one, other in zip(plain.axes[0].images, moved.axes[0].images, strict=True):
        brightness = [
            np.asarray(image.norm(image.get_array()) if len(shape) == 2 else image.get_array())
            for image in (one, other)
        ]
        np.testing.assert_allclose(*brightness, atol=1e-9)
        seen.append(brightness[1])
    assert np.min(seen) < 0.01
    assert np.max(seen) > 0.99


def test_reconstructions_are_on_the_scale_of_the_samples() -> None:
    X = torch.tensor([[-2.0, 0, 1, 2], [2, 2, 0, -2]])
    figure = reconstruction_figure(X, 3 * X, (2, 2))
    low, high = figure.axes[0].images[0].get_clim()
    assert low == pytest.approx(-high)
    assert [image.get_clim() for image in figure.axes[0].images] == [(low, high)] * 4
    np.testing.assert_allclose(arrays(figure)[2], 3 * arrays(figure)[0])
    assert "relative error 2.000" in figure.axes[0].get_title()


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0, float("nan"), float("inf")])
@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 2)])
def test_constants_and_what_is_no_number_do_not_stop_a_picture(value: float, shape: tuple[int, ...]) -> None:
    rows = torch.full((3, int(np.prod(shape))), value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for figure in four_figures(rows, shape):
            assert pixels(figure).size


def test_the_confusion_matrix_has_true_classes_in_rows() -> None:
    labels, predicted = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 1, 1, 1, 0])
    figure = confusion_figure(labels, predicted, ("a", "b", "c"))
    axes, _ = figure.axes
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3, 0], [0, 1, 0], [1, 0, 0]])
    counts = {tuple(reversed(text.get_position())): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "1", (0, 1): "2", (1, 1): "1", (2, 0): "1"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_ylabel() == "true class"
    assert "60.00 % of 5 test samples" in figure.get_suptitle()


def test_of_many_classes_those_with_the_most_mistakes_are_shown() -> None:
    n = 150
    labels = torch.arange(n).repeat_interleave(4)
    predicted = labels.clone()
    predicted[4 * 7] = 149  # the first of class 7
    predicted[4 * 130 : 4 * 130 + 2] = 140  # half of class 130
    figure = confusion_figure(labels, predicted, [f"c{i}" for i in range(n)])
    axes, _ = figure.axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) == CLASSES
    assert [int(name[1:]) for name in shown] == [*range(CLASSES - 3), 130, 140, 149]
    shares = np.asarray(axes.images[0].get_array())
    assert shares[7, 7] == 0.75
    assert shares[7, shown.index("c149")] == 0.25
    assert shares[shown.index("c130"), shown.index("c140")] == 0.5
    assert shares.sum() == CLASSES
    assert f"{CLASSES} of 150 classes" in figure.get_suptitle()
    assert "0.50 % of 600 test samples" in figure.get_suptitle()


@pytest.mark.parametrize("k", [2, 20, 21, CLASSES, CLASSES + 1, 1000, 200_000])
def test_the_confusion_matrix_is_bounded_for_every_number_of_classes(k: int) -> None:
    labels = torch.arange(3000) % k
    figure = confusion_figure(labels, (labels * 7) % k, list(map(str, range(k))))
    assert figure.axes[0].images[0].get_array().shape == (min(k, CLASSES),) * 2
    width, height = figure.get_size_inches() * figure.dpi
    assert width < LIMIT
    assert height < LIMIT


def test_any_class_name_can_be_drawn() -> None:
    classes = ("two\nlines", r"$\frac{$", "日本語 שלום", "_hidden", "\ud800\x00", "x" * 300 + "y", "")
    labels = torch.arange(7)
    figure = confusion_figure(labels, labels.flip(0), classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert max(pixels(figure).shape) < LIMIT
    names = [label.get_text().strip() for label in figure.axes[0].get_yticklabels()]
    assert names == [
        "two lines",
        r"\$\frac{\$",
        "日本語 שלום",
        "_hidden",
        r"\ud800\x00",
        "x" * 10 + "…" + "x" * 8 + "y",
        "",
    ]
    pairs = [(true, predicted) for true in classes for predicted in classes[:2]]
    assert max(pixels(mistakes_figure(torch.rand(14, 4), pairs, (2, 2), "mistakes")).shape) < LIMIT


def test_weights_show_the_strongest_units_symmetrically_about_zero() -> None:
    rows = torch.rand(70, 16) - 0.4
    rows *= torch.linspace(1, 2, 70)[:, None] / rows.norm(dim=1, keepdim=True)
    rows[69] *= 1e-3
    axes = weights_figure(rows, (4, 4)).axes[0]
    assert [text.get_text() for text in axes.texts] == [str(68 - i) for i in range(UNITS)]
    low, high = axes.images[0].get_clim()
    assert low == -high < 0
    np.testing.assert_allclose(
        axes.images[1].get_array(), rows[67].reshape(4, 4) / rows.abs().max(), rtol=1e-6
    )


def test_units_that_are_equally_strong_are_in_their_order() -> None:
    axes = weights_figure(torch.ones(70, 16), (4, 4)).axes[0]
    assert [text.get_text() for text in axes.texts] == [str(i) for i in range(UNITS)]


def test_the_colour_bar_is_in_the_unit_of_the_weights() -> None:
    rows = torch.linspace(-40, 20, 400).reshape(4, 100)
    figure = weights_figure(rows, (10, 10))
    limit = np.quantile(rows.abs(), 0.99)
    labels = [float(label.get_text()) for label in figure.axes[1].get_yticklabels()]
    np.testing.assert_allclose(labels, limit * np.linspace(-1, 1, 5), rtol=5e-3)


def test_colour_weights_lie_around_a_medium_grey() -> None:
    rows = torch.zeros(2, 12)
    rows[0, 0], rows[0, 11] = -2.0, 1.0  # red of the first pixel, blue of the last
    tile = weights_figure(rows, (3, 2, 2)).axes[0].images[0].get_array()
    assert tile[0, 0].tolist() == [0, 0.5, 0.5]
    assert tile[1, 1].tolist() == [0.5, 0.5, 0.75]


def test_zeros_of_a_part_are_white_and_its_faint_pixels_are_seen() -> None:
    alive, dead = parts_figure(torch.tensor([[0.0, 0, 0, 0], [0, 4, 0, 1]]), (2, 2)).axes[0].images
    assert alive.get_array().tolist() == [[0, 1], [0, 0.5]]  # square roots
    assert not dead.get_array().any()
    colours = alive.to_rgba(alive.get_array())[..., :3]
    assert colours[0, 0].min() > 0.95
    assert colours[1, 1].min() < 0.8
    assert colours[0, 1].max() < 0.6


def test_parts_of_both_signs_are_drawn_around_zero() -> None:
    (image,) = parts_figure(torch.tensor([[0.0, -4, 0, 1]]), (2, 2)).axes[0].images
    assert image.get_array().tolist() == [[0, -1], [0, 0.5]]
    assert image.get_clim() == (-1, 1)


@pytest.mark.parametrize(
    ("shape", "drawable"),
    [
        ((8, 8), True),
        ((1, 8, 8), True),
        ((3, 4, 4), True),
        (None, False),
        ((8, 8, 3), False),
        ((2, 3, 4, 5), False),
    ],
)
def test_which_shapes_can_be_drawn(shape: tuple[int, ...] | None, drawable: bool) -> None:
    assert is_image(shape) is drawable


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("ranks", [(3,), (1, 2, 3, 5), tuple(range(1, 200))], ids=len)
def test_the_choice_of_a_rank_shows_every_fold_its_mean_and_the_rank(
    ranks: tuple[int, ...], zero: bool
) -> None:
    errors = torch.rand(len(ranks), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e-9
    errors[0, 0] *= not zero
    figure = rank_figure(RankChoice(ranks, errors, ranks[-1]))
    (axes,) = figure.axes
    *folds, mean, chosen, _ = axes.lines
    assert [tuple(line.get_xdata()) for line in folds] == [ranks] * 3
    np.testing.assert_array_equal([line.get_ydata() for line in folds], errors.T)
    np.testing.assert_allclose(mean.get_ydata(), errors.mean(1))
    assert set(chosen.get_xdata()) == {ranks[-1]}
    assert axes.get_yscale() == ("linear" if zero else "log")
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert str(ranks[-1]) in axes.get_title()
    assert max(pixels(figure).shape) < LIMIT
