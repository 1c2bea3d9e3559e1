"""Explanatory images: layout, legible labels, and colours where the numbers say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from pinpoint.locinv_core.imaging import visualize
from pinpoint.locinv_core.imaging.visualize import (
    attention_image,
    box_overlay,
    contact_sheet,
    heat_map,
    inferno,
    mask_outline,
)

GREY = torch.full((1, 3, 128, 128), 0.5)


def luma(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), dtype=float)


def colour_near(image: Image.Image, colour: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    return np.abs(np.asarray(image, dtype=int) - colour).max(axis=2) <= tolerance


def test_small_images_are_enlarged_and_large_ones_reduced() -> None:
    for side, cell in ((128, 256), (300, 300), (1400, 512)):
        sheet = contact_sheet([("a", torch.zeros(1, 3, side, side))])
        rows, columns = np.nonzero(np.asarray(sheet).max(axis=2) < 5)
        block = (luma(sheet) < 5).sum(axis=0).max()
        assert block >= cell and np.ptp(columns) + 1 == cell and np.ptp(rows) + 1 >= cell


def test_cells_fill_row_by_row_with_their_labels_above() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    cells = [(f"cell {k}", Image.new("RGB", (256, 256), c)) for k, c in enumerate(colours)]
    sheet = contact_sheet(cells, columns=2)
    centres = [np.argwhere(colour_near(sheet, c, 0)).mean(axis=0) for c in colours]
    assert centres[0][0] == centres[1][0] < centres[2][0]
    assert centres[0][1] == centres[2][1] < centres[1][1]
    top = np.argwhere(colour_near(sheet, colours[0], 0)).min(axis=0)
    assert luma(sheet)[: top[0], top[1] : top[1] + 256].min() < 80


def test_a_long_label_breaks_into_lines_and_none_of_it_is_lost() -> None:
    """Every line of text is ink inside the cell's width; more text makes more ink and a taller sheet."""
    short = contact_sheet([("wolf", GREY)])
    long = contact_sheet([("wolf " * 30, GREY)])
    unbroken = contact_sheet([("w" * 120, GREY)])
    assert long.width == short.width == unbroken.width
    assert long.height > short.height and unbroken.height > short.height
    ink = [(luma(sheet) < 80).sum() for sheet in (short, long)]
    assert ink[1] == pytest.approx(30 * ink[0], rel=0.05)
    assert luma(unbroken)[:, -18:].min() == 255


def test_labels_of_one_row_end_on_one_line_above_their_images() -> None:
    black = torch.zeros(1, 3, 256, 256)
    sheet = contact_sheet([("short", black), ("a label that needs more than one line to be said in full", black)])
    # Letters are narrower than 100 pixels: only images make longer runs of black.
    dark = luma(sheet) == 0
    first, second = dark[:, 20:276].all(axis=1), dark[:, 290:546].all(axis=1)
    assert first.sum() == 256 and np.array_equal(first, second)


def test_accents_and_greek_are_drawn_and_not_replaced_by_boxes() -> None:
    sheets = [contact_sheet([(text, GREY)]) for text in ("é", "β", "я", "→")]
    drawn = {sheet.tobytes() for sheet in sheets}
    assert len(drawn) == 4


def test_images_of_other_shapes_sit_whole_in_the_cell() -> None:
    wide = Image.new("RGB", (400, 100), (255, 0, 0))
    tall = Image.new("RGB", (100, 400), (0, 0, 255))
    sheet = contact_sheet([("wide", wide), ("tall", tall)])
    red, blue = colour_near(sheet, (255, 0, 0), 0), colour_near(sheet, (0, 0, 255), 0)
    assert red.sum() == 400 * 100 and blue.sum() == 100 * 400


def test_a_heat_map_is_brightest_where_the_attention_is() -> None:
    attention = torch.zeros(8, 8)
    attention[1, 6] = 0.02
    image = heat_map(GREY, attention)
    y, x = np.unravel_index(luma(image).argmax(), (256, 256))
    assert 32 <= y < 64 and 192 <= x < 224
    assert luma(image)[48, 208] > 2 * luma(image)[200, 50]


def test_the_colours_are_matplotlibs_inferno_within_one_of_255() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the extra `evaluate` is not installed")
    expected = matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255
    assert np.abs(inferno() - expected).max() <= 1


def test_without_matplotlib_and_fonts_pillows_own_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visualize, "find_spec", lambda name: None)
    monkeypatch.setattr(visualize, "_FONTS", ("no such font.ttf",))
    visualize._font.cache_clear()
    try:
        assert luma(contact_sheet([("wolf", torch.ones(1, 3, 256, 256))])).min() < 80
    finally:
        visualize._font.cache_clear()


def test_a_heat_map_shows_shares_of_its_maximum_whatever_the_scale() -> None:
    attention = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    assert heat_map(GREY, attention).tobytes() == heat_map(GREY, attention / 1024).tobytes()
    heat_map(GREY, torch.zeros(8, 8))


