"""Train image classifiers on Tiny ImageNet, and understand their mistakes."""

__version__ = "0.1.0"
