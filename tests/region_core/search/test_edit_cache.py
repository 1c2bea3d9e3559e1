"""Edits by box: made once, the source bit for bit outside their box, and safe from a cancel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.search.edit_cache import BoxEdits
from pinpoint.tests.fixtures.tiny_encoders import PaintingEditor

IMAGE = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 0.5
A, B, C = (0, 0, 8, 8), (4, 4, 20, 12), (16, 16, 48, 32)
WHOLE = (0, 0, 48, 32)
RED = torch.tensor([1.0, 0, 0])


def test_an_edit_is_the_editors_inside_its_box_and_the_source_outside() -> None:
    (edit,) = BoxEdits(PaintingEditor(), IMAGE, "red").edited([B])
    expected = IMAGE[0].clone()
    expected[:, 4:12, 4:20] = RED.view(3, 1, 1)
    assert torch.equal(edit, expected)


def test_a_box_is_edited_once_for_each_number_of_steps() -> None:
    editor, tracker = PaintingEditor(), CostTracker()
    edits = BoxEdits(editor, IMAGE, "red", batch=2)
    edits.edited([A, B, A, C, A], tracker=tracker)
    assert len(editor.calls) == 3 and tracker.total == 3 * 2 * 37
    edits.edited([C, A], tracker=tracker)
    assert len(editor.calls) == 3 and tracker.total == 3 * 2 * 37
    edits.edited([C], 4, tracker=tracker)
    assert [steps for _, steps in editor.calls] == [None, None, None, 4]
    assert edits.made() == {None: 3, 4: 1}


def test_a_preview_never_takes_more_steps_than_the_edit_in_full() -> None:
    editor = PaintingEditor(steps=4)
    edits = BoxEdits(editor, IMAGE, "red")
    edits.edited([A], 8)
    edits.edited([A], 4)
    edits.edited([A])
    edits.edited([A], 3)
    assert [steps for _, steps in editor.calls] == [None, 3]
    assert edits.in_full(A)


def test_one_unmasked_edit_stands_in_for_every_box() -> None:
    editor = PaintingEditor()
    edits = BoxEdits(editor, IMAGE, "red")
    seen = edits.standing_in([A, B], 4)
    assert len(editor.calls) == 1 and bool((editor.calls[0][0] == 1).all())
    unmasked = edits.edited([WHOLE], 4)[0]
    for picture, (x0, y0, x1, y1) in zip(seen, (A, B), strict=True):
        inside = torch.zeros(32, 48, dtype=torch.bool)
        inside[y0:y1, x0:x1] = True
        assert torch.equal(picture[:, inside], unmasked[:, inside])
        assert torch.equal(picture[:, ~inside], IMAGE[0][:, ~inside])
    assert len(editor.calls) == 1


def test_the_best_edit_known_is_the_boxs_own_of_most_steps_then_the_stand_in() -> None:
    class Brightening(PaintingEditor):
        def edit(self, image, masks, prompt, seed, *, steps=None, tracker=None):
            return torch.full((len(masks), *image.shape[1:]), (steps or 50) / 100)

    edits = BoxEdits(Brightening(), IMAGE, "red")
    assert edits.best(A) is None
    levels = []
    for box, steps in ((WHOLE, 20), (A, 2), (A, 10), (A, 4), (A, None)):
        edits.edited([box], steps)
        best = edits.best(A)
        assert best is not None and torch.equal(best[:, 8:], IMAGE[0][:, 8:])
        levels.append(round(float(best[0, 0, 0]), 4))
    assert levels == [0.2, 0.02, 0.1, 0.1, 0.5]


def test_a_cancel_loses_one_batch_and_the_next_run_goes_on() -> None:
    editor = PaintingEditor()
    edits = BoxEdits(editor, IMAGE, "red", batch=1)
    seen = 0

    def progress(stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        nonlocal seen
        seen += 1
        if seen == 50:  # the 13th step of the second edit
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edits.edited([A, B, C], tracker=CostTracker(progress))
    assert edits.made() == {None: 1}
    again = edits.edited([A, B, C])
    assert torch.equal(again, BoxEdits(PaintingEditor(), IMAGE, "red").edited([A, B, C]))
    assert len(editor.calls) == 1 + 1 + 2


def test_an_editor_that_returns_something_else_is_refused_by_name() -> None:
    class Cropping(PaintingEditor):
        def edit(self, *args, **options):
            return super().edit(*args, **options)[..., :-1]

    with pytest.raises(ValueError, match=r"editor 'painting': got images \(1, 3, 32, 47\) for 1 masks"):
        BoxEdits(Cropping(), IMAGE, "red").edited([A])


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="batch: got 0"):
        BoxEdits(PaintingEditor(), IMAGE, "red", batch=0)


class Telling(PaintingEditor):
    """Notes what it is told to draw."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def edit(self, image, masks, prompt, seed, *, steps=None, tracker=None):
        self.told.append(prompt)
        return super().edit(image, masks, "red", seed, steps=steps, tracker=tracker)


def test_the_editor_is_told_its_own_prompt_where_there_is_one_and_a_copy_too() -> None:
    editor = Telling()
    BoxEdits(editor, IMAGE, "a red square on grey").edited([A])
    told = BoxEdits(editor, IMAGE, "a red square on grey", edit_prompt="a red square")
    told.edited([A])
    told.copied(editor, "cpu").edited([B])
    assert editor.told == ["a red square on grey", "a red square", "a red square"]
