"""The compiled loops, which setup.cfg cannot name; without a C compiler tinynet does without."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "tinynet._native", ["tinynet/native.c"], extra_compile_args=["-O3"], optional=True
        )
    ]
)
