"""Start engines with random weights on the GPU host, and write what clipdex check-engine finds on each.

    python -m benchmarks.engines.check --model QWEN2_5_VL_FOLDER --out check.json --site sglang=DIR --site vllm=DIR
    python -m benchmarks.engines.check --rehearse --out check.json          # stand-ins, without a GPU

Needs one GPU of 40 GB and 2 to 4 minutes per case; the folder has config.json, a tokenizer and preprocessor files, no
weights. The folder of Qwen3-VL is written beside --out (configs.py). The Python that runs this needs clipdex without
extras; the engines are imported from --site. --case NAME selects cases, in this order; each is written when it is done,
so that a run that is cut off keeps what it has.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.engines import servers
from benchmarks.engines.configs import write_qwen3_vl
from benchmarks.engines.servers import REPOSITORY, Host, ServerDied

QWEN2_5, QWEN3 = "qwen2.5-vl-7b", "qwen3-vl-8b"
_QUICK = ("--disable-cuda-graph",)  # starts a minute earlier


@dataclass(frozen=True, slots=True)
class Case:
    """An engine with a model. passes: whether every node is expected to pass; stand_in: its flags in a rehearsal"""

    name: str
    engine: str
    model: str
    preset: str
    flags: tuple[str, ...]
    passes: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)
    stand_in: tuple[str, ...] = ()


_NO_CLOCK = {"CLIPDEX_ENGINE__CLOCK": "engine"}  # vLLM below 0.31.0 loses it, which is known
_SERVE = ("--profile", "h100-h200", *_QUICK)
_VLLM = ("--enforce-eager", "--max-model-len", "32768", "--limit-mm-per-prompt", '{"video": 1}',
         "--gpu-memory-utilization", "0.6")  # fmt: skip
_RANDOM = ("--silent", "random_text")
CASES = (
    Case("sglang-qwen2.5-vl", "serve", QWEN2_5, "qwen-vl", _SERVE, stand_in=_RANDOM),
    Case("sglang-qwen3-vl", "serve", QWEN3, "qwen3-vl", _SERVE,
         stand_in=(*_RANDOM, "--family", "qwen3-vl", "--model-type", "qwen3_vl")),
    Case("sglang-qwen2.5-vl-eight-frames", "serve", QWEN2_5, "qwen-vl", (*_SERVE, "--max-frames", "8"), passes=False,
         stand_in=(*_RANDOM, "--video", '{"fps": 2, "max_frames": 8}')),
    Case("vllm-qwen2.5-vl", "vllm", QWEN2_5, "qwen-vl", _VLLM, settings=_NO_CLOCK,
         stand_in=(*_RANDOM, "--dialect", "vllm")),
    Case("vllm-qwen3-vl", "vllm", QWEN3, "qwen3-vl", _VLLM, settings=_NO_CLOCK,
         stand_in=(*_RANDOM, "--dialect", "vllm", "--family", "qwen3-vl")),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a Qwen2.5-VL without weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--site", action="append", default=[], metavar="ENGINE=DIR")
    parser.add_argument("--case", action="append", default=[], choices=[case.name for case in CASES])
    parser.add_argument("--seconds", type=float, default=3600.0, help="start no case after this time")
    parser.add_argument("--wait-s", type=float, default=420.0, help="for an engine to become healthy")
    parser.add_argument("--rehearse", action="store_true", help="with stand-ins of the tests")
    args = parser.parse_args()
    if not args.rehearse and (args.model is None or not (args.model / "config.json").is_file()):
        parser.error("--model is the folder of a Qwen2.5-VL with config.json, or give --rehearse")
    began, results = time.monotonic(), []
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sites = dict(site.split("=", 1) for site in args.site)
    folders = {QWEN2_5: str(args.model or ""), QWEN3: ""}
    if not args.rehearse:
        folders[QWEN3] = str(write_qwen3_vl(args.model, args.out.parent / QWEN3))
    for case in CASES:
        if args.case and case.name not in args.case:
            continue
        if time.monotonic() - began > args.seconds:
            results.append({"case": case.name, "left_out": "no time left"})
        else:
            results.append(_run(case, Host(sites, folders[case.model], case.model), args))
        args.out.write_text(json.dumps({"rehearsal": args.rehearse, "cases": results}, indent=1) + "\n")
        print(json.dumps(results[-1])[:600], flush=True)
    sys.exit(int(any(one.get("passed") is not one.get("expected") for one in results)))


def _run(case: Case, host: Host, args: argparse.Namespace) -> dict[str, Any]:
    """Return what was found on one engine, or why it did not start."""
    record: dict[str, Any] = {"case": case.name, "engine": case.engine, "model": case.model, "expected": case.passes}
    engine, flags = ("stand-in", case.stand_in) if args.rehearse else (case.engine, case.flags)
    log = args.out.parent / f"{case.name}.log"
    try:
        server = servers.start(host, engine, flags, {}, 0, "", log, args.wait_s)
    except ServerDied as error:
        return {**record, "error": str(error)[-3000:]}
    try:
        record |= {"command": server.command, "start_s": server.start_s}
        return {**record, **_check(case, server.url)}
    except Exception:
        return {**record, "error": traceback.format_exc()[-3000:], "log": server.tail()}
    finally:
        server.stop()


def _check(case: Case, url: str) -> dict[str, Any]:
    """Run clipdex check-engine against a server."""
    name = "vllm" if case.engine == "vllm" else "sglang"
    sampling, version = {}, ""
    if name == "sglang":
        info = servers.get(f"{url}/server_info")
        sampling, version = (info.get("mm_process_config") or {}).get("video") or {}, info.get("version", "")
    else:
        version = servers.get(f"{url}/version").get("version", "")
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CLIPDEX_")},
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(REPOSITORY / "include"), os.environ.get("PYTHONPATH", "")])
            ),
            "CLIPDEX_ENGINE__NAME": name,
            "CLIPDEX_ENGINE__MODEL": case.model,
            "CLIPDEX_ENGINE__PRESET": case.preset,
            "CLIPDEX_ENGINE__BASE_URLS": json.dumps([url]),
            "CLIPDEX_ENGINE__SERVER_SAMPLING": json.dumps(sampling),
            "CLIPDEX_STORE__URL": folder,
            **case.settings,
        }
        done = subprocess.run(
            [sys.executable, "-m", "clipdex.cli", "check-engine", "--json"],
            env=environment, capture_output=True, text=True, timeout=420,
        )  # fmt: skip
    found = json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr[-3000:]}
    return {"version": version, "exit_code": done.returncode, **found}


if __name__ == "__main__":
    main()
