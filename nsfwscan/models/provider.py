"""Execution providers. Separate from the classifier, so that naming one loads no runtime."""

from __future__ import annotations

from enum import StrEnum


class Provider(StrEnum):
    """An execution provider; `auto` takes the first of the others that is available."""

    AUTO = "auto"
    CUDA = "cuda"
    DIRECTML = "directml"
    COREML = "coreml"
    OPENVINO = "openvino"
    CPU = "cpu"
