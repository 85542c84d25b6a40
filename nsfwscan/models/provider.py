"""What can compute. Apart from the classifier, so that naming a provider loads no runtime."""

from __future__ import annotations

from enum import StrEnum


class Provider(StrEnum):
    """An execution provider; `auto` takes the first of the others that is there."""

    AUTO = "auto"
    CUDA = "cuda"
    DIRECTML = "directml"
    COREML = "coreml"
    OPENVINO = "openvino"
    CPU = "cpu"
