"""Which of an encoder's parameters learn, and how fast."""

from __future__ import annotations

from typing import Any

from torch import nn

from simsong.errors import ModelError


def parameter_groups(encoder: nn.Module, stages: list[list[nn.Parameter]], learning_rate: float,
                     weight_decay: float, layer_decay: float, freeze: int) -> list[dict[str, Any]]:
    """Groups for AdamW: {"params", "lr", "weight_decay", "scale"}, where lr = scale · learning_rate.

    A layer's scale is layer_decay to the number of layers above it, of which the head and pooling are the
    uppermost: of L layers, the highest has layer_decay, the lowest layer_decay ** L, what is below them
    layer_decay ** (L + 1), and the head 1 (as in ELECTRA and BEiT).

    Args:
        stages: parameters of the embeddings, then of each layer from below; all others are the head's.
        freeze: so many layers, and the embeddings below them, do not learn: their parameters are in no group,
            and ask for no gradient. 0: all learn.
    Raises: ModelError where more are to be frozen than there are.
    """
    layers = len(stages) - 1
    if freeze > layers:
        raise ModelError(f"training.freeze = {freeze}, but this encoder has {layers} layers")
    frozen = 1 + freeze if freeze else 0
    place = {id(parameter): at for at, stage in enumerate(stages) for parameter in stage}
    bare = undecayed(encoder)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for parameter in encoder.parameters():
        at = place.get(id(parameter), layers + 1)
        parameter.requires_grad_(at >= frozen)
        if at >= frozen:
            above = layers + 1 - at if layer_decay != 1 else 0
            groups.setdefault((above, id(parameter) in bare), []).append(parameter)
    return [{"params": parameters, "lr": learning_rate * layer_decay ** above,
             "weight_decay": 0.0 if is_bare else weight_decay, "scale": layer_decay ** above}
            for (above, is_bare), parameters in sorted(groups.items(), key=lambda item: item[0])]


def undecayed(encoder: nn.Module) -> set[int]:
    """ids of the parameters that are no weights: biases and gains, tokens and positions."""
    ids: set[int] = set()
    for module in encoder.modules():
        for name, parameter in module.named_parameters(recurse=False):
            # A token or a gain of weight normalisation is a vector with axes of length 1 about it.
            vector = parameter.ndim != 2 and parameter.numel() == max(parameter.shape, default=1)
            if vector or name == "position_embeddings" or isinstance(module, nn.Embedding):
                ids.add(id(parameter))
    return ids
