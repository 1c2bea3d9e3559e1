"""The workflows in which Pinpoint finds the region itself, laid out as in `locinv_workflows`."""

from __future__ import annotations

from pinpoint.tests.comfyui.locinv_workflows import FOX, KEPT, OWN_IMAGE, SAMPLE
from pinpoint.tests.comfyui.workflow_files import Canvas, Link

FOUND_BY = (
    "**For a photograph:** a DINO such as *facebook/dino-vitb16* in *Load ViT*, and a CLIP such as"
    " *openai/clip-vit-base-patch16* in *Load CLIP to Judge Edits*."
)

BLUE, WISH = "a yellow cat and a blue star in a meadow", "a blue star in a meadow"
"""What the image should show, for CLIP, and what the editor should draw."""


def learnable_regions(canvas: Canvas) -> None:
    """Boxes around anchors, learned and ranked."""
    canvas.column("1  Image and networks")
    canvas.note(
        "# Learnable Regions\n\nNo mask, no box: say what is there and what should be. Boxes around what"
        " stands out are tried, a small network learns which one the edit should use, and CLIP ranks the"
        " edits. Click a box of *Learn Regions* to choose it yourself: the next run uses it.\n\n"
        + OWN_IMAGE
        + "\n\n"
        + FOUND_BY
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  Where it could go")
    proposals = _anchors(canvas, (sample, 0))
    canvas.column("3  Learn where it goes")
    editor = canvas.add("PinpointEditorBlended", model=(model, 0), steps=20)
    regions = _learned(canvas, proposals, (editor, 0), SAMPLE, BLUE, WISH)
    canvas.column("4  The best edit")
    picked = canvas.add("PinpointPickBestEdit", regions=regions)
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(picked, 0), mask=(picked, 1))
    canvas.add("SaveImage", images=(picked, 0), filename_prefix="pinpoint/learned_region")


def learnable_regions_with_locinv(canvas: Canvas) -> None:
    """Only boxes near the object, and LocInv as the editor: the object changes in the shape that it has."""
    canvas.column("1  Image and networks")
    canvas.note(
        "# Learnable Regions with LocInv\n\nThe other editors draw a new object somewhere in the box; *Editor:"
        " LocInv* changes the one that is there, in its position, size and pose. It requires the text of the whole"
        " image as *source*, and a prompt that says the same but for one object.\n\n*Find Word* finds where"
        " that object is, and only boxes near it are tried. Without its *region_mask*, as published, all are.\n\n"
        + OWN_IMAGE
        + "\n\n"
        + FOUND_BY
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    found, _, vit, clip = _word_found(canvas, model, sample, "cat")
    proposals = canvas.add(
        "PinpointProposeAnchors", image=(sample, 0), vit=(vit, 0), k=6, min_distance=3.5, smoothing=5
    )
    canvas.column("3  Learn where it goes")
    editor = canvas.add("PinpointEditorLocInv", model=(model, 0), source=SAMPLE, steps=20)
    learned = canvas.add(
        "PinpointLearnRegions",
        proposals=(proposals, 0),
        editor=(editor, 0),
        clip=(clip, 0),
        caption=SAMPLE,
        prompt=FOX,
        region_mask=(found, 1),
    )
    canvas.column("4  The best edit")
    picked = canvas.add("PinpointPickBestEdit", regions=(learned, 0))
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(picked, 0), mask=(picked, 1))
    canvas.add("SaveImage", images=(picked, 0), filename_prefix="pinpoint/region_by_locinv")


def learnable_regions_with_amused(canvas: Canvas) -> None:
    """Only boxes near the object, and a masked-token transformer as the editor: edits cost next to nothing."""
    canvas.column("1  Image and networks")
    canvas.note(
        "# Learnable Regions with aMUSEd\n\n*Editor: aMUSEd*, the open Muse, predicts the image's tokens in"
        " a box again, in a dozen short steps: many boxes are tried in no time. The one that comes with"
        " Pinpoint is a tiny one that knows colours better than shapes.\n\n*Find Word* finds where the object"
        " is, and only boxes near it are tried.\n\n" + OWN_IMAGE + "\n\n**For a photograph:** a folder such as"
        " *amused/amused-512* in *models/diffusers*. " + FOUND_BY
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    found, _, vit, clip = _word_found(canvas, model, sample, "star")
    proposals = canvas.add(
        "PinpointProposeAnchors", image=(sample, 0), vit=(vit, 0), k=6, min_distance=3.5, smoothing=5
    )
    canvas.column("3  Learn where it goes")
    editor = canvas.add("PinpointEditorAmused", model="embedded")
    learned = canvas.add(
        "PinpointLearnRegions",
        proposals=(proposals, 0),
        editor=(editor, 0),
        clip=(clip, 0),
        caption=SAMPLE,
        prompt=BLUE,
        edit_prompt=WISH,
        region_mask=(found, 1),
        seed=1,
    )
    canvas.column("4  The best edit")
    picked = canvas.add("PinpointPickBestEdit", regions=(learned, 0))
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(picked, 0), mask=(picked, 1))
    canvas.add("SaveImage", images=(picked, 0), filename_prefix="pinpoint/region_by_amused")


