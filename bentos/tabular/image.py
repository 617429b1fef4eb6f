"""The container image of the Bento: the one place where its base and its packages are chosen.

The packages are those pinned in `requirements.txt`, which the build writes beside this file: the
versions that the model was tried with, with everything they need, so that nothing is resolved anew.
The image for GPUs is the same but for what the NVIDIA runtime is asked for: the wheels of XGBoost
and torch bring their own CUDA libraries, the host brings the driver.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bentoml.images import Image

from bentos.tabular.settings import VARIABLES

PYTHON = "3.11"
_GPU = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}


def image(requirements: Path) -> Image:
    """Return the image with the pinned packages of `requirements`."""
    pins = requirements.read_text().splitlines()
    return Image(python_version=PYTHON, lock_python_packages=False).python_packages(*pins)


def environment(device: str) -> list[Any]:
    """Return the variables of a server on "cpu", "cuda" or "auto", in an image or not."""
    variables = VARIABLES if device == "cpu" else VARIABLES | _GPU
    return [{"name": name, "value": value} for name, value in variables.items()]
