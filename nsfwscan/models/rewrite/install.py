"""Converts a downloaded float network while it is installed, by a plan that comes with nsfwscan.

In: the verified float graph. Out: an INT8 graph whose checksum the catalogue knows; what has
another checksum is refused, so whatever goes wrong, no other graph is installed. The arithmetic of
a conversion is exact (see `rounding`), so it gives the same bytes everywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nsfwscan.models.manifest import Artefact, ChannelOrder, DType, InputSpec, Layout, ModelManifest
from nsfwscan.system.reading import open_bytes
from nsfwscan.values.errors import ModelUnusable

if TYPE_CHECKING:
    from nsfwscan.models.catalogue import Conversion

PIXELS = "pixels"
_HERE = os.path.dirname(os.path.abspath(__file__))


def as_int8(manifest: ModelManifest) -> ModelManifest:
    """Return the manifest of the INT8 form of a float package, without its recipe and figures."""
    return replace(
        manifest,
        version=f"{manifest.version}-int8",
        title=f"{manifest.title}, INT8",
        input=int8_input(manifest.input),
        recipe="none",
        agreement={},
        probes=(),
        notes="",
        rewriting=None,
    )


def int8_input(spec: InputSpec) -> InputSpec:
    """Return the input of a converted graph: the pixels themselves."""
    return InputSpec(
        name=PIXELS,
        dtype=DType.UINT8,
        layout=Layout.NHWC,
        channel_order=ChannelOrder.RGB,
        geometry=spec.geometry,
        scale=1.0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def convert_file(path: str, spec: InputSpec, conversion: Conversion) -> Artefact:
    """Replace the float graph in the file `path`, whose input `spec` describes, by its INT8 form.

    Returns its size and checksum. Raises `ModelUnusable` if it is not the graph that the catalogue
    knows, OSError if the file cannot be written.
    """
    # These import numpy, which listing models does not need.
    from nsfwscan.models.graphs import onnx_file
    from nsfwscan.models.rewrite import convolutions
    from nsfwscan.models.rewrite.plan import parse_plan

    with open_bytes(os.path.join(_HERE, "plans", conversion.plan)) as packed:
        plan = parse_plan(gzip.decompress(packed.read()).decode())
    with open_bytes(path) as stream:
        given = stream.read()
    graph = onnx_file.parse(given, os.path.basename(path))
    data = onnx_file.to_bytes(convolutions.convert(graph, spec, plan))
    found = Artefact(hashlib.sha256(data).hexdigest(), len(data))
    if found.sha256 != conversion.sha256:
        raise ModelUnusable(
            "the model could not be converted to INT8: the result is not the expected one",
            hint="please report this with the versions of Python, numpy and protobuf",
        )
    with open(path, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    return found
