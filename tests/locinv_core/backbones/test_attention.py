"""Where a UNet attends, which layers are read, and controlled attention beside the library's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from pinpoint.locinv_core.backbones.attention import (
    AttentionControl,
    AttentionLayer,
    MapReader,
    QueryReader,
    StoppedEarly,
    attention_probabilities,
    controlled_attention,
    list_attention_layers,
    map_layers,
)
from pinpoint.locinv_core.backbones.single_file import CONFIGS
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.tests.fixtures.tiny_models import tiny_unet


def stable_diffusion(family: str) -> UNet2DConditionModel:
    """The true UNet, without weights."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / family / "unet"))


class Everywhere(AttentionControl):
    """Asks for every layer's probabilities and keeps what passes by."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.triples: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.weights: dict[str, Tensor] = {}

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return True

    def inputs(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.triples[layer.name] = (query, key, value)
        return query, key, value

    def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
        self.seen.append(layer.name)
        self.weights[layer.name] = probabilities
        return probabilities


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "latents": torch.randn(2, 4, 32, 32, generator=generator),
        "context": torch.randn(2, 77, 32, generator=generator),
    }


def run(unet: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        out: Tensor = unet(inputs["latents"], 500, encoder_hidden_states=inputs["context"]).sample
    return out


def processors(unet: Any) -> dict[str, int]:
    return {name: id(processor) for name, processor in unet.attn_processors.items()}


def test_stable_diffusion_attends_in_32_layers_half_of_them_to_the_prompt() -> None:
    layers = list_attention_layers(stable_diffusion("sd1"))
    assert len(layers) == 32
    assert sum(layer.kind == "cross" for layer in layers) == 16
    # Two a level on three levels down, one in the middle, three a level up (Prompt-to-Prompt's list).
    places = [(s.place, s.level) for s in layers if s.kind == "cross"]
    assert places == (
        [("down", 0)] * 2
        + [("down", 1)] * 2
        + [("down", 2)] * 2
        + [("mid", 3)]
        + [("up", 2)] * 3
        + [("up", 1)] * 3
        + [("up", 0)] * 3
    )
    assert {layer.heads for layer in layers} == {8}


def test_stable_diffusion_1_is_read_at_its_five_layers_of_16_by_16() -> None:
    read = map_layers(list_attention_layers(stable_diffusion("sd1")), native_latent_size=64)
    assert [layer.name.split(".attentions")[0] for layer in read] == ["down_blocks.2"] * 2 + ["up_blocks.1"] * 3
    assert {layer.grid(64, 64) for layer in read} == {(16, 16)}
    assert {layer.grid(64, 96) for layer in read} == {(16, 24)}


def test_stable_diffusion_2_of_768_pixels_is_read_at_24_by_24() -> None:
    read = map_layers(list_attention_layers(stable_diffusion("sd2")), native_latent_size=96)
    assert {layer.grid(96, 96) for layer in read} == {(24, 24)}
    assert {layer.heads for layer in read} == {20}


def test_the_tiny_model_is_read_at_16_by_16(tiny_model: EditModel) -> None:
    assert len(tiny_model.map_layers) == 3
    assert tiny_model.grid(128, 128) == (16, 16)
    assert tiny_model.grid(64, 128) == (8, 16)


def test_of_two_grids_equally_near_to_16_the_finer_is_read() -> None:
    places: tuple[Literal["down", "up"], ...] = ("down", "up")
    layers = [AttentionLayer(f"{place}{n}", "cross", place, n, 1) for n in (0, 1) for place in places]
    # 21⅓ and 10⅔ are as far from 16.
    assert {layer.level for layer in map_layers(layers, 64 / 3)} == {0}  # type: ignore[arg-type]


def test_a_unet_that_attends_only_in_the_middle_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="cross-attention on the way down and up"):
        map_layers([AttentionLayer("mid", "cross", "mid", 1, 1)], 32)


def test_odd_grids_are_those_that_the_unets_convolutions_make(tiny_model: EditModel) -> None:
    shapes: dict[str, int] = {}

    class Sizes(AttentionControl):
        def inputs(
            self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            shapes[layer.name] = query.shape[2]
            return query, key, value

    with controlled_attention(tiny_model.unet, tiny_model.layers, Sizes()):
        run(tiny_model.unet, {"latents": torch.zeros(1, 4, 26, 18), "context": torch.zeros(1, 77, 32)})
    for layer in tiny_model.layers:
        rows, columns = layer.grid(26, 18)
        assert rows * columns == shapes[layer.name]


def test_sites_are_in_the_order_in_which_a_pass_reaches_them(tiny_model: EditModel, inputs: dict[str, Tensor]) -> None:
    control = Everywhere()
    with controlled_attention(tiny_model.unet, tiny_model.layers, control):
        run(tiny_model.unet, inputs)
    assert control.seen == [layer.name for layer in tiny_model.layers]


@pytest.mark.parametrize("control", [AttentionControl, Everywhere])
def test_a_control_that_changes_nothing_leaves_the_unets_output(
    tiny_model: EditModel, inputs: dict[str, Tensor], control: Callable[[], AttentionControl]
) -> None:
    plain = run(tiny_model.unet, inputs)
    with controlled_attention(tiny_model.unet, tiny_model.layers, control()):
        controlled = run(tiny_model.unet, inputs)
    assert torch.allclose(controlled, plain, atol=1e-5)
    assert plain.std() > 0.1


def test_linear_projections_and_per_level_heads_are_controlled_alike(inputs: dict[str, Tensor]) -> None:
    """SD 2.x has both."""
    unet = tiny_unet(use_linear_projection=True, attention_head_dim=(2, 4), upcast_attention=True)
    layers = list_attention_layers(unet)
    assert {(layer.level, layer.heads) for layer in layers} == {(0, 2), (1, 4)}
    plain = run(unet, inputs)
    with controlled_attention(unet, layers, Everywhere()):
        assert torch.allclose(run(unet, inputs), plain, atol=1e-5)


def test_probabilities_are_those_of_scaled_dot_product_attention(
    tiny_model: EditModel, inputs: dict[str, Tensor]
) -> None:
    control = Everywhere()
    with controlled_attention(tiny_model.unet, tiny_model.layers, control):
        run(tiny_model.unet, inputs)
    for layer in tiny_model.layers:
        query, key, _ = control.triples[layer.name]
        assert query.shape[1] == layer.heads
        # With the identity for values, attention gives its weights.
        identity = torch.eye(key.shape[2]).expand(*key.shape[:2], -1, -1)
        expected = F.scaled_dot_product_attention(query, key, identity)
        assert torch.allclose(control.weights[layer.name], expected, atol=1e-6)
        assert torch.allclose(expected.sum(-1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_probabilities_do_not_overflow_and_are_as_good_as_their_rounding(
    dtype: torch.dtype,
) -> None:
    generator = torch.Generator().manual_seed(0)
    # Products up to about 10⁵, beyond float16's 65504, before the scale.
    query = (torch.randn(1, 2, 64, 40, generator=generator) * 120).to(dtype)
    key = (torch.randn(1, 2, 77, 40, generator=generator) * 120).to(dtype)
    got = attention_probabilities(query, key, 40**-0.5)
    scores = torch.einsum("bhnd,bhld->bhnl", query.double(), key.double()) / 40**0.5
    expected = scores.softmax(-1)
    assert got.dtype == dtype
    assert (query.double() @ key.double().mT).abs().max() > 65504
    assert torch.allclose(got.double(), expected, atol=2e-3 if dtype == torch.float16 else 8e-3)


def test_what_a_control_returns_is_what_is_used(tiny_model: EditModel, inputs: dict[str, Tensor]) -> None:
    """Uniform attention to the prompt: no token's place matters, so shuffling the prompt changes nothing."""

    class Uniform(AttentionControl):
        def needs_probabilities(self, layer: AttentionLayer) -> bool:
            return layer.kind == "cross"

        def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
            if layer.kind == "cross":
                return torch.full_like(probabilities, 1 / probabilities.shape[-1])
            return probabilities

    shuffled = {**inputs, "context": inputs["context"].flip(1) * 1.0}
    with controlled_attention(tiny_model.unet, tiny_model.layers, Uniform()):
        uniform = run(tiny_model.unet, inputs)
        assert torch.allclose(run(tiny_model.unet, shuffled), uniform, atol=1e-5)
        other = {**inputs, "context": inputs["context"] + 1}
        assert not torch.allclose(run(tiny_model.unet, other), uniform, atol=1e-3)
    assert not torch.allclose(run(tiny_model.unet, inputs), uniform, atol=1e-3)


