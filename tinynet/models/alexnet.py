"""Two AlexNets: the one of torchvision, with its weights, and one made for 64×64 pictures."""

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn


class AlexNet(nn.Module):
    """Convolutions, a pooling to a fixed map, three fully connected layers.

    ``features`` and ``classifier`` hold torchvision's layers under torchvision's names; the last
    entry of ``classifier`` gives the logits. (n, C, H, W) → (n, num_classes).
    """

    def __init__(self, features: nn.Sequential, pool: int, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = classifier
        head = self.get_classifier()
        self.num_features, self.num_classes = head.in_features, head.out_features

    def get_classifier(self) -> nn.Linear:
        """The layer that gives the logits."""
        head = self.classifier[-1]
        assert isinstance(head, nn.Linear)
        return head

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:  # noqa: ARG002
        """How timm tells layers, and their order, by their weights' names."""
        return {"features": r"^features\.(\d+)", "classifier": r"^classifier\.(\d+)"}

    def reset_classifier(self, num_classes: int) -> None:
        """Start again with another number of classes."""
        self.classifier[-1] = nn.Linear(self.num_features, num_classes)
        self.num_classes = num_classes

    def forward_features(self, images: Tensor) -> Tensor:
        """Pictures to the map of the last convolution."""
        return self.features(images)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map to logits, or to what the last layer sees."""
        flat = torch.flatten(self.avgpool(features), 1)
        layers = self.classifier[:-1] if pre_logits else self.classifier
        return layers(flat)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures to logits."""
        return self.forward_head(self.forward_features(images))


def torchvision_alexnet(
    num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5
) -> AlexNet:
    """The layers of torchvision's AlexNet (Krizhevsky, 2014, arXiv:1404.5997)."""
    features = nn.Sequential(
        nn.Conv2d(in_chans, 64, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
    )
    classifier = nn.Sequential(
        nn.Dropout(drop_rate),
        nn.Linear(256 * 6 * 6, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(drop_rate),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, num_classes),
    )
    return AlexNet(features, 6, classifier)


def small_alexnet(num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.1) -> AlexNet:
    """Five convolutions and three fully connected layers for 64×64 pictures, batch-normalised.

    64 → 32 → 16 → 8 → 4 pixels a side; 5.9 million parameters at 200 classes. Kernels are 3×3 and
    the first keeps the size, as in stems for small pictures; pooling before the norm costs less
    than after it and gives the same, up to the statistics.
    """

    def conv(inside: int, outside: int, pool: bool = True) -> list[nn.Module]:
        return [
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            *([nn.MaxPool2d(2)] if pool else []),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        ]

    def full(inside: int, outside: int) -> list[nn.Module]:
        return [
            nn.Dropout(drop_rate),
            nn.Linear(inside, outside, bias=False),
            nn.BatchNorm1d(outside),
            nn.ReLU(inplace=True),
        ]

    features = nn.Sequential(
        *conv(in_chans, 32),
        *conv(32, 96),
        *conv(96, 256),
        *conv(256, 384, pool=False),
        *conv(384, 384),
    )
    classifier = nn.Sequential(
        *full(384 * 4 * 4, 512), *full(512, 512), nn.Linear(512, num_classes)
    )
    return AlexNet(features, 4, classifier)


default_cfgs = generate_default_cfgs(
    {
        "alexnet64": {
            "input_size": (3, 64, 64),
            "first_conv": "features.0",
            "classifier": "classifier.8",
        },
        "alexnet.tv_in1k": {
            "url": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "input_size": (3, 224, 224),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "first_conv": "features.0",
            "classifier": "classifier.6",
        },
    }
)


@register_model
def alexnet64(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """AlexNet made for 64×64 pictures."""
    return build_model_with_cfg(small_alexnet, "alexnet64", pretrained, **kwargs)


@register_model
def alexnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """torchvision's AlexNet; 56.5 / 79.1 % on ImageNet with its weights, at 224 px."""
    return build_model_with_cfg(torchvision_alexnet, "alexnet", pretrained, **kwargs)
