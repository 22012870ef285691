import numpy as np
import pytest
import torch

from nmfdnn.figures import confusion_figure, is_image, parts_figure, weights_figure


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
    assert "60.00 % wrong" in figure.get_suptitle()


def test_weights_show_the_64_strongest_units_symmetrically_about_zero() -> None:
    rows = torch.rand(70, 16) - 0.4
    rows[torch.tensor([0, 7, 20, 33, 48, 69])] *= 1e-3
    axes = weights_figure(rows, (4, 4)).axes[0]
    shown = [text.get_text() for text in axes.texts]
    assert shown == [str(i) for i in range(70) if i not in {0, 7, 20, 33, 48, 69}]
    assert len(axes.images) == 64
    low, high = axes.images[0].get_clim()
    assert low == -high < 0
    np.testing.assert_allclose(
        axes.images[0].get_array(), rows[1].reshape(4, 4) / rows.abs().max(), rtol=1e-6
    )


def test_colour_weights_lie_around_a_medium_grey() -> None:
    rows = torch.zeros(2, 12)
    rows[0, 0], rows[0, 11] = -2.0, 1.0  # red of the first pixel, blue of the last
    tile = weights_figure(rows, (3, 2, 2)).axes[0].images[0].get_array()
    assert tile[0, 0].tolist() == [0, 0.5, 0.5]
    assert tile[1, 1].tolist() == [0.5, 0.5, 0.75]


def test_a_dead_part_is_drawn_black() -> None:
    U = torch.tensor([[0.0, 0, 0, 0], [0, 4, 0, 2]])
    dead, alive = (image.get_array() for image in parts_figure(U, (2, 2)).axes[0].images)
    assert not dead.any()
    assert alive.tolist() == [[0, 1], [0, 0.5]]


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
