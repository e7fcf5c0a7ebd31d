"""Two explainers for transformers that neither captum nor pytorch-grad-cam has.

Attention rollout: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.
Layer-wise relevance propagation: Ali et al., "XAI for Transformers: Better Explanations through Conservative
Propagation", ICML 2022: the layers that are not linear are taken as linear with the factors that they had for this
image (attention weights; the deviation that a LayerNorm divides by; the ratio of an activation's output to its input).
Relevance is then input times gradient, and layer by layer its sum stays the logit, but for what the biases hold.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ifam.benchmarks.faithfulness.explained import Explained


def relevance(explained: Explained, images: Tensor, targets: Tensor) -> Tensor:
    """Relevance of every token, prefix first, before the first block: (1, T, D), packed as `Explained` has it."""
    from captum.attr import LayerGradientXActivation

    with conservative(explained):
        found: Tensor = LayerGradientXActivation(explained, explained.backbone.vit.norm_pre).attribute(
            images, target=targets
        )
    return found


@contextmanager
def conservative(explained: Explained) -> Iterator[None]:
    """Inside the block the network gives the same logits, and the gradients of one that is linear in its tokens."""
    blocks = explained.backbone.vit.blocks
    with ExitStack() as stack:

        def after(module: nn.Module, hook: Callable[..., Tensor]) -> None:
            stack.callback(module.register_forward_hook(hook).remove)

        for module in explained.classifier.modules():
            if isinstance(module, nn.LayerNorm):
                after(module, _with_held_deviation)
        for block in blocks:
            after(block.attn.q_norm, _held)
            after(block.attn.k_norm, _held)
            after(block.mlp.act, _with_held_ratio)
        yield


def _held(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.detach()


def _with_held_ratio(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """The same output as input times a constant. At input 0, where the ratio has no value, the output is 0 as well."""
    (value,) = inputs
    ratio = torch.where(value == 0, 0.5, output / value.where(value != 0, 1.0))
    return value * ratio.detach()


def _with_held_deviation(module: nn.LayerNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    (value,) = inputs
    axes = tuple(range(-len(module.normalized_shape), 0))
    centred = value - value.mean(axes, keepdim=True)
    normal = centred / (centred.square().mean(axes, keepdim=True) + module.eps).sqrt().detach()
    scaled: Tensor = normal if module.weight is None else normal * module.weight
    return scaled if module.bias is None else scaled + module.bias


def rollout(attentions: Sequence[Tensor]) -> Tensor:
    """How much each token reaches the first one through all layers, (N,): the class token's row of the product.

    ``attentions``: of each layer (H, N, N), rows sum to 1; of the last one the first row is enough, (H, 1, N). Half of
    every token comes through the residual connection.
    """
    reach = itself = torch.eye(attentions[0].shape[-1]).to(attentions[0])
    for attention in attentions:
        reach = (attention.mean(0) + itself[: attention.shape[1]]) / 2 @ reach
    return reach[0]


@torch.no_grad()
def packed_rollout(explained: Explained, images: Tensor) -> Tensor:
    """`rollout` of every image: (1, T, 1), packed as `Explained` has it."""
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    with ExitStack() as stack:
        for block in explained.backbone.vit.blocks:
            for norm, kept in ((block.attn.q_norm, queries), (block.attn.k_norm, keys)):
                stack.callback(norm.register_forward_hook(_keep_in(kept)).remove)
        explained(images)
    lengths, alone = explained.lengths, [1] * len(images)  # in the last layer the class tokens alone ask
    sizes = [lengths] * (len(queries) - 1) + [alone]
    layers = [
        (torch.split(query[0], asking, dim=1), torch.split(key[0], lengths, dim=1))
        for query, key, asking in zip(queries, keys, sizes, strict=True)
    ]
    rows = []
    for image in range(len(images)):
        pairs = [(query[image], key[image]) for query, key in layers]  # (H, N, d)
        attentions = [(q.float() @ k.float().mT * q.shape[-1] ** -0.5).softmax(-1) for q, k in pairs]
        rows.append(rollout(attentions))
    return torch.cat(rows)[None, :, None]


def _keep_in(kept: list[Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(output)

    return hook
