"""The regions' stages of `train-embedded` and parts of `evaluate-embedded` run, resume, and refuse."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AmusedPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from pinpoint.research.commands import evaluate_embedded
from pinpoint.research.embedded_world.evaluation import anchor_hits, edit_with_amused, picks
from pinpoint.research.embedded_world.judge import Judge
from pinpoint.research.embedded_world.scenes.edits import sample_edit
from pinpoint.research.embedded_world.scenes.render import render
from pinpoint.research.embedded_world.scenes.spec import sample_scene
from pinpoint.research.embedded_world.training.recipe import Recipe
from pinpoint.research.embedded_world.training.state import Average, TrainingState
from pinpoint.research.embedded_world.training.training import Training, train
from pinpoint.research.embedded_world.training.workers import average_gradients, gathered, rank, run_workers, share


def evaluate(*words: str) -> None:
    parser = argparse.ArgumentParser()
    evaluate_embedded.add_parser(parser.add_subparsers())
    args = parser.parse_args(["evaluate-embedded", *words])
    assert args.run(args) == 0


def test_a_smoke_run_writes_a_folder_that_diffusers_draws_with(smoke: Path) -> None:
    pipeline = AmusedPipeline.from_pretrained(smoke / "out" / "amused", local_files_only=True).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red cat", num_inference_steps=2, guidance_scale=2.0, output_type="pt").images
    assert image.shape == (1, 3, 128, 128)
    assert bool(image.isfinite().all())


def test_a_finished_stage_is_not_trained_again_and_more_steps_go_on(go_on: Callable[..., str], tmp_path: Path) -> None:
    clip = tmp_path / "out" / "clip"
    before = CLIPModel.from_pretrained(clip, local_files_only=True).state_dict()
    assert "clip: step" not in go_on("--stages", "clip")
    printed = go_on("--stages", "clip", "--steps-clip", "4")
    assert "clip: going on from step 3" in printed and "clip: step 4/4" in printed
    after = CLIPModel.from_pretrained(clip, local_files_only=True).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_transformer_goes_on_with_the_codes_it_was_begun_with_and_begins_anew_with_others(
    go_on: Callable[..., str],
) -> None:
    printed = go_on("--stages", "amused", "--steps-transformer", "4")
    assert "transformer: going on from step 3" in printed and "transformer: step 4/4" in printed
    printed = go_on("--stages", "amused", "--steps-vq", "4")
    assert "vq: step 4/4" in printed
    assert "transformer: going on" not in printed and "transformer: step 3/3" in printed


def test_what_was_trained_before_is_written_into_another_folder_too(
    go_on: Callable[..., str], smoke: Path, tmp_path: Path
) -> None:
    printed = go_on("--stages", "tokenizer,clip,vit,amused", "--out", str(tmp_path / "other"))
    assert ": step" not in printed
    names = ("clip/model.safetensors", "vit/model.safetensors", "amused/model_index.json")
    for name in (*names, "amused/transformer/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "other" / name).read_bytes() == (smoke / "out" / name).read_bytes()


def test_a_dual_encoder_is_trained_further_from_a_folder(smoke: Path, tmp_path: Path) -> None:
    """At a rate too small to move it, what comes out is what it was begun with, not random weights."""
    still = Recipe().smoke().changed({"clip": {"rate": 1e-9, "rate_of_ends": 1e-9}})
    job = Training(still, tmp_path / "work", print, out=tmp_path / "out", start=smoke / "out")
    shutil.copytree(smoke / "out" / "tokenizer", tmp_path / "out" / "tokenizer")
    train(job, ("clip",))
    begun, done = (load_file(folder / "clip" / "model.safetensors") for folder in (smoke / "out", tmp_path / "out"))
    for name, value in begun.items():
        torch.testing.assert_close(done[name], value, rtol=0, atol=1e-3)


def test_aMUSEds_edits_are_in_the_objects_box_and_measured_by_the_edited_scene(smoke: Path) -> None:
    seeds = [10_000_000, 10_000_003]
    edited, wanted = edit_with_amused(smoke / "out" / "amused", seeds)
    assert edited.shape == (2, 3, 128, 128)
    for image, after, seed in zip(edited, wanted, seeds, strict=True):
        spec = sample_scene(seed)
        edit, expected = sample_edit(spec, 0)
        assert after == expected != spec
        x0, y0, x1, y1 = spec.objects[edit.index].box
        changed = (image - torch.from_numpy(render(spec)[0]).permute(2, 0, 1) / 255).abs().amax(dim=0) > 1e-6
        assert bool(changed[y0:y1, x0:x1].any())
        changed[y0:y1, x0:x1] = False
        assert not bool(changed.any())


def test_no_more_scenes_are_taken_apart_than_there_are(tmp_path: Path) -> None:
    recipe = replace(Recipe().smoke(), scenes=6)
    assert recipe.vit.scenes > 6
    train(Training(recipe, tmp_path, print, out=tmp_path / "out"), ("vit",))
    assert json.loads((tmp_path / "scenes" / "grounds.json").read_text())["scenes"]["count"] == 6


def test_what_cannot_be_measured_is_named(tmp_path: Path) -> None:
    (tmp_path / "amused" / "vqvae").mkdir(parents=True)  # aMUSEd's training is not done
    out = ["--out", str(tmp_path / "found")]
    for words, message in (
        (["--parts", "amused", "--regions", str(tmp_path)], r"requires .*amused/model_index\.json; train it first"),
        (["--parts", "amused", "--guidance", "nan"], "--guidance: got nan, requires 1 or more"),
        (["--parts", "clip", "--count", "8"], "--count: got 8, requires 32 or more for the part clip"),
        (["--parts", "vit", "--regions", str(tmp_path)], r"--regions: requires .*vit; train it first"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(*words, *out)
    assert not (tmp_path / "found").exists()


def test_the_models_are_measured_by_the_command(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge()
    state = TrainingState(judge, [torch.optim.AdamW(judge.parameters())], Average(judge, 0.0), tmp_path / "judge")
    state.path = tmp_path / "judge.safetensors"
    state.step = 1
    state.save()  # a judge that is "trained" already, so that none has to be
    words = ["--parts", "clip,vit,amused", "--count", "32", "--amused-steps", "2"]
    words += ["--regions", str(smoke / "out"), "--work", str(tmp_path), "--judge-steps", "1"]
    evaluate(*words, "--out", str(tmp_path / "found"))
    printed = capsys.readouterr().out
    assert "CLIP picks the scene's caption, among 32" in printed
    figures = json.loads((tmp_path / "found" / "evaluation.json").read_text())
    assert 0 <= figures["clip"]["caption"] <= 1
    assert 0 < figures["vit"]["random"]["area"] < 0.5
    assert figures["amused"]["psnr"]["mean"] > 0
    assert 0 <= figures["amused"]["edits"]["all"] <= figures["amused"]["edits"]["nouns"] <= 1
    for name in (
        "attention_anchors.png",
        "amused_drawn.png",
        "amused_edits.png",
        "amused_reconstructions.png",
    ):
        assert (tmp_path / "found" / name).is_file()


def test_picks_are_counted_in_groups_and_both_ways() -> None:
    images = torch.eye(4)
    texts = torch.tensor(
        [[1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 0, 1.0], [0, 0, 1.0, 0]]
    )  # the second pair's texts are exchanged
    # Scenes: 0 takes text 0 (1 > 0.8), 1 takes text 1, 2 and 3 each other's. Texts: 1 takes scene 0.
    assert picks(images, texts, 2) == (0.5, 0.25)
    with pytest.raises(ValueError, match="count: got 4, requires a multiple of 3"):
        picks(images, texts, 3)


def test_an_anchor_hits_when_objects_cover_half_of_its_patch() -> None:
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, 0:8, 0:4] = True  # half of the patch of row 0, column 0
    masks[1, 8:16, 8:16] = True  # all of the patch of row 1, column 1
    first = torch.tensor([[0, 0], [0, 1], [1, 0]])
    second = torch.tensor([[1, 1], [1, 1], [1, 0]])
    hits = anchor_hits([first, second, first], [masks, masks, masks[1:]], 8)
    assert hits.any == pytest.approx(2 / 3)
    assert hits.most == pytest.approx(1 / 3)
    assert hits.share == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert hits.things == pytest.approx(2 / 5)
    assert hits.area == pytest.approx((2 / 4 + 2 / 4 + 1 / 4) / 3)


def test_the_averaged_module_is_a_frozen_copy() -> None:
    module = torch.nn.Linear(2, 1, bias=False)
    average = Average(module, 0.5)
    average.tensors["weight"].fill_(7.0)
    state = TrainingState(module, [torch.optim.AdamW(module.parameters())], average, Path("none"))
    copy = state.averaged().get_parameter("weight")
    assert copy.tolist() == [[7.0, 7.0]]
    assert not copy.requires_grad
    assert module.weight.requires_grad and module.weight.max() < 7


def test_alone_a_worker_has_all_rows() -> None:
    rows = torch.randn(4, 2, requires_grad=True)
    assert gathered(rows) is rows


def _gather_in_worker(folder: Path) -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 2))
    scale = torch.nn.Parameter(torch.tensor(0.7))
    everything = torch.randn(4, 3)
    rows = gathered(share(everything) @ weight)
    loss = (scale * (rows @ rows.T)).logsumexp(1).sum()
    loss.backward()
    average_gradients([weight, scale])
    assert weight.grad is not None and scale.grad is not None
    values = {"rows": rows.detach(), "weight": weight.grad, "scale": scale.grad}
    save_file(values, folder / f"{rank()}.safetensors")


@pytest.mark.slow
def test_two_workers_gather_rows_in_order_and_share_the_gradient_of_the_whole_loss(tmp_path: Path) -> None:
    run_workers(2, _gather_in_worker, tmp_path)
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 2))
    scale = torch.nn.Parameter(torch.tensor(0.7))
    rows = torch.randn(4, 3) @ weight
    (scale * (rows @ rows.T)).logsumexp(1).sum().backward()
    expected = {"rows": rows.detach(), "weight": weight.grad, "scale": scale.grad}
    for number in (0, 1):
        torch.testing.assert_close(load_file(tmp_path / f"{number}.safetensors"), expected)
