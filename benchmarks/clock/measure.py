"""Caption the drawn clips with each engine through clipdex, and count the right directions.

    python -m benchmarks.clock.measure --out DIR --work DIR --model DIR --site sglang=DIR --site vllm=DIR [--only NAME]

--model is the checkpoint of benchmarks.clock.train. DIR/clock.json is rewritten after each engine; an engine that fails
does not stop the others. Run it on the GPU host, with clipdex importable.
"""

import argparse
import asyncio
import json
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clock.drawing import FRAMES, SIDE, write_clips
from benchmarks.clock.train import MAX_TOKENS
from benchmarks.engines import servers
from benchmarks.engines.measure import machine
from benchmarks.engines.servers import Host
from clipdex import Pipeline, Settings
from clipdex.errors import ConfigurationError
from clipdex.video import prepare

RATES = (0.5, 1.0, 2.0)
SCENES = 40
SERVED = "tiny"
SAMPLED = {"fps": 2, "max_frames": 32}
OVERLAY_TOKENS_PER_SECOND = 24
"""Correct for proxies of 2 frames per second in an engine that assumes 24: 2 * 24 / 2."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--site", action="append", default=[], metavar="ENGINE=DIR")
    parser.add_argument("--only", action="append", choices=list(ENGINES))
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--side", type=int, default=SIDE)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    result = args.out / "clock.json"
    host = Host(dict(site.split("=", 1) for site in args.site), str(args.model), SERVED, "auto")
    clips = write_clips(args.work / "drawn", args.scenes, RATES, args.side)
    found: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {"machine": machine(host)}
    for name in args.only or ENGINES:
        began = time.monotonic()
        try:
            found[name] = ENGINES[name](host, clips, args)
        except Exception:  # one failure must not waste the machine time of the others
            found[name] = {"failed": traceback.format_exc()[-2000:]}
        found[name]["seconds"] = round(time.monotonic() - began, 1)
        result.write_text(json.dumps(found, indent=1) + "\n")
        print(name, {key: value for key, value in found[name].items() if key != "captions"}, flush=True)


def of_sglang(host: Host, clips: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Measure SGLang as docker/sglang/serve starts it."""
    return _served(host, "serve", _SERVE, {}, clips, args)


def of_sglang_as_it_comes(host: Host, clips: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Measure SGLang without the processor that passes frame times; clipdex must detect this."""
    return _served(host, "serve", _SERVE, {"SGLANG_EXTERNAL_MM_PROCESSOR_PACKAGE": ""}, clips, args, clock="engine")


def of_vllm(host: Host, clips: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    return _served(host, "vllm", _VLLM, {}, clips, args, clock="engine")


def of_vllm_overlay(host: Host, clips: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Measure vLLM with other tokens per second in the model config: correct only for 2 frames per second."""
    folder = args.work / "overlay"
    shutil.copytree(host.model, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["tokens_per_second"] = OVERLAY_TOKENS_PER_SECOND
    (folder / "config.json").write_text(json.dumps(config))
    return _served(Host(host.sites, str(folder), SERVED, "auto"), "vllm", _VLLM, {}, clips, args, clock="engine")


def of_transformers(host: Host, clips: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Measure transformers in this process."""
    import transformers

    engine = {"name": "transformers", "model": host.model, "batch_size": 16}
    return {"version": transformers.__version__, **_counted(clips, engine, args.side)}


ENGINES: dict[str, Callable[..., dict[str, Any]]] = {
    "sglang": of_sglang,
    "sglang_as_it_comes": of_sglang_as_it_comes,
    "transformers": of_transformers,
    "vllm": of_vllm,
    "vllm_overlay": of_vllm_overlay,
}

_SERVE = ("--profile", "small-3b", "--mem-fraction-static", "0.3")
_VLLM = ("--gpu-memory-utilization", "0.3", "--max-model-len", "4096", "--mm-processor-cache-gb", "0")


def _served(
    host: Host, kind: str, flags: Sequence[str], env: dict[str, str], clips: list[dict[str, Any]],
    args: argparse.Namespace, clock: str = "frames",
) -> dict[str, Any]:  # fmt: skip
    log = args.out / f"{kind}-{Path(host.model).name}-{clock}.log"
    server = servers.start(host, kind, flags, env, 0, "", log, 480.0)
    name = "vllm" if kind == "vllm" else "sglang"
    engine = {"name": name, "model": SERVED, "base_urls": [server.url], "clock": clock, "in_flight": 16,
              "preflight": "off"}  # fmt: skip
    if name == "sglang":
        engine["server_sampling"] = SAMPLED
    try:
        version = machine(host)["versions"].get(name, "")
        preflight = _preflight(engine)
        counts = _counted(clips, engine, args.side)
        return {"version": version, "preflight": preflight, "start_s": server.start_s, **counts}
    finally:
        server.stop()


def _preflight(engine: dict[str, Any]) -> str:
    """Return the result and the warnings of clipdex's check of this node with required frame times."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("clipdex.captions").addHandler(handler)

    async def check() -> str:
        async with Pipeline(Settings.load(engine={**engine, "clock": "frames"})).engine() as captioner:
            try:
                await captioner.check()
            except ConfigurationError as error:
                return str(error)
        return "passed"

    result = asyncio.run(check())
    return "; ".join([result, *dict.fromkeys(warnings)])


def _counted(clips: list[dict[str, Any]], engine: dict[str, Any], side: int) -> dict[str, Any]:
    """Return the percentage of captions with the right words; the direction also by rate and by way."""
    answered: list[tuple[dict[str, Any], str]] = []
    for rate in RATES:
        of_rate = [clip for clip in clips if clip["fps"] == rate]
        settings = Settings.load(
            engine={**engine, "max_tokens": MAX_TOKENS, "temperature": 0.0},
            sampling={"fps": rate, "min_fps": rate, "short_side": side, "multiple_of": 28},
        )
        answered += zip(of_rate, asyncio.run(_captions(of_rate, settings)), strict=True)

    def share(word: str, **of: Any) -> float:
        chosen = [(clip["scene"], text) for clip, text in answered if of.items() <= clip.items()]
        return round(100 * sum(getattr(scene, word) in text for scene, text in chosen) / len(chosen), 1)

    return {
        "direction": share("direction"),
        "direction_by_fps": {f"{rate:g}": share("direction", fps=rate) for rate in RATES},
        "direction_by_way": {kind: share("direction", kind=kind) for kind in ("forward", "reversed")},
        **{word: share(word) for word in ("colour", "shape", "background")},
        "captions": {Path(clip["path"]).name: text for clip, text in answered},
    }


async def _captions(clips: list[dict[str, Any]], settings: Settings) -> list[str]:
    async with Pipeline(settings).engine() as captioner:
        await captioner.check()
        prepared = [prepare(clip["path"], settings.video, settings.sampling) for clip in clips]
        assert all(len(one.windows) == 1 and len(one.times) == FRAMES for one in prepared)
        replies = await asyncio.gather(*map(captioner.caption, prepared))
        return [reply.text for reply in replies]


if __name__ == "__main__":
    main()
