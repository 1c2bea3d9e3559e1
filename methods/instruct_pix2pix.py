"""InstructPix2Pix (Brooks et al. 2023): a UNet that reads the image beside the noise, and an instruction.

With C latent channels its UNet reads 2·C: 8 for Stable Diffusion. Such a model is a diffusers folder of its
own; `train-embedded --stages instruct` makes a small one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..locinv_core.backbones import diffusers_folder as parts
from ..locinv_core.backbones.loading import EMBEDDED, resolve_device, resolve_dtype
from ..locinv_core.backbones.stable_diffusion import EditModel
from ..locinv_core.cost import CostTracker
from ..locinv_core.ddim import step_pairs
from ..locinv_core.editing.edited_objects import edited_objects
from ..locinv_core.setting import check_settings, guidance_setting, steps_setting
from ..locinv_core.text.prompt import Prompt, empty_prompt, parse_prompt
from ..locinv_core.text.word_alignment import align
from .shared.images import decoded, encoded
from .shared.object_names import object_name, with_article
from .types import EditTask, Method, MethodModels, MethodOutcome, on_cpu, prompts_of


@dataclass(frozen=True)
class InstructPix2PixSettings:
    """The two scales, s_T and s_I; the defaults are the published ones, but for the steps (100) and the sampler
    (Euler's with noise), which are every method's here. Raises ValueError for a value out of bounds."""

    steps: int = steps_setting("DDIM steps. 50 is usual; fewer are faster.")
    guidance: float = guidance_setting(help="How strongly the edit follows the order; 7.5 is usual.")
    image_guidance: float = guidance_setting(
        1.5, "How strongly the edit keeps to the image: 1.5 is usual, more changes less."
    )

    def __post_init__(self) -> None:
        check_settings(self)


@torch.no_grad()
def edit(
    model: EditModel,
    latents: Tensor,
    instruction: Prompt,
    settings: InstructPix2PixSettings | None = None,
    *,
    seed: int = 0,
    tracker: CostTracker | None = None,
) -> Tensor:
    """Edit an image's z_0 (1, C, h, w) as the instruction says: z_0 of the edit.

    model: as `load_instruct_model` opens it. Sampling is DDIM from the seed's noise. A step costs 3 passes;
    one whose prediction Eq. 3 gives no weight is left out, so that both scales at 1 cost 1.
    Raises ValueError for a UNet that does not read the image.
    """
    settings = settings or InstructPix2PixSettings()
    tracker = tracker or CostTracker()
    refuse_other_unet(model.unet.config.in_channels, model.vae.config.latent_channels, f"model {model.name!r}")
    pairs = step_pairs(model.schedule.timesteps(settings.steps))
    # As published, the image's latents are seen unscaled.
    seen = latents.to(model.device, torch.float32) / model.vae.config.scaling_factor
    full = model.encode_prompt(instruction)
    empty = model.encode_prompt(empty_prompt(model.tokenizer))
    shares = weights(settings.guidance, settings.image_guidance)
    used = [k for k, share in enumerate(shares) if share]
    beside = torch.cat([torch.zeros_like(seen), seen, seen])[used]
    contexts = torch.cat([empty, empty, full])[used]
    share = torch.tensor([shares[k] for k in used], device=seen.device).view(-1, 1, 1, 1)
    # The door to the UNet counts the pass; what comes out is read here, where the latents are known apart
    # from the image's channels beside them.
    raw = replace(model, schedule=replace(model.schedule, prediction_type="epsilon"))
    z = torch.randn(seen.shape, generator=torch.Generator().manual_seed(seed)).to(seen)
    with tracker.stage("edit"):
        for number, (upper, lower) in enumerate(pairs, start=1):
            rows = z.expand(len(share), -1, -1, -1)
            output = raw.predict_noise(torch.cat([rows, beside], dim=1), upper, contexts, tracker=tracker)
            noise = (share * model.schedule.noise_from_output(output, rows, upper)).sum(dim=0, keepdim=True)
            z = model.schedule.ddim_step(z, noise, start=upper, end=lower)
            tracker.report(number, settings.steps, z)
    return z


def weights(guidance: float, image_guidance: float) -> tuple[float, float, float]:
    """What Eq. 3 makes of ε(∅, ∅), ε(c_I, ∅) and ε(c_I, c_T), collected: 1 − s_I, s_I − s_T, s_T.

    ε̃ = ε(∅, ∅) + s_I·(ε(c_I, ∅) − ε(∅, ∅)) + s_T·(ε(c_I, c_T) − ε(c_I, ∅)).
    """
    return 1 - image_guidance, image_guidance - guidance, guidance


def instruction_between(source: Prompt, target: Prompt) -> str:
    """The edit as an order: "turn the red cat into a red fox", "add a dog", "remove the dog".

    Where the two prompts name the same objects, or objects that do not pair off, it is to "make it" the target.
    """
    alignment = align(source, target)
    objects = edited_objects(source, target, alignment)
    old = [object_name(source, i) for i in objects.source]
    new = [object_name(target, j) for j in objects.target]
    if old and len(old) == len(new):
        pairs = zip(old, new, strict=True)
        return " and ".join(f"turn the {before} into {with_article(after)}" for before, after in pairs)
    if new and not old and not alignment.removed:
        return " and ".join(f"add {with_article(name)}" for name in new)
    if old and not new and not alignment.changed:
        return " and ".join(f"remove the {name}" for name in old)
    return f"make it {target.text}"


def load_instruct_model(folder: str | Path, *, device: str = "auto", dtype: str = "auto") -> EditModel:
    """Open an InstructPix2Pix model in diffusers' folder layout, safetensors only.

    Raises ValueError for what is no such folder, and, before any weights are read, for a UNet that does not
    read the image.
    """
    path = Path(folder).expanduser()
    where = f"instruct-pix2pix, model {str(folder)!r}"
    wants = "requires the diffusers folder of an InstructPix2Pix model (8 channels)"
    if str(folder) == EMBEDDED:
        raise ValueError(
            f"{where}: the embedded model's UNet does not read an image, {wants};"
            " 'train-embedded --stages instruct' makes one"
        )
    if not str(folder) or not path.is_dir():
        raise ValueError(f"{where}: there is no such folder, {wants}")
    chosen_device = resolve_device(device)
    chosen_dtype = resolve_dtype(dtype, chosen_device)
    configs = parts.read_configs(path)
    refuse_other_unet(configs["unet"].get("in_channels", 4), configs["vae"].get("latent_channels", 4), where)
    with torch.inference_mode(False):
        return parts.open_parts(path, configs, chosen_device, chosen_dtype, where=where)


def refuse_other_unet(channels: int, latent_channels: int, where: str) -> None:
    """Raise ValueError unless the UNet reads latents and the image's latents: 2·C channels."""
    wanted = 2 * latent_channels
    if channels != wanted:
        raise ValueError(f"{where}: its UNet reads {channels} channels, requires {wanted} (an InstructPix2Pix model)")


def instruction_of(models: MethodModels, task: EditTask, settings: InstructPix2PixSettings) -> Prompt:
    """The task's instruction, or, without one, the order that turns its source into its target.

    Raises ValueError for a UNet that does not read an image, a text that does not fit the model, and more steps than
    its schedule has.
    """
    assert models.instruct is not None
    model = models.instruct
    refuse_other_unet(model.unet.config.in_channels, model.vae.config.latent_channels, f"model {model.name!r}")
    model.schedule.timesteps(settings.steps)
    text = task.instruction
    if text is None:
        text = instruction_between(*prompts_of(model, task))
    return parse_prompt(text, model.tokenizer)


def edit_task(
    models: MethodModels, task: EditTask, settings: InstructPix2PixSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """InstructPix2Pix by the task's instruction, or by one that turns its source into its target."""
    assert models.instruct is not None
    model, instruction = models.instruct, instruction_of(models, task, settings)
    latents = edit(model, encoded(model, task, tracker), instruction, settings, seed=seed, tracker=tracker)
    return MethodOutcome(
        decoded(model, latents, task, tracker), latents=on_cpu(latents), details={"instruction": instruction.text}
    )


METHOD = Method(
    "instruct-pix2pix",
    "InstructPix2Pix",
    "Brooks et al. 2023",
    "instructed",
    ("instruct",),
    InstructPix2PixSettings,
    edit_task,
    check_task=instruction_of,
)
