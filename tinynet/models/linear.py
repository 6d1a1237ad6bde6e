"""A linear map of the pixels: with the hinge loss it is a linear support vector machine."""

from collections.abc import Iterable
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 32
"""Pictures are averaged down to this many pixels a side: finer detail says nothing to a plane."""

COMPONENTS = 600
"""Principal components that are kept."""

RIDGE = 0.5
"""Added to the components' variances before whitening, in units of the mean variance, so that the
weakest ones are not blown up."""


class Linear(nn.Module):
    """A fixed whitening and a linear layer: (n, C, S, S) → logits (n, num_classes).

    All of it is one affine map of the pixels. ``symmetric`` sees every picture as the mean of
    itself and its mirror image, for classes that a mirror does not change.
    """

    center: Tensor
    whitening: Tensor

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int = 64,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.side = min(SIDE, img_size)
        inputs = in_chans * self.side * (-(-self.side // 2) if symmetric else self.side)
        self.num_classes, self.num_features = num_classes, min(COMPONENTS, inputs)
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("whitening", torch.eye(inputs, self.num_features))
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Linear:
        """The layer that gives the logits."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Start again with another number of classes."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes)
        # The problem is convex: start at zero, where no class is favoured.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def fit_inputs(self, batches: Iterable[Tensor]) -> None:
        """Take the whitening from the training pictures, batches of (n, C, S, S).

        Principal components by the eigenvectors of the covariance (PCA whitening, as in Krizhevsky,
        "Learning multiple layers of features from tiny images", 2009), with a ridge.
        """
        count, total, products = 0, torch.zeros(()), torch.zeros(())
        for images in batches:
            pixels = self.pixels(images.float()).double()
            count += len(pixels)
            total = total + pixels.sum(0)
            products = products + pixels.T @ pixels
        center = total / count
        covariance = products / count - center.outer(center)
        variances, directions = torch.linalg.eigh(covariance)
        kept = slice(-self.num_features, None)
        # What is measured on few pictures is uncertain by about inputs/pictures (Marchenko and
        # Pastur, 1967).
        ridge = (RIDGE + len(center) / count) * variances.mean()
        scale = (variances[kept] + ridge).rsqrt()
        # Unit mean square over the components, so that a learning rate means the same everywhere.
        scale /= (scale.square() * variances[kept]).mean().sqrt()
        self.center.copy_(center)
        self.whitening.copy_(directions[:, kept] * scale)

    def pixels(self, images: Tensor) -> Tensor:
        """The numbers that are whitened: the pictures, averaged down and flattened."""
        small = F.adaptive_avg_pool2d(images, self.side)
        if self.symmetric:
            small = ((small + small.flip(3)) / 2)[..., : -(-self.side // 2)]
        return torch.flatten(small, 1)

    def forward_features(self, images: Tensor) -> Tensor:
        """The whitened pictures (n, num_features)."""
        return (self.pixels(images) - self.center) @ self.whitening

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features to logits."""
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.forward_head(self.forward_features(images))


default_cfgs = generate_default_cfgs(
    {
        name: {
            "input_size": (3, 64, 64),
            "fixed_input_size": True,
            "classifier": "head",
            "first_conv": None,
        }
        for name in ("svm", "svm_symmetric")
    }
)


@register_model
def svm(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A linear classifier of the whitened pixels; train it with ``loss.name: hinge``."""
    return build_model_with_cfg(Linear, "svm", pretrained, **kwargs)


@register_model
def svm_symmetric(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """``svm`` of pictures averaged with their mirror images."""
    return build_model_with_cfg(Linear, "svm_symmetric", pretrained, symmetric=True, **kwargs)
