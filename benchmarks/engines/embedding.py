"""Measure embeddings on a GPU host: SGLang alone, and beside captioning on the same card.

    python -m benchmarks.engines.embedding --site DIR --model DIR --out DIR [--clips 1152] [--seconds 540]

1. docker/sglang/serve with the profile embedding, a Qwen3 of 0.6B with random weights: chunks per second by clipdex's
   embedder and by a plain client (benchmarks.embedding_server).
2. The profile h100-h200 beside it on the same card: clips per second of a closed loop while the other server is idle,
   and while clipdex embeds as many chunks as the captions have, 4 per clip (load.py).

Random weights make speed real and vectors meaningless. The proxies are noise, 20 frames of 476x280. Results are written
as they come.
"""

import argparse
import io
import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.engines import load, servers
from benchmarks.engines.measure import PROMPT
from benchmarks.engines.servers import SERVED, Host

CHUNKS_PER_CLIP, IN_FLIGHT, EMBEDDER = 4, 384, "qwen3-embedding-0.6b"
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072,
    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "hidden_act": "silu", "max_position_embeddings": 32768, "max_window_layers": 28, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000, "rope_scaling": None, "sliding_window": None, "use_sliding_window": False,
    "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "tie_word_embeddings": True,
    "use_cache": True, "vocab_size": 152064, "bos_token_id": 151643, "eos_token_id": 151643, "torch_dtype": "bfloat16",
}  # fmt: skip
"""Qwen/Qwen3-Embedding-0.6B, config.json, with the vocabulary of Qwen2.5-VL, whose tokenizer is used."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", required=True, help="folder with SGLang")
    parser.add_argument("--model", type=Path, required=True, help="folder of Qwen2.5-VL-7B, at least its tokenizer")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=1152)
    parser.add_argument("--seconds", type=float, default=540.0, help="start no measurement after this time")
    parser.add_argument("--cores", default="")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + args.seconds
    folder = embedding_model(args.model, args.out.parent / "embedding-model")
    host = Host({"sglang": args.site}, str(folder), EMBEDDER)
    embedding = servers.start(
        host, "serve", ["--profile", "embedding"], {}, 0, args.cores, args.out / "embedding.log", 400.0
    )
    captions = None
    try:
        note(args.out, {"embedding_start_s": embedding.start_s})
        client = [sys.executable, "-m", "benchmarks.embedding_server", embedding.url, EMBEDDER, "--tokenizer", folder]
        subprocess.run([*client, "--chunks", "8192", "--result", args.out / "alone.json"], check=False)
        with ProcessPoolExecutor() as making:
            videos = list(making.map(proxy, range(2 * args.clips + 64), chunksize=8))
        note(args.out, {"proxies": len(videos), "kb": round(sum(map(len, videos)) / len(videos) / 1000)})
        caption_host = Host({"sglang": args.site}, str(args.model), SERVED)
        captions = servers.start(
            caption_host, "serve", ["--profile", "h100-h200"], {}, 0, args.cores, args.out / "captions.log", 400.0
        )
        note(args.out, {"captions_start_s": captions.start_s})
        given = iter(videos)
        captioned(captions.url, given, 64, 64)
        alone = captioned(captions.url, given, IN_FLIGHT, args.clips)
        note(args.out, {"captions_alone": alone})
        if time.monotonic() > until:
            return
        rate = CHUNKS_PER_CLIP * alone["clips_per_s"]
        seconds = 1.1 * alone["seconds"]
        beside = subprocess.Popen(
            [*client, "--rate", f"{rate:.1f}", "--seconds", f"{seconds:.0f}", "--result", args.out / "beside.json"]
        )
        together = captioned(captions.url, given, IN_FLIGHT, args.clips)
        note(args.out, {"captions_together": together, "share": together["clips_per_s"] / alone["clips_per_s"]})
        beside.wait(120)
    finally:
        for server in filter(None, (captions, embedding)):
            server.stop()


def embedding_model(model: Path, folder: Path) -> Path:
    """Write a folder with the configuration of the embedding model and a tokenizer, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(QWEN3))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        if (model / name).exists():
            shutil.copy(model / name, folder)
    return folder


def captioned(url: str, videos: Iterator[bytes], in_flight: int, requests: int) -> dict[str, Any]:
    """Caption so many of the videos in a closed loop, and return the rates."""
    some = itertools.islice(videos, requests)
    bodies = load.video_bodies(SERVED, PROMPT, 512, some)
    return load.run(url, lambda: bodies, in_flight, requests, ramp_s=15.0, fresh=True).to_json()


def proxy(number: int) -> bytes:
    """Return a film of 20 frames of 476x280, 2 per second, of blocks that move."""
    chance, data = np.random.default_rng(number), io.BytesIO()
    blocks = chance.integers(0, 255, (35, 60, 3), np.uint8)
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=2, options={"preset": "ultrafast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = 476, 280, "yuv420p"
        for step in range(20):
            picture = np.roll(blocks, 3 * step, axis=1).repeat(8, axis=0).repeat(8, axis=1)[:280, :476]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
    return data.getvalue()


def note(out: Path, record: dict[str, Any]) -> None:
    """Append a line to the results."""
    with (out / "embedding.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
