"""A linear map of the pixels: with the hinge loss it is a linear support vector machine."""

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn


class Linear(nn.Module):
    """One linear layer on the flattened picture: (n, C, S, S) → logits (n, num_classes)."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, img_size: int = 64) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = in_chans * img_size * img_size
        self.head = nn.Linear(self.num_features, num_classes)
        # The problem is convex: start at zero, where no class is favoured.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def get_classifier(self) -> nn.Linear:
        """The layer that gives the logits."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Start again with another number of classes."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """The flattened pictures (n, C·S·S)."""
        return torch.flatten(images, 1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits."""
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.forward_head(self.forward_features(images))


default_cfgs = generate_default_cfgs(
    {
        "svm": {
            "input_size": (3, 64, 64),
            "fixed_input_size": True,
            "classifier": "head",
            "first_conv": None,
        }
    }
)


@register_model
def svm(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A linear classifier of the pixels; train it with ``loss.name: hinge``."""
    return build_model_with_cfg(Linear, "svm", pretrained, **kwargs)
