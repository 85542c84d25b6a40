"""Serve a checkpoint with LitServe and a pipeline of transformers, pictures in base64 in JSON.

`python peer_litserve.py CHECKPOINT PORT BATCH`.
"""

from __future__ import annotations

import base64
import io
import sys
from typing import Any

import litserve
from PIL import Image
from transformers import pipeline

CHECKPOINT, PORT, BATCH = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


class Scores(litserve.LitAPI):  # type: ignore[misc]
    """Labels and scores, best first."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.classify = pipeline("image-classification", model=CHECKPOINT, device=device)

    # LitServe would take a type as what the body must be.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """Return the picture of a request."""
        return Image.open(io.BytesIO(base64.b64decode(request["image_data"])))

    def predict(self, x: Any) -> Any:
        """Score a picture, or a list of them."""
        return self.classify(x, batch_size=BATCH)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        """Return the answer."""
        return output


if __name__ == "__main__":
    api = Scores(max_batch_size=BATCH, batch_timeout=0.01 if BATCH > 1 else 0.0)
    litserve.LitServer(api, accelerator="cpu").run(
        port=PORT, generate_client_file=False, log_level="warning"
    )
