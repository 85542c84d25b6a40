"""What the Hugging Face hub's own client makes of a server: `hub_client.py URL PICTURE...`.

Runs in a process of its own, with whatever version of huggingface_hub is on its path, and prints
what came back as JSON. A call that raises gives the name of the exception and its text.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import AsyncInferenceClient, InferenceClient

CALLS: dict[str, Callable[[Any, Path], Any]] = {
    "path": lambda client, picture: client.image_classification(str(picture)),
    "bytes": lambda client, picture: client.image_classification(picture.read_bytes()),
    "top_k": lambda client, picture: client.image_classification(str(picture), top_k=1),
    "softmax": lambda client, picture: client.image_classification(
        picture.read_bytes(), function_to_apply="softmax"
    ),
    "sigmoid": lambda client, picture: client.image_classification(
        picture.read_bytes(), function_to_apply="sigmoid"
    ),
    "none": lambda client, picture: client.image_classification(
        picture.read_bytes(), function_to_apply="none", top_k=2
    ),
    "zero_shot": lambda client, picture: client.zero_shot_image_classification(
        str(picture), candidate_labels=["cat", "dog"]
    ),
}


def plain(found: Any) -> Any:
    return [{"label": one.label, "score": one.score} for one in found]


def answer(call: Callable[[], Any]) -> Any:
    try:
        return plain(call())
    except Exception as error:
        return {"raised": type(error).__name__, "said": str(error)}


async def answer_async(call: Callable[[], Any]) -> Any:
    try:
        found = call()
        return plain(await found if inspect.isawaitable(found) else found)
    except Exception as error:
        return {"raised": type(error).__name__, "said": str(error)}


async def all_async(url: str, pictures: list[Path]) -> dict[str, Any]:
    client = AsyncInferenceClient(model=url)
    found = {}
    for picture in pictures:
        found[picture.name] = {
            name: await answer_async(partial(call, client, picture)) for name, call in CALLS.items()
        }
    return found


def main() -> None:
    url, *paths = sys.argv[1:]
    pictures = [Path(path) for path in paths]
    client = InferenceClient(model=url)
    sync = {
        picture.name: {name: answer(partial(call, client, picture)) for name, call in CALLS.items()}
        for picture in pictures
    }
    other = InferenceClient(base_url=f"{url}/predict").image_classification(str(pictures[0]))
    named = InferenceClient(model=f"{url}/models/tiny").image_classification(str(pictures[0]))
    status = InferenceClient(model=url, provider="hf-inference")
    print(
        json.dumps(
            {
                "version": huggingface_hub.__version__,
                "sync": sync,
                "async": asyncio.run(all_async(url, pictures)),
                "base_url": plain(other),
                "named": plain(named),
                "health": status.health_check(),
                "info": status.get_endpoint_info(),
            }
        )
    )


if __name__ == "__main__":
    main()