def test_changed_queries_keys_and_values_are_used_too(tiny_model: EditModel, inputs: dict[str, Tensor]) -> None:
    """Zero values at every cross-attention are the same as weights of zero there."""

    class NoValues(AttentionControl):
        def inputs(
            self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            return query, key, value * 0 if layer.kind == "cross" else value

    class NoWeights(Everywhere):
        def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
            return probabilities * 0 if layer.kind == "cross" else probabilities

    results = []
    for control in (NoValues(), NoWeights()):
        with controlled_attention(tiny_model.unet, tiny_model.layers, control):
            results.append(run(tiny_model.unet, inputs))
    assert torch.allclose(results[0], results[1], atol=1e-5)
    assert not torch.allclose(results[0], run(tiny_model.unet, inputs), atol=1e-3)


def test_a_value_context_gives_the_values_and_the_context_the_keys(
    tiny_model: EditModel, inputs: dict[str, Tensor]
) -> None:
    other = torch.randn(2, 77, 32, generator=torch.Generator().manual_seed(9))
    unet, layers = tiny_model.unet, tiny_model.layers
    plain = run(unet, inputs)
    with controlled_attention(unet, layers, AttentionControl(), value_context=inputs["context"]):
        assert torch.allclose(run(unet, inputs), plain, atol=1e-5)
    split = Everywhere()
    with controlled_attention(unet, layers, split, value_context=other):
        run(unet, inputs)
    first = next(layer for layer in layers if layer.kind == "cross")
    layer = dict(unet.named_modules())[first.name]
    _, key, value = split.triples[first.name]
    with torch.no_grad():
        assert torch.allclose(key.transpose(1, 2).flatten(2), layer.to_k(inputs["context"]), atol=1e-6)
        assert torch.allclose(value.transpose(1, 2).flatten(2), layer.to_v(other), atol=1e-6)


def test_processors_are_put_back_after_a_pass(tiny_model: EditModel, inputs: dict[str, Tensor]) -> None:
    before = processors(tiny_model.unet)
    with controlled_attention(tiny_model.unet, tiny_model.layers, Everywhere()):
        assert processors(tiny_model.unet) != before
        run(tiny_model.unet, inputs)
    assert processors(tiny_model.unet) == before


def test_processors_are_put_back_when_an_exception_passes_through() -> None:
    class Cancelled(Exception):
        pass

    class Cancel(AttentionControl):
        def inputs(
            self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor
        ) -> tuple[Tensor, Tensor, Tensor]:
            raise Cancelled

    unet = tiny_unet()
    own = AttnProcessor()
    unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.set_processor(own)
    before = processors(unet)
    inputs = {"latents": torch.zeros(1, 4, 32, 32), "context": torch.zeros(1, 77, 32)}
    with pytest.raises(Cancelled), controlled_attention(unet, list_attention_layers(unet), Cancel()):
        run(unet, inputs)
    assert processors(unet) == before
    assert unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.processor is own


def test_controls_nest_and_the_outer_one_comes_back(tiny_model: EditModel, inputs: dict[str, Tensor]) -> None:
    outer, inner = Everywhere(), Everywhere()
    with controlled_attention(tiny_model.unet, tiny_model.layers, outer):
        with controlled_attention(tiny_model.unet, tiny_model.layers, inner):
            run(tiny_model.unet, inputs)
        assert not outer.seen
        run(tiny_model.unet, inputs)
    assert len(outer.seen) == len(inner.seen) == len(tiny_model.layers)


def test_a_pass_stops_in_the_layer_that_it_was_told_to_once_the_control_has_seen_it(
    tiny_model: EditModel, inputs: dict[str, Tensor]
) -> None:
    last = tiny_model.map_layers[-1]
    before = processors(tiny_model.unet)
    control = Everywhere()
    with (
        pytest.raises(StoppedEarly),
        controlled_attention(tiny_model.unet, tiny_model.layers, control, stop_after=last),
    ):
        run(tiny_model.unet, inputs)
    assert control.seen[-1] == last.name
    reached = [layer.name for layer in tiny_model.layers]
    assert control.seen == reached[: reached.index(last.name) + 1]
    assert processors(tiny_model.unet) == before


def test_an_early_stopped_pass_reads_the_maps_and_queries_of_a_whole_one(
    tiny_model: EditModel, inputs: dict[str, Tensor]
) -> None:
    whole, early = MapReader(tiny_model.map_layers), MapReader(tiny_model.map_layers)
    queries = QueryReader(tiny_model.map_layers)
    everything = Everywhere()
    with controlled_attention(tiny_model.unet, tiny_model.layers, everything):
        run(tiny_model.unet, inputs)
    tiny_model.predict_noise(inputs["latents"], 500, inputs["context"], control=whole)
    tiny_model.capture(inputs["latents"], 500, inputs["context"], early)
    tiny_model.capture(inputs["latents"], 500, inputs["context"], queries)
    by_hand = torch.stack(
        [everything.weights[layer.name][:, head] for layer in tiny_model.map_layers for head in range(layer.heads)]
    ).mean(0)
    assert early.mean().shape == (2, 256, 77)
    assert torch.allclose(early.mean(), whole.mean(), atol=1e-6)
    assert torch.allclose(early.mean(), by_hand, atol=1e-6)
    for layer in tiny_model.map_layers:
        assert torch.allclose(queries.queries[layer.name], everything.triples[layer.name][0], atol=1e-5)


def test_a_reader_whose_layers_were_not_all_reached_has_no_mean(
    tiny_model: EditModel, inputs: dict[str, Tensor]
) -> None:
    reader = MapReader(tiny_model.map_layers)
    tiny_model.capture(inputs["latents"], 500, inputs["context"], reader, stop_after=tiny_model.map_layers[0])
    with pytest.raises(RuntimeError, match="1 of 3"):
        reader.mean()
