"""Figures of the README and the docs, each made by a command."""
