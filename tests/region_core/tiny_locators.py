"""Small random Segment Anything, Grounding DINO and CLIPSeg models, in the architectures and file layouts of
the real ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertTokenizerFast,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SwinConfig,
    ViTImageProcessor,
)

from pinpoint.locinv_core.vocabulary import clip_tokenizer

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "a", "cat", "red", "star", "yellow"]


def spread(model: nn.Module, std: float = 0.2) -> Any:
    """The model with weights that differ enough for its outputs to differ."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=std)
    return model.eval().requires_grad_(False)


def tiny_sam(seed: int = 0) -> Any:
    """A Segment Anything for 64 pixels: two blocks of width 32, the second of which attends everywhere."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(seed)
    encoder = ImageEncoderViT(
        img_size=64,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=4,
        out_chans=32,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=(1,),
        window_size=3,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    prompts = PromptEncoder(
        embed_dim=32, image_embedding_size=(8, 8), input_image_size=(64, 64), mask_in_chans=8
    )
    decoder = MaskDecoder(
        transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=48, num_heads=8),
        transformer_dim=32,
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=24,
    )
    model = Sam(
        encoder, prompts, decoder, pixel_mean=[123.675, 116.28, 103.53], pixel_std=[58.395, 57.12, 57.375]
    )
    return spread(model)


def write_tiny_dino(folder: Path, seed: int = 0) -> Path:
    """A Grounding DINO of one layer each way and width 32, which reads `_WORDS`, as a folder."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(_WORDS) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    text = BertConfig(
        vocab_size=len(_WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    swin = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )
    config = GroundingDinoConfig(
        backbone_config=swin,
        text_config=text,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        d_model=32,
        num_feature_levels=4,
        max_text_len=16,
    )
    spread(GroundingDinoForObjectDetection(config)).save_pretrained(folder)
    small = {"shortest_edge": 64, "longest_edge": 128}
    GroundingDinoProcessor(GroundingDinoImageProcessor(size=small), tokenizer).save_pretrained(folder)
    return folder


def write_tiny_clipseg(folder: Path, seed: int = 0) -> Path:
    """A CLIPSeg of width 32 for 32 pixels, which reads CLIP's vocabulary, as a folder."""
    torch.manual_seed(seed)
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    words = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    config = CLIPSegConfig(
        text_config={**shared, **words, "max_position_embeddings": 77},
        vision_config={**shared, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        reduce_dim=16,
        extract_layers=[0, 1, 2],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    spread(CLIPSegForImageSegmentation(config)).save_pretrained(folder)
    pictures = ViTImageProcessor(
        size={"height": 32, "width": 32},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    CLIPSegProcessor(pictures, clip_tokenizer()).save_pretrained(folder)
    return folder
