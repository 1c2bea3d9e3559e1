"""Counted multiply-adds beside a count by hooks, and the figures of the design for Stable Diffusion 1.5."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from pinpoint.locinv_core.backbones.attention import AttentionLayer, list_attention_layers, map_layers
from pinpoint.locinv_core.backbones.flops import count_flops
from pinpoint.locinv_core.backbones.single_file import CONFIGS
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.tests.fixtures.tiny_models import tiny_model as make_tiny_model
from pinpoint.tests.fixtures.tiny_models import tiny_unet


class Tally:
    """Two operations a multiply-add of convolutions, linear layers and attention, counted by module hooks.

    Counting ends at the attention layer `stop`, after its Q·Kᵀ, or after the module `last`.
    """

    def __init__(self, unet: Any, *, stop: str | None = None, last: str | None = None) -> None:
        self.total = 0
        self.counting = True
        self.handles = []
        for name, module in unet.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                self.handles.append(module.register_forward_hook(self.add_layer))
            if isinstance(module, Attention):
                self.handles.append(module.register_forward_hook(self.attention(name == stop), with_kwargs=True))
                if name == stop:
                    self.handles.append(module.to_out[0].register_forward_pre_hook(self.end))
            if name == last:
                self.handles.append(module.register_forward_hook(self.end))

    def add_layer(self, module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        if self.counting:
            # Every output value is a dot product over the weights of its channel.
            self.total += 2 * output.numel() * module.weight[0].numel()

    def attention(self, is_stop: bool) -> Any:
        def add(module: Any, args: Any, kwargs: dict[str, Any], output: Tensor) -> None:
            context = kwargs.get("encoder_hidden_states")
            keys = (output if context is None else context).shape[1]
            product = 2 * output.shape[0] * output.shape[1] * keys * module.inner_dim
            if is_stop:
                self.total += product
            elif self.counting:
                self.total += 2 * product

        return add

    def end(self, *args: Any) -> None:
        self.counting = False


def tally(unet: Any, height: int, width: int, context: int, **until: str) -> int:
    counter = Tally(unet, **until)
    device = unet.conv_in.weight.device
    with torch.no_grad():
        unet(
            torch.zeros(1, 4, height, width, device=device),
            torch.zeros(1, device=device),
            encoder_hidden_states=torch.zeros(1, context, unet.config.cross_attention_dim, device=device),
        )
    for handle in counter.handles:
        handle.remove()
    return counter.total


@pytest.fixture(scope="module")
def stable_diffusion() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / "sd1" / "unet"))


def test_a_stable_diffusion_pass_at_512_pixels_is_803_gflop(stable_diffusion: UNet2DConditionModel) -> None:
    counted = count_flops(stable_diffusion, 64, 64, 77)
    assert round(counted / 1e9) == 803
    assert counted == tally(stable_diffusion, 64, 64, 77)


def test_stopping_at_the_last_16_by_16_cross_attention_leaves_half_of_a_stable_diffusion_pass(
    stable_diffusion: UNet2DConditionModel,
) -> None:
    last = map_layers(list_attention_layers(stable_diffusion), 64)[-1]
    whole = tally(stable_diffusion, 64, 64, 77)
    stopped = count_flops(stable_diffusion, 64, 64, 77, last)
    assert stopped == tally(stable_diffusion, 64, 64, 77, stop=last.name)
    assert stopped / whole == pytest.approx(0.494, abs=0.001)
    # To the end of that block, its feed-forward and upsampling included, it is 0.546: the design's 0.54.
    to_block_end = tally(stable_diffusion, 64, 64, 77, last="up_blocks.1")
    assert math.floor(100 * to_block_end / whole) == 54


@pytest.mark.parametrize(("height", "width", "context", "every"), [(32, 32, 77, 1), (16, 24, 20, 5)])
def test_stops_in_the_tiny_unet_are_counted_as_the_hooks_count_them(
    height: int, width: int, context: int, every: int
) -> None:
    unet = tiny_unet()
    assert count_flops(unet, height, width, context) == tally(unet, height, width, context)
    for layer in list_attention_layers(unet)[::every]:
        counted = count_flops(unet, height, width, context, layer)
        assert counted == tally(unet, height, width, context, stop=layer.name), layer.name


def test_shares_grow_along_the_pass_and_a_whole_pass_is_one(tiny_model: EditModel) -> None:
    shares = [tiny_model.share(layer, 32, 32) for layer in tiny_model.layers[::4]]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1
    assert tiny_model.share(None, 32, 32) == 1


def test_counting_leaves_the_unet_alone() -> None:
    unet = tiny_unet()
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    processors = {name: id(processor) for name, processor in unet.attn_processors.items()}
    count_flops(unet, 32, 32, 77, list_attention_layers(unet)[3])
    assert {name: id(processor) for name, processor in unet.attn_processors.items()} == processors
    for name, weight in unet.state_dict().items():
        assert torch.equal(weight, before[name])


# What passes cost


def one_site(model: EditModel) -> AttentionLayer:
    return model.map_layers[-1]


def test_a_pass_costs_one_forward_equivalent_a_sample(tiny_model: EditModel) -> None:
    tracker = CostTracker()
    context = torch.zeros(1, 77, 32)
    tiny_model.predict_noise(torch.zeros(3, 4, 32, 32), 1, context, tracker=tracker)
    assert tracker.total == 3


def test_a_pass_stopped_early_costs_its_share_of_the_multiply_adds(tiny_model: EditModel) -> None:
    tracker = CostTracker()
    tiny_model.capture(torch.zeros(2, 4, 32, 32), 1, torch.zeros(1, 77, 32), quiet(), tracker=tracker)
    unet = tiny_model.unet
    expected = tally(unet, 32, 32, 77, stop=one_site(tiny_model).name) / tally(unet, 32, 32, 77)
    assert tracker.total == pytest.approx(2 * expected, rel=1e-9)


def test_a_gradient_through_a_pass_costs_two_more_when_it_is_taken(tiny_model: EditModel) -> None:
    tracker = CostTracker()
    context = torch.zeros(1, 77, 32, requires_grad=True)
    with tracker.stage("null-text"):
        noise = tiny_model.predict_noise(torch.zeros(1, 4, 32, 32), 1, context, tracker=tracker)
    assert tracker.forward_equivalents == {"null-text": 1}
    with tracker.stage("elsewhere"):
        noise.sum().backward()
    assert tracker.forward_equivalents == {"null-text": 3, "elsewhere": 0}


def test_a_gradient_through_an_early_stopped_pass_costs_two_more_shares() -> None:
    from pinpoint.locinv_core.backbones.attention import MapReader

    model = make_tiny_model()
    tracker = CostTracker()
    reader = MapReader(model.map_layers)
    context = torch.randn(1, 77, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    model.capture(torch.ones(1, 4, 32, 32), 1, context, reader, tracker=tracker)
    reader.mean()[:, :, 3].sum().backward()
    assert context.grad is not None and context.grad.abs().max() > 0
    assert tracker.total == pytest.approx(3 * model.share(one_site(model), 32, 32))


def quiet() -> Any:
    from pinpoint.locinv_core.backbones.attention import AttentionControl

    return AttentionControl()


def test_costs_go_to_the_innermost_stage_and_the_report_stands_apart() -> None:
    tracker = CostTracker()
    tracker.count_forward(2)
    with tracker.stage("inversion"):
        tracker.count_forward(1)
        with tracker.stage("tokens"):
            tracker.count_forward(4, share=0.5)
            tracker.count_backward(1, share=0.5)
        tracker.count_forward(1)
    with tracker.stage("report"):
        tracker.count_forward(100)
    assert tracker.forward_equivalents == {"other": 2, "inversion": 2, "tokens": 3, "report": 100}
    assert tracker.total == 7
    assert tracker.current == "other"


def test_a_stages_seconds_leave_out_those_of_the_stages_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 13.0, 20.0, 20.0, 21.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    tracker = CostTracker()
    with tracker.stage("outer"), tracker.stage("inner"):
        pass
    with tracker.stage("outer"):
        pass
    # 20 in all less 3 inside, and one more.
    assert tracker.seconds == {"outer": 18.0, "inner": 3.0}


def test_a_stage_is_left_when_an_exception_passes_through() -> None:
    tracker = CostTracker()
    with pytest.raises(KeyboardInterrupt), tracker.stage("edit"):
        raise KeyboardInterrupt
    assert tracker.current == "other"
    assert tracker.seconds["edit"] >= 0


def test_progress_is_told_the_stage_and_may_stop_the_work_by_raising() -> None:
    told = []

    def progress(stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        told.append((stage, step, steps, preview_latents))
        if step == 2:
            raise InterruptedError

    tracker = CostTracker(progress)
    with pytest.raises(InterruptedError), tracker.stage("edit"):
        for step in (1, 2, 3):
            tracker.report(step, 3)
    assert told == [("edit", 1, 3, None), ("edit", 2, 3, None)]
