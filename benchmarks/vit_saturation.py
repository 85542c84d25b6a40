"""Show whether the 8-bit products of a package saturate on this processor.

    python -m benchmarks.vit_saturation PACKAGE PICTURE [PICTURE ...]

The same integers go through two kernels of onnxruntime: the fast one for int8 weights, whose sums
of two products can overflow 16 bits on processors without VNNI, and the slower one for uint8
weights, which widens first and cannot. Where every bit of the logits is the same, nothing saturated
here, and the integers are those of any other processor. Exits with 1 when a bit differs. For
recipes with fixed scales.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from typing import TYPE_CHECKING

import numpy as np

from nsfwscan.media.decode.decode import decode
from nsfwscan.models.classifier import to_scores
from nsfwscan.models.graphs import onnx_file
from nsfwscan.models.manifest import MODEL_NAME
from nsfwscan.models.package import open_package
from quantize.session import OrtSession
from quantize.vit_graph import LOGITS

if TYPE_CHECKING:
    from nsfwscan.models.graphs.graph import Graph

_ZERO = "middle.128"


def with_unsigned_weights(graph: Graph) -> Graph:
    """Return `graph` with the same weights as uint8 around 128."""
    weights = {**graph.weights, _ZERO: np.array(128, np.uint8)}
    nodes = []
    for node in graph.nodes:
        if node.op == "MatMulIntegerToFloat" and node.inputs[1] in graph.weights:
            name = node.inputs[1]
            weights[name] = (graph.weights[name].astype(np.int16) + 128).astype(np.uint8)
            node = dataclasses.replace(node, inputs=(*node.inputs[:5], _ZERO, *node.inputs[6:]))
        nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes), weights=weights)


def main(package: str, paths: list[str]) -> int:
    """Print one line for each picture and return 1 when a bit differs."""
    manifest = open_package(package).manifest
    geometry = manifest.input.geometry
    shape = (geometry.crop_height, geometry.crop_width, 3)
    fast = OrtSession(package)
    equal, worst = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        graph = onnx_file.read(os.path.join(package, MODEL_NAME))
        onnx_file.write(with_unsigned_weights(graph), folder)
        careful = OrtSession(folder)
        for path in paths:
            with open(path, "rb") as stream:
                pixels = decode(stream.read(), geometry).pixels
            one = np.frombuffer(pixels, np.uint8).reshape(-1, *shape)[:1]
            rows = [session.run(one, [LOGITS])[0][0] for session in (fast, careful)]
            here, wanted = (to_scores(row.astype(float).tolist(), manifest).unsafe for row in rows)
            equal += rows[0].tobytes() == rows[1].tobytes()
            worst = max(worst, abs(here - wanted))
            print(f"{here:.5f}  {wanted:.5f}  {path}", flush=True)
    print(f"{equal} of {len(paths)} pictures have equal bits; scores differ by at most {worst:.5f}")
    return int(equal < len(paths))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
