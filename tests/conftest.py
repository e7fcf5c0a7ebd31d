from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ifam.errors import IfamError, UsageError
from ifam.model.two_stage import IFAM

torch.set_num_threads(1)

MakeVit = Callable[..., VisionTransformer]
MakeModel = Callable[..., IFAM]
RefusesLine = Callable[..., AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomise(module: nn.Module) -> None:
    """Weights large enough that every token, head and layer matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


@pytest.fixture
def make_vit() -> MakeVit:
    """A tiny transformer with random weights; arguments as for timm's."""

    def make(**changes: Any) -> VisionTransformer:
        tiny = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0}
        vit = VisionTransformer(**tiny | changes)
        randomise(vit)
        return vit.eval()

    return make


@pytest.fixture
def make_model(make_vit: MakeVit) -> MakeModel:
    """A tiny model in eval mode, its two stages with different weights; ``vit`` holds changes of the backbone."""

    def make(vit: dict[str, Any] | None = None, **options: Any) -> IFAM:
        model = IFAM(make_vit(**vit or {}), **{"num_parts": 3, "num_classes": 4} | options)
        randomise(model)
        return model.eval()

    return make


@pytest.fixture
def refuses_line() -> RefusesLine:
    """Expects an error of one line that holds every part."""

    @contextmanager
    def check(*parts: object, error: type[IfamError] = UsageError) -> Iterator[None]:
        with pytest.raises(error) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        assert [part for part in map(str, parts) if part not in message] == [], message

    return check
