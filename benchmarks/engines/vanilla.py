"""Measure clipdex's in-process engine (plain PyTorch) with random weights.

python -m benchmarks.engines.vanilla --model DIR --batch 1 --tokens 512 PROXY...
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.engines.load import Sample, rates
from benchmarks.engines.measure import PROMPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("videos", type=Path, nargs="+")
    args = parser.parse_args()
    import transformers

    transformers.AutoModelForImageTextToText.from_pretrained = _random_weights(args.device)  # type: ignore[method-assign]
    print(json.dumps(asyncio.run(measure(args))))


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    import torch
    import transformers

    from clipdex.captions.local.model import TransformersModel
    from clipdex.captions.model import Generation, ModelRequest, Video
    from clipdex.config import Settings

    settings = Settings.load(
        engine={"name": "transformers", "model": args.model, "device": args.device, "dtype": "bfloat16",
                "batch_size": args.batch, "in_flight": args.batch}
    )  # fmt: skip
    model = TransformersModel(settings)
    began = time.monotonic()
    await model.check()
    load_s = time.monotonic() - began
    samples: list[Sample] = []

    videos = [Video(path.read_bytes(), 2.0) for path in args.videos]

    async def request(video: Video, tokens: int, since: float) -> None:
        start = time.monotonic() - since
        prompt = ModelRequest(PROMPT, Generation(tokens, temperature=0.2), video)
        reply = await model.complete(prompt)
        samples.append(Sample(start, time.monotonic() - since, reply.prompt_tokens, reply.completion_tokens))

    await request(videos[0], args.tokens, began)  # warm-up: compiles and allocates
    samples.clear()
    began = time.monotonic()
    for first in range(0, len(videos), args.batch):
        await asyncio.gather(*(request(one, args.tokens, began) for one in videos[first : first + args.batch]))
    await model.aclose()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"load_s": round(load_s, 1), "versions": versions, "rates": rates(samples, args.batch).to_json()}


def _random_weights(device: str) -> Any:
    """Return a loader with random weights, like --load-format dummy: real speed, random text, no end token."""

    def load(folder: Path, **_: Any) -> Any:
        import torch
        from transformers import AutoConfig, AutoModelForImageTextToText

        config = AutoConfig.from_pretrained(folder)
        with torch.device(device):
            model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
        model.generation_config.eos_token_id = [10**6]
        return model

    return load


if __name__ == "__main__":
    main()
