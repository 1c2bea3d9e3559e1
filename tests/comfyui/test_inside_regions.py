"""The nodes for regions and for finding places, executed in ComfyUI's own process on tiny random models."""

from __future__ import annotations

import pytest

from pinpoint.tests.comfyui.inside_process import measured


def test_the_comfyui_sampler_edits_as_a_ksampler_with_a_noise_mask(tmp_path):
    found = measured("inside_regions", "sampler", tmp_path)
    assert found["apart"] < 1e-5 and found["changed"] > 0.01
    assert found["one by one"] < 1e-6 and found["other seed"] > 0.01
    assert found["odd"] == [[2, 3, 61, 83], True]
    assert found["inference"] is False
    # Two masks, three steps, two branches.
    assert found["passes"] == 12 and found["cost"] == [6, 18]
    assert found["preview"] == [96, 64]
    assert found["wrappers left"] == 0


def test_regions_are_proposed_learned_and_picked(tmp_path):
    found = measured("inside_regions", "regions", tmp_path)
    assert found["proposed"] == [[3, 3, 4], [1, 64, 64], 1.0]
    # An edit in full of each anchor's box (anchors may share one), and none for another choice.
    assert 1 <= found["edits of picking"] <= 3 and found["edits of overruling"] == 0
    assert found["input left alone"] is True
    assert found["outside"] == 0.0 and found["inside is red"] == 0.0
    assert found["box is the mask"] is True
    assert found["best first"] is True and found["second is the second candidate"] is True
    assert {"images", "pinpoint_candidates", "pinpoint_choice"} <= set(found["ui"])
    assert found["learned ui"] == [3, 1]
    assert found["least loss is chosen"] is True
    assert found["edits of overruling by a preview"] == int(found["preview at first"])
    assert found["after a cancel"] == {"stopped after": 8, "same": True}
    assert found["blended"] == [[1, 64, 64, 3], True] and found["cost of blended"] == [6, 12]
    assert found["locinv"] == [[1, 64, 64, 3], True] and found["steps of locinv"] == 2
    # Some anchors are not near the place: each has one of LocInv's four takes in a box that is.
    assert 1 <= found["near"] < 3 == found["in full"]
    assert found["sampled"] == [[1, 64, 64, 3], True]
    assert found["choice above"] == "choice: got 4, requires an anchor from 1 to 3, or 0 for the best"
    assert found["choice below"].startswith("choice: got -1")


def test_places_are_found_by_segment_anything_by_text_and_by_attention(tmp_path):
    pytest.importorskip("segment_anything", reason="the extra `locate` is not installed")
    found = measured("inside_regions", "places", tmp_path)
    assert found["none"][0] == ["none: put a Segment Anything into models/sams"]
    assert "not in models/sams" in found["none"][1]
    assert found["names"] == ["tiny.safetensors", "broken.pth", "published.pth", "new/sam2"]
    assert found["outlined"] == [["cat"], "segment", [1, 64, 64], 1.0]
    assert found["outlined again"] == ["cat"]
    assert found["published"] is True and found["by sam 2"] == "segment"
    assert "cannot be read as weights alone" in found["broken"]
    assert "requires one for at least one word" in found["no place"]
    assert found["by text"] == [["star"], "segment", [1, 64, 64]]
    assert "not in the local Hugging Face cache" in found["no model"]
    for name in ("found alone", "found helped"):
        words, kind, boxes, box = found[name]
        assert words == ["cat", "star"] and kind == "detection"
        first = [float(side) for side in boxes.splitlines()[0].removeprefix("cat=").split(",")]
        assert box == {
            "x": first[0],
            "y": first[1],
            "width": first[2] - first[0],
            "height": first[3] - first[1],
        }
        assert 0 <= first[0] < first[2] <= 64 and 0 <= first[1] < first[3] <= 64
