"""A node, and a method with its node, come from one new file each: those of docs/adding.md too."""

from __future__ import annotations

from pinpoint.tests.comfyui.inside_process import measured


def test_a_node_and_a_method_in_files_of_their_own_are_found(tmp_path):
    found = measured("inside_new_files", "new", tmp_path)
    assert found["words"] == ["cat, dog"]
    assert found["documented"][:2] == ["SDEdit Edit", [1, 64, 64, 3]] and found["documented"][2] > 0.01
    assert found["name"] == "Tint Edit"
    assert found["inputs"] == "model image source target prior mask amount channel repeats seed".split()
    assert found["amount"] == [0.5, 0, 1] and found["tooltip"] == "How much of the colour."
    assert found["options"] == ["red", "green", "blue"]
    assert found["apart"] < 1e-6
    assert found["shapes"] == [[1, 64, 64, 3], [1, 64, 64], [1, 4, 16, 16]]