def test_the_attention_image_has_a_cell_for_the_image_and_each_word() -> None:
    one = attention_image(GREY, {"cat": torch.rand(16, 16)})
    two = attention_image(GREY, {"cat": torch.rand(16, 16), "mirror": torch.rand(16, 16)})
    assert two.width - one.width == 256 + 14 and two.height == one.height


def test_before_and_after_stand_one_above_the_other() -> None:
    maps = {"cat": torch.rand(16, 16), "mirror": torch.rand(16, 16)}
    after = attention_image(GREY, maps)
    both = attention_image(GREY, maps, before={"cat": torch.rand(16, 16)})
    assert both.width == after.width and both.height > after.height + 256


def test_the_prior_is_outlined_on_its_words_map() -> None:
    mask = torch.zeros(128, 128)
    mask[32:96, 32:96] = 1
    dark = torch.zeros(1, 3, 128, 128)
    plain = attention_image(dark, {"cat": torch.zeros(16, 16)})
    outlined = attention_image(dark, {"cat": torch.zeros(16, 16)}, masks={"cat": mask})
    white = [(np.asarray(p)[-330:-60, 290:546].min(axis=2) > 250).sum() for p in (plain, outlined)]
    assert white[1] - white[0] > 4 * 100


def test_many_words_wrap_into_balanced_rows() -> None:
    maps = {f"word{k}": torch.rand(4, 4) for k in range(7)}
    sheet = attention_image(GREY, maps, columns=5)
    assert sheet.width == 40 + 4 * 256 + 3 * 14


def test_a_box_is_drawn_at_its_place_in_the_enlarged_image() -> None:
    overlay = box_overlay(GREY, [(32, 64, 96, 112)], ["wolf"])
    assert overlay.size == (256, 256)
    y, x = np.nonzero(colour_near(overlay, (0x00, 0x72, 0xB2), 0))
    assert x.min() == 64 or x.min() == 65
    assert y.max() in (222, 223) and x.max() in (190, 191)
    assert (np.asarray(overlay)[150:200, 100:150] == np.asarray(overlay)[175, 125]).all()


@pytest.mark.parametrize("box", [(0, 0, 10, 10), (118, 118, 128, 128), (0, 0, 128, 128), (60, 60, 61, 61)])
def test_a_label_stays_inside_the_image(box: tuple[int, int, int, int]) -> None:
    """The tag is as wide as its text, so all of it is there when its colour is that wide."""
    overlay = box_overlay(GREY, [box], ["a fairly long label"])
    columns = np.nonzero(colour_near(overlay, (0x00, 0x72, 0xB2), 0).any(axis=0))[0]
    font = ImageFont.load_default(8)
    assert overlay.size == (256, 256) and np.ptp(columns) > font.getlength("a fairly long label")


def test_boxes_without_a_label_or_an_area_are_refused() -> None:
    with pytest.raises(ValueError, match="1 boxes and 0 labels"):
        box_overlay(GREY, [(0, 0, 5, 5)], [])
    with pytest.raises(ValueError, match="no area"):
        box_overlay(GREY, [(5, 0, 5, 5)], ["a"])


def test_a_mask_outline_darkens_outside_and_leaves_inside() -> None:
    mask = torch.zeros(128, 128)
    mask[32:96, 32:96] = 1
    image = np.asarray(mask_outline(GREY, mask, "#FF0000", shade=0.5))
    assert image[128, 128].tolist() == [128, 128, 128] and image[10, 10].tolist() == [64, 64, 64]
    # The mask begins at row 64 once enlarged: a dark rim outside, two rows of colour, then the image.
    assert image[63, 128].max() < 20 and image[66, 128].tolist() == [128, 128, 128]
    assert image[64, 128].tolist() == image[65, 128].tolist() == [255, 0, 0]


def test_a_mask_of_one_pixel_is_still_marked() -> None:
    mask = torch.zeros(128, 128)
    mask[70, 30] = 1
    assert colour_near(mask_outline(GREY, mask, "#FF0000"), (255, 0, 0), 0)[140:142, 60:62].all()


def test_a_mask_over_the_whole_image_still_has_an_outline() -> None:
    image = np.asarray(mask_outline(GREY, torch.ones(128, 128), "#FF0000"))
    assert (image == (255, 0, 0)).all(axis=2).sum() > 4 * 200
    assert image[128, 128].tolist() == [128, 128, 128]


def test_inputs_without_content_are_refused() -> None:
    with pytest.raises(ValueError, match="no cells"):
        contact_sheet([])
    with pytest.raises(ValueError, match="0 columns"):
        contact_sheet([("a", GREY)], columns=0)
    with pytest.raises(ValueError, match="no maps"):
        attention_image(GREY, {})
    with pytest.raises(ValueError, match=r"\(h, w\)"):
        attention_image(GREY, {"cat": torch.zeros(1, 4, 4)})
    with pytest.raises(ValueError, match="mask has shape"):
        mask_outline(GREY, torch.ones(64, 64))
