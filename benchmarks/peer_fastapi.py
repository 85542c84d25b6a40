"""Serve a checkpoint as people do who write their own: FastAPI and a pipeline of transformers.

`python peer_fastapi.py CHECKPOINT PORT`.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image
from transformers import pipeline

app = FastAPI()
classify = pipeline("image-classification", model=sys.argv[1])


@app.get("/health")  # type: ignore[untyped-decorator]
def health() -> str:
    """Answer once the model is there."""
    return "ok"


@app.post("/predict")  # type: ignore[untyped-decorator]
def predict(file: UploadFile) -> Any:
    """Return labels and scores, best first."""
    return classify(Image.open(file.file))


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
