"""The container image of the Bento: the one place where its base and its packages are chosen.

The packages are those pinned in `requirements.txt`, which the build writes beside this file: the
versions that the model was tried with, with everything they need, so that nothing is resolved anew.
A variant for GPUs differs here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from bentoml.images import Image

PYTHON = "3.11"


def image(requirements: Path) -> Image:
    """Return the image for CPUs with the pinned packages of `requirements`."""
    pins = requirements.read_text().splitlines()
    return Image(python_version=PYTHON, lock_python_packages=False).python_packages(*pins)
