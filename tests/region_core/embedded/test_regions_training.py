"""The regions' stages of `train-embedded` and parts of `evaluate-embedded` run, resume, and refuse."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from diffusers import AmusedPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from pinpoint.cli import evaluate_embedded, train_embedded
from pinpoint.locinv_core.embedded.fitting import averaged, gathered
from pinpoint.locinv_core.embedded.judge import Judge
from pinpoint.locinv_core.embedded.training_state import Average, TrainingState
from pinpoint.locinv_core.loading import EMBEDDED_FOLDER
from pinpoint.region_core.embedded.evaluation import anchor_hits, picks
from pinpoint.region_core.embedded.recipe import RegionsRecipe
from pinpoint.region_core.embedded.training import train_regions


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
    picture = pipeline("a red cat", num_inference_steps=2, guidance_scale=2.0, output_type="pt").images
    assert picture.shape == (1, 3, 128, 128)
    assert bool(picture.isfinite().all())


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


def test_the_models_are_measured_by_the_command(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = Judge()
    state = TrainingState(
        judge, [torch.optim.AdamW(judge.parameters())], Average(judge, 0.0), tmp_path / "judge"
    )
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
    for name in ("attention_anchors.png", "amused_drawn.png", "amused_reconstructions.png"):
        assert (tmp_path / "found" / name).is_file()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    recipe = RegionsRecipe().smoke()
    out, work = tmp_path / "out", tmp_path / "work"
    with pytest.raises(ValueError, match=r"amused needs .*clip; train the stage clip first"):
        train_regions(
            recipe, out, work, tokenizer=EMBEDDED_FOLDER / "tokenizer", stages=("amused",), report=print
        )
    with pytest.raises(ValueError, match=r"needs .*vocab\.json; train the stage tokenizer first"):
        train_regions(recipe, out, work, tokenizer=tmp_path, stages=("clip",), report=print)
    with pytest.raises(ValueError, match="stages: got gan, needs some of clip, vit, amused"):
        train_regions(recipe, out, work, tokenizer=tmp_path, stages=("gan",), report=print)
    with pytest.raises(ValueError, match="--count: got 8, needs 32 or more for the part clip"):
        command(evaluate_embedded, "evaluate-embedded", "--parts", "clip", "--count", "8")
    with pytest.raises(ValueError, match=r"--regions: needs .*vit; train it first"):
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


def test_an_anchor_hits_when_things_cover_half_of_its_patch() -> None:
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
    from pinpoint.locinv_core.embedded.training_workers import average_gradients, rank, share

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
    from pinpoint.locinv_core.embedded.training_workers import run_workers

    run_workers(2, _gather_in_worker, tmp_path)
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 2))
    scale = torch.nn.Parameter(torch.tensor(0.7))
    rows = torch.randn(4, 3) @ weight
    (scale * (rows @ rows.T)).logsumexp(1).sum().backward()
    expected = {"rows": rows.detach(), "weight": weight.grad, "scale": scale.grad}
    for number in (0, 1):
        torch.testing.assert_close(load_file(tmp_path / f"{number}.safetensors"), expected)
