"""The workflows that edit by inversion: each a function that lays one out on a canvas.

Those that require weights which do not come with Pinpoint have `embedded`: laid out with it, they take what
comes with Pinpoint in the place of those weights, for the thumbnail.
"""

from __future__ import annotations

from typing import Any

from pinpoint.tests.comfyui.workflow_files import Canvas

SAMPLE = "a yellow cat and a red star in a meadow"
FOX = "a yellow fox and a red star in a meadow"
BLUE = "a blue cat and a red star in a meadow"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
SAMPLE_SIDE, NATIVE_SIDE = 128, 512
"""The sample's side, and Stable Diffusion 1.5's, in pixels."""
OWN_IMAGE = (
    "**With your own image:** choose a Stable Diffusion 1.5 checkpoint in *Load Edit Model*, put *Load"
    " Image* in the place of *Sample Image*, and say what it shows in *Parse Prompt*."
)
KEPT: dict[str, Any] = {"composite": True, "composite_grow": 8.0}
"""Every pixel away from the cat stays; there is room for a fox's ears and tail around it."""


def word_swap_with_a_mask(canvas: Canvas) -> None:
    """Every stage a node of its own."""
    canvas.column("1  Image and model")
    canvas.note(
        "# Word swap with a mask\n\nThe cat becomes a fox, and nothing else changes. Press Run: the small"
        " model and the image come with Pinpoint. *composite* keeps every pixel away from the cat as it is;"
        " *composite_grow* leaves room for the fox's tail: 8 pixels here, about a 16th of your own"
        " image.\n\n" + OWN_IMAGE + " The mask: right-click the image,"
        " *Open in MaskEditor*, and wire *Load Image*'s mask."
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and the way to noise")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    inverted = canvas.add("PinpointDDIMInvert", model=(model, 0), image=(sample, 0), prompt=(prompt, 0))
    canvas.column("3  Where the word's attention lies")
    prior = canvas.add("PinpointPriorFromMask", mask=(sample, 1), word="cat")
    tuned = canvas.add("PinpointOptimizeTokens", inversion=(inverted, 0), prior=(prior, 0))
    canvas.add("PinpointCrossAttentionMaps", source=(tuned, 0), prior=(prior, 0))
    canvas.column("4  The edit")
    ready = canvas.add("PinpointNullTextInversion", inversion=(tuned, 0))
    edit = canvas.add("PinpointPromptToPromptEdit", inversion=(ready, 0), target=FOX, prior=(prior, 0), **KEPT)
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.add("PinpointEditMetrics", before=(sample, 0), after=(edit, 0), mask=(sample, 1), truth=(sample, 6))
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/word_swap")


def word_swap_with_a_box(canvas: Canvas) -> None:
    """LocInv in one node, with a box for each object."""
    canvas.column("1  Image and model")
    canvas.note(
        "# Word swap with a box\n\nA box around each object is enough. Boxes are lines *word=x0,y0,x1,y1* in"
        " pixels;"
        " *LocInv* inverts the image and tunes the words in one node.\n\n" + OWN_IMAGE
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and where")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    prior = canvas.add("PinpointPriorFromBoxes", image=(sample, 0), boxes="cat=11,30,57,73\nstar=74,48,119,91")
    canvas.column("3  Invert and optimize")
    ready = canvas.add("PinpointLocInv", model=(model, 0), image=(sample, 0), prompt=(prompt, 0), prior=(prior, 0))
    canvas.column("4  The edit")
    edit = canvas.add("PinpointPromptToPromptEdit", inversion=(ready, 0), target=FOX, prior=(prior, 0), **KEPT)
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(edit, 0), mask=(edit, 2))
    canvas.add("PinpointCrossAttentionMaps", source=(edit, 4), words="fox, star")
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/box_swap")


def attribute_edit(canvas: Canvas) -> None:
    """An adjective bound to its noun."""
    canvas.column("1  Image and model")
    canvas.note(
        "# Attribute edit with adjective binding\n\nThe yellow cat becomes a blue one. *bind_adjectives*"
        " draws the attention of *yellow* to that of *cat*, so that the colour changes there and not on the star. The"
        " layout stays:"
        " *self_replace_steps* is high.\n\n" + OWN_IMAGE
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and where")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    prior = canvas.add("PinpointPriorFromMask", mask=(sample, 1), word="cat")
    inverted = canvas.add("PinpointDDIMInvert", model=(model, 0), image=(sample, 0), prompt=(prompt, 0))
    canvas.column("3  Tune, with the adjective bound")
    tuned = canvas.add("PinpointOptimizeTokens", inversion=(inverted, 0), prior=(prior, 0), bind_adjectives=True)
    canvas.add("PinpointCrossAttentionMaps", source=(tuned, 0), prior=(prior, 0), words="yellow, cat, red, star")
    canvas.column("4  The edit")
    ready = canvas.add("PinpointNullTextInversion", inversion=(tuned, 0))
    edit = canvas.add(
        "PinpointPromptToPromptEdit",
        inversion=(ready, 0),
        target=BLUE,
        prior=(prior, 0),
        self_replace_steps=0.8,
        composite=True,
    )
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.add("PinpointEditMetrics", before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/attribute")


def methods_side_by_side(canvas: Canvas) -> None:
    """Null-text, Direct Inversion and LocInv from one DDIM inversion."""
    canvas.column("1  Image and model")
    canvas.note(
        "# Null-text, Direct Inversion, LocInv\n\nOne image, one inversion, one target; three ways to the"
        " edit. Null-text is slow: it optimises at every step. Because the sample is drawn, *Edit Metrics*"
        " knows the true edited image."
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and the way to noise")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    inverted = canvas.add("PinpointDDIMInvert", model=(model, 0), image=(sample, 0), prompt=(prompt, 0))
    prior = canvas.add("PinpointPriorFromMask", mask=(sample, 1), word="cat")
    canvas.column("3  Three ways")
    null_text = canvas.add("PinpointNullTextInversion", "Null-text", inversion=(inverted, 0), mode="null-text")
    direct = canvas.add("PinpointNullTextInversion", "Direct Inversion", inversion=(inverted, 0), mode="direct")
    tuned = canvas.add("PinpointOptimizeTokens", "LocInv: tokens", inversion=(inverted, 0), prior=(prior, 0))
    local = canvas.add("PinpointNullTextInversion", "LocInv: Direct Inversion", inversion=(tuned, 0))
    canvas.column("4  Three edits")
    edits = [
        canvas.add("PinpointPromptToPromptEdit", "Null-text", inversion=(null_text, 0), target=FOX),
        canvas.add("PinpointPromptToPromptEdit", "Direct Inversion", inversion=(direct, 0), target=FOX),
        canvas.add("PinpointPromptToPromptEdit", "LocInv", inversion=(local, 0), target=FOX, prior=(prior, 0)),
    ]
    canvas.column("5  Images")
    for edit, title in zip(edits, ("Null-text", "Direct Inversion", "LocInv"), strict=True):
        canvas.add("PinpointCompare", title, before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.column("6  Numbers")
    for edit, title in zip(edits, ("Null-text", "Direct Inversion", "LocInv"), strict=True):
        canvas.add(
            "PinpointEditMetrics",
            title,
            before=(sample, 0),
            after=(edit, 0),
            mask=(sample, 1),
            truth=(sample, 6),
        )


def compared_methods(canvas: Canvas) -> None:
    """The methods that edit in another way than Prompt-to-Prompt, and LocInv, from one DDIM inversion."""
    canvas.column("1  Image and model")
    canvas.note(
        "# The compared methods\n\nOne image, one inversion, one target; five methods. Only *LocInv* is"
        " told where the cat is, *DiffEdit* finds its mask itself, and the others may change all of the"
        " image. *pix2pix-zero* takes a gradient at every step, and the most time.\n\n" + OWN_IMAGE
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and the way to noise")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    inverted = canvas.add("PinpointDDIMInvert", model=(model, 0), image=(sample, 0), prompt=(prompt, 0))
    prior = canvas.add("PinpointPriorFromMask", mask=(sample, 1), word="cat")
    tuned = canvas.add("PinpointOptimizeTokens", "LocInv: tokens", inversion=(inverted, 0), prior=(prior, 0))
    local = canvas.add("PinpointNullTextInversion", "LocInv: Direct Inversion", inversion=(tuned, 0))
    canvas.column("3  Edits")
    edits = {
        title: canvas.add(kind, inversion=(inverted, 0), target=FOX)
        for title, kind in {
            "Plug-and-Play": "PinpointPlugAndPlayEdit",
            "MasaCtrl": "PinpointMasaCtrlEdit",
            "DiffEdit": "PinpointDiffEdit",
            "pix2pix-zero": "PinpointPix2PixZeroEdit",
        }.items()
    }
    edits["LocInv"] = canvas.add(
        "PinpointPromptToPromptEdit", "LocInv", inversion=(local, 0), target=FOX, prior=(prior, 0)
    )
    canvas.column("4  Images")
    for title, edit in edits.items():
        canvas.add("PinpointCompare", title, before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.column("5  Numbers")
    for title, edit in edits.items():
        canvas.add(
            "PinpointEditMetrics",
            title,
            before=(sample, 0),
            after=(edit, 0),
            mask=(sample, 1),
            truth=(sample, 6),
        )


def text_prior(canvas: Canvas, *, embedded: bool = False) -> None:
    """A text says where objects are; `embedded`: the sample's own mask does."""
    canvas.column("1  Image and model")
    canvas.note(
        "# Prior from text\n\nNothing is drawn: Grounding DINO finds each object by a description, and LocInv"
        " takes the boxes as its prior.\n\n**This needs weights that Pinpoint does not bring.** Either"
        " *IDEA-Research/grounding-dino-tiny* (boxes) or *CIDAS/clipseg-rd64-refined* (outlines) of Hugging"
        " Face: put its folder into ComfyUI's *models* and write the folder's name into *Prior from Text*, or"
        " have it in the Hugging Face cache. Nothing is downloaded by itself.\n\nThey were made for"
        " photographs. " + OWN_IMAGE + "\n\n**An outline instead of a box:** put *Prior from Segment"
        " Anything* (its checkpoint in *models/sams*) after *Prior from Text*."
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and where")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    if embedded:
        prior = canvas.add("PinpointPriorFromMask", mask=(sample, 1), word="cat")
    else:
        prior = canvas.add("PinpointPriorFromText", image=(sample, 0), words="cat=yellow cat\nstar=red star")
    canvas.add("MaskPreview", mask=(prior, 1))
    canvas.column("3  Invert and optimize")
    ready = canvas.add("PinpointLocInv", model=(model, 0), image=(sample, 0), prompt=(prompt, 0), prior=(prior, 0))
    canvas.column("4  The edit")
    edit = canvas.add("PinpointPromptToPromptEdit", inversion=(ready, 0), target=FOX, prior=(prior, 0), **KEPT)
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(edit, 0), mask=(prior, 1))
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/text_prior")


def from_your_own_checkpoint(canvas: Canvas, *, embedded: bool = False) -> None:
    """What ComfyUI has loaded becomes the edit model; `embedded`: the model that comes with Pinpoint."""
    canvas.column("1  Your checkpoint")
    canvas.note(
        "# From your own checkpoint\n\nA checkpoint that ComfyUI loads, with its LoRAs, becomes the edit"
        " model: nothing is loaded twice.\n\n**This needs a Stable Diffusion 1.x, 2.x or SDXL checkpoint** in"
        " *models/checkpoints*; choose it in *Load Checkpoint*. LoRAs go between it and *Edit Model from"
        " MODEL+CLIP+VAE*, on MODEL and CLIP. The drawn image is enlarged to the size that such models"
        " know; put *Load Image* in its place for your own, of about 512 pixels, and draw a box around the"
        " object."
    )
    own = {} if embedded else {"ckpt_name": CHECKPOINT}
    loaded = canvas.add("PinpointEmbeddedCheckpoint" if embedded else "CheckpointLoaderSimple", **own)
    model = canvas.add("PinpointEditModelFromComfyUI", model=(loaded, 0), clip=(loaded, 1), vae=(loaded, 2))
    canvas.column("2  The image")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    picture, scale = (sample, 0), 1
    if not embedded:
        enlarged = canvas.add(
            "ImageScale",
            image=(sample, 0),
            upscale_method="lanczos",
            width=NATIVE_SIDE,
            height=NATIVE_SIDE,
            crop="disabled",
        )
        picture, scale = (enlarged, 0), NATIVE_SIDE // SAMPLE_SIDE
    canvas.column("3  What it shows, and where")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    box = ",".join(str(scale * side) for side in (11, 30, 57, 73))
    prior = canvas.add("PinpointPriorFromBoxes", image=picture, boxes=f"cat={box}")
    canvas.column("4  Invert and optimize")
    ready = canvas.add("PinpointLocInv", model=(model, 0), image=picture, prompt=(prompt, 0), prior=(prior, 0))
    canvas.column("5  The edit")
    edit = canvas.add(
        "PinpointPromptToPromptEdit",
        inversion=(ready, 0),
        target=FOX,
        prior=(prior, 0),
        composite=True,
        composite_grow=8 * scale,
    )
    canvas.column("6  Look")
    canvas.add("PinpointCompare", before=picture, after=(edit, 0), mask=(edit, 2))
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/own_checkpoint")
