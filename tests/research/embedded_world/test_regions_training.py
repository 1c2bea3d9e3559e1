"""The regions' stages of `train-embedded` and parts of `evaluate-embedded` run, resume, and refuse."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AmusedPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from pinpoint.locinv_core.backbones.loading import EMBEDDED_FOLDER
from pinpoint.research.commands import evaluate_embedded, train_embedded
from pinpoint.research.embedded_world.checks.judge import Judge
from pinpoint.research.embedded_world.checks.regions_evaluation import anchor_hits, edit_with_amused, picks
from pinpoint.research.embedded_world.scenes.edits import sample_edit
from pinpoint.research.embedded_world.scenes.spec import render, sample_scene
from pinpoint.research.embedded_world.training.fitting import averaged, gathered
from pinpoint.research.embedded_world.training.regions_recipe import RegionsRecipe
from pinpoint.research.embedded_world.training.regions_training import train_regions
from pinpoint.research.embedded_world.training.state import Average, TrainingState


def command(module: object, *words: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())  # type: ignore[attr-defined]
    args = parser.parse_args(list(words))
    return int(args.run(args))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regions")
    words = ["train-embedded", "--smoke", "--processes", "1", "--stages", "clip,vit,amused"]
    assert command(train_embedded, *words, "--out", str(folder / "out"), "--work", str(folder)) == 0
    return folder


def test_a_smoke_run_writes_a_folder_that_diffusers_draws_with(trained: Path) -> None:
    folder = trained / "out" / "amused"
    assert not list(trained.rglob("*.bin")) + list(trained.rglob("*.pt"))
    pipeline = AmusedPipeline.from_pretrained(folder, local_files_only=True).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red cat", num_inference_steps=2, guidance_scale=2.0, output_type="pt").images
    assert image.shape == (1, 3, 128, 128)
    assert bool(image.isfinite().all())


def test_a_finished_stage_is_not_trained_again_and_more_steps_go_on(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train-embedded", "--smoke", "--processes", "1", "--out", str(trained / "out")]
    words += ["--work", str(trained), "--stages", "clip"]
    before = CLIPModel.from_pretrained(trained / "out" / "clip", local_files_only=True).state_dict()
    assert command(train_embedded, *words) == 0
    assert "clip: step" not in capsys.readouterr().out
    assert command(train_embedded, *words, "--steps-clip", "4") == 0
    printed = capsys.readouterr().out
    assert "going on from step 3" in printed
    assert "clip: step 4/4" in printed
    after = CLIPModel.from_pretrained(trained / "out" / "clip", local_files_only=True).state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_transformer_goes_on_with_the_codes_it_was_begun_with_and_begins_anew_with_others(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    shutil.copytree(trained, work)
    words = ["train-embedded", "--smoke", "--processes", "1", "--stages", "amused"]
    words += ["--out", str(work / "out"), "--work", str(work)]
    assert command(train_embedded, *words, "--steps-transformer", "4") == 0
    printed = capsys.readouterr().out
    assert "transformer: going on from step 3" in printed and "transformer: step 4/4" in printed
    assert command(train_embedded, *words, "--steps-vq", "4") == 0
    printed = capsys.readouterr().out
    assert "vq: step 4/4" in printed
    assert "transformer: going on" not in printed and "transformer: step 3/3" in printed


def test_what_was_trained_before_is_written_into_another_folder_too(trained: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(trained, work, ignore=shutil.ignore_patterns("out"))
    words = ["train-embedded", "--smoke", "--processes", "1", "--stages", "clip,vit,amused"]
    words += ["--work", str(work)]
    for folder in ("first", "second"):
        assert command(train_embedded, *words, "--out", str(tmp_path / folder)) == 0
    first, second = (
        {str(file.relative_to(tmp_path / name)): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
        for name in ("first", "second")
    )
    assert first == second
    assert {"clip/model.safetensors", "vit/model.safetensors", "amused/model_index.json"} <= set(first)
    own = trained / "out" / "amused" / "transformer" / "diffusion_pytorch_model.safetensors"
    assert first["amused/transformer/diffusion_pytorch_model.safetensors"] == own.read_bytes()


def test_a_dual_encoder_is_trained_further_from_a_folder(trained: Path, tmp_path: Path) -> None:
    """At a rate too small to move it, what comes out is what it was begun with, not random weights."""
    recipe = RegionsRecipe().smoke()
    still = replace(recipe, clip=replace(recipe.clip, rate=1e-9, rate_of_ends=1e-9))
    train_regions(
        still,
        tmp_path / "out",
        tmp_path / "work",
        tokenizer=EMBEDDED_FOLDER / "tokenizer",
        stages=("clip",),
        report=lambda line: None,
        start=trained / "out",
    )
    begun, done = (load_file(folder / "clip" / "model.safetensors") for folder in (trained / "out", tmp_path / "out"))
    for name, value in begun.items():
        torch.testing.assert_close(done[name], value, rtol=0, atol=1e-3)


def test_aMUSEds_edits_are_in_the_objects_box_and_measured_by_the_edited_scene(trained: Path) -> None:
    seeds = [10_000_000, 10_000_003]
    edited, wanted = edit_with_amused(trained / "out" / "amused", seeds)
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
    assert RegionsRecipe().smoke().vit.scenes > 6
    words = ["train-embedded", "--smoke", "--processes", "1", "--stages", "vit", "--scenes", "6"]
    assert command(train_embedded, *words, "--out", str(tmp_path / "out"), "--work", str(tmp_path)) == 0
    assert json.loads((tmp_path / "regions" / "grounds.json").read_text())["count"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stages", "clip,amused", "--processes", "3"], "processes: got 3, and amused has 16 scenes of a"),
        (["--smoke", "--stages", "clip", "--processes", "4"], "processes: got 4, and clip has 2 poor crops"),
        (["--stages", "amused", "--scenes", "101"], "amused has 101 scenes; needs a divisor of 101"),
        (["--stages", "clip,amused", "--steps-vq", "300"], "vq: got 300 steps, needs more than the 300"),
    ],
)
def test_what_a_stage_would_stumble_over_is_said_before_any(words: list[str], message: str, tmp_path: Path) -> None:
    folders = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    with pytest.raises(ValueError, match=message):
        command(train_embedded, "train-embedded", *words, *folders)
    assert not list(tmp_path.iterdir())


def test_a_model_whose_training_is_not_done_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "amused" / "vqvae").mkdir(parents=True)
    words = ["evaluate-embedded", "--parts", "amused", "--out", str(tmp_path / "found")]
    with pytest.raises(ValueError, match=r"requires .*amused/model_index\.json; train it first"):
        command(evaluate_embedded, *words, "--regions", str(tmp_path))
    with pytest.raises(ValueError, match="--guidance: got nan, requires 1 or more"):
        command(evaluate_embedded, *words, "--guidance", "nan")
    assert not (tmp_path / "found").exists()


def test_the_models_are_measured_by_the_command(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge()
    state = TrainingState(judge, [torch.optim.AdamW(judge.parameters())], Average(judge, 0.0), tmp_path / "judge")
    state.path = tmp_path / "judge.safetensors"
    state.step = 1
    state.save()  # a judge that is "trained" already, so that none has to be
    words = ["evaluate-embedded", "--parts", "clip,vit,amused", "--count", "32", "--amused-steps", "2"]
    words += ["--regions", str(trained / "out"), "--work", str(tmp_path), "--judge-steps", "1"]
    assert command(evaluate_embedded, *words, "--out", str(tmp_path / "found")) == 0
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


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    recipe = RegionsRecipe().smoke()
    out, work = tmp_path / "out", tmp_path / "work"
    with pytest.raises(ValueError, match=r"amused needs .*clip; train the stage clip first"):
        train_regions(recipe, out, work, tokenizer=EMBEDDED_FOLDER / "tokenizer", stages=("amused",), report=print)
    with pytest.raises(ValueError, match=r"needs .*vocab\.json; train the stage tokenizer first"):
        train_regions(recipe, out, work, tokenizer=tmp_path, stages=("clip",), report=print)
    with pytest.raises(ValueError, match="stages: got gan, needs some of clip, vit, amused"):
        train_regions(recipe, out, work, tokenizer=tmp_path, stages=("gan",), report=print)
    with pytest.raises(ValueError, match="--count: got 8, requires 32 or more for the part clip"):
        command(evaluate_embedded, "evaluate-embedded", "--parts", "clip", "--count", "8")
    with pytest.raises(ValueError, match=r"--regions: requires .*vit; train it first"):
        command(evaluate_embedded, "evaluate-embedded", "--parts", "vit", "--regions", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_picks_are_counted_in_groups_and_both_ways() -> None:
    images = torch.eye(4)
    texts = torch.tensor(
        [[1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 0, 1.0], [0, 0, 1.0, 0]]
    )  # the second pair's texts are exchanged
    # Scenes: 0 takes text 0 (1 > 0.8), 1 takes text 1, 2 and 3 each other's. Texts: 1 takes scene 0.
    assert picks(images, texts, 2) == (0.5, 0.25)
    with pytest.raises(ValueError, match="count: got 4, needs a multiple of 3"):
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
    copy = averaged(state).get_parameter("weight")
    assert copy.tolist() == [[7.0, 7.0]]
    assert not copy.requires_grad
    assert module.weight.requires_grad and module.weight.max() < 7


def test_alone_a_worker_has_all_rows() -> None:
    rows = torch.randn(4, 2, requires_grad=True)
    assert gathered(rows) is rows


def _gather_in_worker(folder: Path) -> None:
    from pinpoint.research.embedded_world.training.workers import average_gradients, rank, share

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
    from pinpoint.research.embedded_world.training.workers import run_workers

    run_workers(2, _gather_in_worker, tmp_path)
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 2))
    scale = torch.nn.Parameter(torch.tensor(0.7))
    rows = torch.randn(4, 3) @ weight
    (scale * (rows @ rows.T)).logsumexp(1).sum().backward()
    expected = {"rows": rows.detach(), "weight": weight.grad, "scale": scale.grad}
    for number in (0, 1):
        torch.testing.assert_close(load_file(tmp_path / f"{number}.safetensors"), expected)