def learnable_regions_with_a_comfyui_sampler(canvas: Canvas) -> None:
    """Regions edited by any MODEL, here the one that comes with Pinpoint."""
    canvas.column("1  The checkpoint")
    canvas.note(
        "# Learnable Regions with a ComfyUI sampler\n\nAny model that ComfyUI samples edits inside the boxes:"
        " SDXL, Flux, … with the sampler, the scheduler and the LoRAs that you like. It runs as it is, on the small"
        " checkpoint that Pinpoint brings.\n\nFor your own put *Load Checkpoint* in the place of *Load Embedded"
        " Checkpoint*, and *Load Image* in that of *Sample Image*, at the size that your model knows. What the edit"
        " should show stands twice: in *Learn Regions* for CLIP, and encoded for the model.\n\n*Find Word* finds where"
        " the object is, by the same checkpoint, and only boxes near it are tried. It takes Stable Diffusion 1.x, 2.x"
        " and SDXL; without its *region_mask* all boxes are tried.\n\n" + FOUND_BY
    )
    model = canvas.add("PinpointEmbeddedCheckpoint")
    edits = canvas.add("PinpointEditModelFromComfyUI", model=(model, 0), clip=(model, 1), vae=(model, 2))
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    found, _, vit, clip = _word_found(canvas, edits, sample, "star")
    proposals = canvas.add(
        "PinpointProposeAnchors", image=(sample, 0), vit=(vit, 0), k=6, min_distance=3.5, smoothing=5
    )
    canvas.column("3  What edits, and learning where")
    wanted = canvas.add("CLIPTextEncode", "What it should show", clip=(model, 1), text=WISH)
    unwanted = canvas.add("CLIPTextEncode", "What it should not show", clip=(model, 1), text="")
    editor = canvas.add(
        "PinpointEditorComfyUISampler",
        model=(model, 0),
        vae=(model, 2),
        positive=(wanted, 0),
        negative=(unwanted, 0),
    )
    learned = canvas.add(
        "PinpointLearnRegions",
        proposals=(proposals, 0),
        editor=(editor, 0),
        clip=(clip, 0),
        caption=SAMPLE,
        prompt=BLUE,
        edit_prompt=WISH,
        region_mask=(found, 1),
        seed=1,
    )
    canvas.column("4  The best edit")
    picked = canvas.add("PinpointPickBestEdit", regions=(learned, 0))
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(picked, 0), mask=(picked, 1))
    canvas.add("SaveImage", images=(picked, 0), filename_prefix="pinpoint/sampled_region")


def no_mask_at_all(canvas: Canvas) -> None:
    """Regions find the box, LocInv edits there."""
    canvas.column("1  Image and networks")
    canvas.note(
        "# No mask at all\n\nName the object, draw nothing, and only it changes: *Find Word* finds its box by"
        " the word's cross-attention map, with CLIP reranking the boxes; LocInv takes that box as its prior.\n\n"
        + OWN_IMAGE
        + "\n\n"
        + FOUND_BY
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    found, prompt, _, _ = _word_found(canvas, model, sample, "cat")
    canvas.column("3  Invert and optimize")
    ready = canvas.add("PinpointLocInv", model=(model, 0), image=(sample, 0), prompt=(prompt, 0), prior=(found, 0))
    canvas.column("4  The edit")
    edit = canvas.add("PinpointPromptToPromptEdit", inversion=(ready, 0), target=FOX, prior=(found, 0), **KEPT)
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(edit, 0), mask=(found, 1))
    canvas.add("PinpointEditMetrics", before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/no_mask")


def _word_found(canvas: Canvas, model: int, sample: int, word: str) -> tuple[int, int, int, int]:
    """Find Word for a word, Parse Prompt, Load ViT and Load CLIP, the first two in a column of their own."""
    vit = canvas.add("PinpointLoadViT")
    clip = canvas.add("PinpointLoadCLIP")
    canvas.column("2  What it shows, and where")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    found = canvas.add(
        "PinpointFindWord",
        model=(model, 0),
        image=(sample, 0),
        prompt=(prompt, 0),
        vit=(vit, 0),
        clip=(clip, 0),
        words=word,
    )
    return found, prompt, vit, clip


def _anchors(canvas: Canvas, picture: Link) -> Link:
    """What stands out in the image, as proposals."""
    vit = canvas.add("PinpointLoadViT")
    return canvas.add("PinpointProposeAnchors", image=picture, vit=(vit, 0), k=6, min_distance=2.0), 0


def _learned(canvas: Canvas, proposals: Link, editor: Link, caption: str, prompt: str, wish: str) -> Link:
    """The boxes, learned."""
    clip = canvas.add("PinpointLoadCLIP")
    learned = canvas.add(
        "PinpointLearnRegions",
        proposals=proposals,
        editor=editor,
        clip=(clip, 0),
        caption=caption,
        prompt=prompt,
        edit_prompt=wish,
        seed=1,
    )
    return learned, 0
