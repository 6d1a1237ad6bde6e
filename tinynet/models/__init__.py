"""Models by name, all through timm; ours are registered with it when this package is imported."""

from tinynet.models import alexnet, linear
from tinynet.models.create import create_model

__all__ = ["alexnet", "create_model", "linear"]
