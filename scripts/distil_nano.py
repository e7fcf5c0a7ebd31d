"""Distil the embedded backbone `ifam-nano` from a DINOv2-like teacher on unlabelled photographs.

The student (patches of 8 pixels, 112 pixels: a grid of 14×14) learns the teacher's patch and class tokens (patches of
14 pixels, the same view at 196 pixels: the same grid). The teacher sees every view once; its tokens stay in memory in
half precision. The first blocks of an ImageNet ViT-Ti, where one is given, save most of the training.

    python scripts/distil_nano.py PHOTOGRAPHS --teacher FILE --start FILE --out src/ifam/weights/ifam-nano.safetensors
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import save_file
from timm.layers.patch_embed import resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from ifam.device import pick_device
from ifam.files import replacing
from ifam.model.backbone import Backbone
from ifam.model.build import build_vit, read_safetensors

GRID, PATCH, TEACHER_PATCH = 14, 8, 14
STUDENT: dict[str, Any] = {"patch_size": PATCH, "embed_dim": 192, "depth": 8, "num_heads": 3}
MEAN = STD = (0.5, 0.5, 0.5)


class Student(nn.Module):
    """The transformer and the linear map from its tokens to the teacher's, which is thrown away afterwards."""

    def __init__(self, teacher_width: int) -> None:
        super().__init__()
        vit = VisionTransformer(img_size=GRID * PATCH, num_classes=0, **STUDENT)
        self.backbone = Backbone(vit)
        self.to_teacher = nn.Linear(self.backbone.width, teacher_width)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens in the teacher's space: (B, 1 + N, teacher's width)."""
        tokens: Tensor = self.to_teacher(self.backbone(images))
        return tokens


def start_from(student: Student, path: Path) -> None:
    """The first blocks, the patch embedding and the positions of a larger ViT of the same width."""
    state, _ = read_safetensors(path)
    vit = student.backbone.vit
    wanted = {name: state[name].float() for name in vit.state_dict() if name in state}
    wanted["patch_embed.proj.weight"] = resample_patch_embed(wanted["patch_embed.proj.weight"], [PATCH, PATCH])
    if wanted["pos_embed"].shape != vit.pos_embed.shape:
        raise SystemExit(f"{path}: expected positions of a {GRID}×{GRID} grid, got {tuple(wanted['pos_embed'].shape)}")
    vit.load_state_dict(wanted)


def draw_views(photographs: list[Path], views: int, batch_size: int) -> Iterator[Tensor]:
    """Random crops (B, 3, 196, 196), uint8; every photograph is read once for all its views."""
    crop = v2.RandomResizedCrop(GRID * TEACHER_PATCH, scale=(0.25, 1.0), antialias=True)
    waiting: list[Tensor] = []
    for path in track(photographs, description="teacher"):
        image = decode_image(str(path), mode=ImageReadMode.RGB)
        waiting += [crop(image) for _ in range(views)]
        while len(waiting) >= batch_size:
            yield torch.stack(waiting[:batch_size])
            waiting = waiting[batch_size:]
    if waiting:
        yield torch.stack(waiting)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 to normalised floats."""
    return v2.functional.normalize(images.float() / 255, list(mean), list(std))


@torch.inference_mode()
def teach(photographs: list[Path], teacher: Path, options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Small views (M, 3, 112, 112) uint8 and the teacher's standardised tokens of them (M, 1 + N, D) half."""
    start = build_vit(teacher, pretrained=True, image_size=(GRID * TEACHER_PATCH,) * 2)
    backbone = Backbone(start.vit).to(options.device).eval()
    images, targets = [], []
    for views in draw_views(photographs, options.views, options.batch_size):
        views = views.to(options.device)
        with torch.autocast(options.device, torch.bfloat16):
            targets.append(backbone(normalise(views, start.mean, start.std)).half().cpu())
        images.append(v2.functional.resize(views, [GRID * PATCH] * 2, antialias=True).cpu())
    tokens = torch.cat(targets)
    for part in (tokens[:, :1], tokens[:, 1:]):
        sample = part[::17].float().flatten(0, 1)
        part.sub_(sample.mean(0).half()).div_(sample.std(0).half())
    return torch.cat(images), tokens


def augment(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the views mirrored, with their targets; colours and sharpness vary, the targets do not."""
    if torch.rand(()) < 0.5:
        grid = targets[:, 1:].unflatten(1, (GRID, GRID)).flip(2).flatten(1, 2)
        images, targets = images.flip(-1), torch.cat([targets[:, :1], grid], 1)
    jitter = v2.Compose([v2.ColorJitter(0.3, 0.3, 0.3, 0.05), v2.RandomGrayscale(0.1)])
    return jitter(images), targets


def distil(student: Student, images: Tensor, targets: Tensor, options: argparse.Namespace) -> None:
    """Cosine loss on standardised tokens, class token counted as a tenth of the patches."""
    steps_per_epoch = len(images) // options.batch_size
    optimizer = torch.optim.AdamW(student.parameters(), lr=options.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=options.epochs * steps_per_epoch, pct_start=0.1
    )
    student.to(options.device).train()
    for epoch in range(options.epochs):
        order, total = torch.randperm(len(images)), 0.0
        for step in track(range(steps_per_epoch), description=f"epoch {epoch + 1}/{options.epochs}"):
            chosen = order[step * options.batch_size : (step + 1) * options.batch_size]
            views, wanted = augment(images[chosen].to(options.device), targets[chosen].to(options.device))
            with torch.autocast(options.device, torch.bfloat16):
                found = student(normalise(views, MEAN, STD))
            distance = 1 - F.cosine_similarity(found.float(), wanted.float(), dim=-1)
            loss = distance[:, 1:].mean() + 0.1 * distance[:, 0].mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total / steps_per_epoch:.4f}", flush=True)
        save(student, options)


def save(student: Student, options: argparse.Namespace) -> None:
    """Half-precision weights with what it takes to build the transformer."""
    vit = student.backbone.vit
    metadata = {
        "arguments": json.dumps(STUDENT | {"img_size": GRID * PATCH}),
        "image_size": str(GRID * PATCH),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "source": f"distilled by scripts/distil_nano.py from {options.teacher.name}",
        "licence": "Apache-2.0",
    }
    with replacing(options.out) as path:
        save_file({name: value.half().cpu().contiguous() for name, value in vit.state_dict().items()}, path, metadata)


def main() -> None:
    """Teach, distil, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="ViT-Ti/16 weights to start from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--views", type=int, default=6, help="crops of each photograph")
    parser.add_argument("--epochs", type=int, default=4, help="passes over all crops")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="photographs to use, for a trial")
    parser.add_argument("--device", default=None)
    options = parser.parse_args()
    options.device = options.device or pick_device("auto")
    torch.manual_seed(options.seed)
    photographs = sorted(path for path in options.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    images, targets = teach(photographs[: options.limit], options.teacher, options)
    student = Student(targets.shape[-1])
    if options.start is not None:
        start_from(student, options.start)
    distil(student, images, targets, options)


if __name__ == "__main__":
    main()
