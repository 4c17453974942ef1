"""Create tables, plots and the summary from results/engines/*.jsonl.

python -m benchmarks.engines.draw        writes results/summary.json, docs/engines.svg, docs/waves.svg, prints tables
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parents[1] / "results"
MEASURED = RESULTS / "engines"
DOCS = Path(__file__).parents[2] / "docs"

TOKENS = 512
FIXED_TOKENS = 1752
FIXED, SMALL = "20x476x280", ("10x476x280", "20x336x196")

H200 = {"bandwidth_tb_s": 4.8, "fp8_tflop_s": 1979.0, "memory_gb": 141}
RTX4090 = {"bandwidth_tb_s": 1.008, "fp8_tflop_s": 330.0, "memory_gb": 24}
"""Datasheets: dense fp8 with fp32 accumulation."""
WEIGHTS_GB, KV_GB_A_TOKEN = 8.7, 28_672 / 1e9
"""Qwen2.5-VL-7B: fp8 linears, bf16 embedding and head; fp8 keys and values of 28 layers, 4 heads, 128 wide."""
BATCH_4090 = 64
"""Fits in the cache of 24 GB: docker/sglang/profiles/rtx4090-24gb.toml."""


def main() -> None:
    points = list(read())
    summary = summarize(points)
    (RESULTS / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(table(points))
    print(json.dumps(summary, indent=1))
    draw_engines(points, DOCS / "engines.svg")
    draw_waves(waves(), DOCS / "waves.svg")


def read() -> Iterator[dict[str, Any]]:
    """Yield every point with rates, with its file and line. beside: equal for alternating measurements."""
    for file in sorted(MEASURED.glob("*.jsonl")):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            record = json.loads(line)
            kept = {name: record.get(name, default) for name, default in (("case", ""), ("point", {}), ("flags", []))}
            # A node measured without the gateway counts as a normal server.
            engine = "sglang" if kept["point"].get("through") == "node" else record["engine"]
            about = {"from": f"engines/{file.name}:{number}", "engine": engine, **kept}
            if record.get("rates", {}).get("requests"):
                yield {**about, "proxy": record.get("proxy", FIXED), "rates": record["rates"]}
            rounds = record["rounds"] if isinstance(record.get("rounds"), list) else [record]
            for found in rounds:
                beside = (file.name, json.dumps(kept["point"]))
                for kind in ("pipeline", "bare"):
                    if kind in found:
                        yield {**about, "kind": kind, "beside": beside, "proxy": FIXED, "rates": _rates(found[kind])}


def summarize(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the main figures, each with its source file and line; null: not measured."""

    def best(where: Any, what: str = "clips_per_s") -> tuple[float | None, str | None]:
        found = [one for one in points if where(one) and one["rates"][what]]
        top = max(found, key=lambda one: one["rates"][what], default=None)
        return (round(top["rates"][what], 3), top["from"]) if top else (None, None)

    def bare(one: dict[str, Any]) -> bool:
        return one.get("kind") != "pipeline" and one["point"].get("tokens", TOKENS) == TOKENS

    def fp8(one: dict[str, Any]) -> bool:
        return "fp8" in one["flags"]

    turns = in_turns(points)
    rows = {
        # Sequential: from the median, because the first requests still allocate.
        "transformers_clips_per_s": _one_at_a_time(points),
        "vllm_clips_per_s": best(lambda one: one["engine"] == "vllm" and bare(one) and not fp8(one)),
        "sglang_clips_per_s": best(lambda one: one["engine"] == "sglang" and bare(one) and not fp8(one)),
        "sglang_tuned_clips_per_s": best(
            lambda one: one["engine"] == "sglang" and bare(one) and fp8(one) and one["proxy"] == FIXED
            and one["rates"]["prompt_tokens"] == FIXED_TOKENS
        ),
        "sglang_small_proxy_clips_per_s": best(
            lambda one: one["engine"] == "sglang" and bare(one) and one["proxy"] in SMALL
        ),
        **{name: (turns.get(name), turns.get("from")) for name in (
            "pipeline_clips_per_s", "pipeline_efficiency", "pipeline_whole_clips_per_s", "pipeline_whole_efficiency",
        )},
        "two_nodes_clips_per_s": best(lambda one: one["point"].get("through") == "gateway"),
    }  # fmt: skip
    estimate = rtx4090()
    return {
        "gpu": "NVIDIA H200", "date": "2026-11-25", "model": "Qwen2.5-VL-7B, random weights", "output_tokens": TOKENS,
        **{name: value for name, (value, _) in rows.items()},
        "from": {name: source for name, (_, source) in rows.items()},
        "rtx4090_estimate": estimate,
    }  # fmt: skip


def in_turns(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare clipdex with the bare generator over all rounds of the largest sitting.

    Both are measured from the first request to the last response. whole: clipdex from listing to the end of its last
    process, including process starts; the generator's start is not included.
    """
    sittings: dict[Any, dict[str, list[dict[str, Any]]]] = {}
    for one in points:
        if one.get("kind"):
            sittings.setdefault(one["beside"], {}).setdefault(one["kind"], []).append(one)
    complete = [sides for sides in sittings.values() if len(sides) == 2]
    if not complete:
        return {}
    sides = max(complete, key=lambda sides: sum(one["rates"]["requests"] for one in sides["pipeline"]))

    def clips_per_s(kind: str, what: str = "clips_per_s") -> float:
        rates = [one["rates"] for one in sides[kind]]
        return float(sum(one["requests"] for one in rates) / sum(one["requests"] / one[what] for one in rates))

    serving, whole, bare = clips_per_s("pipeline"), clips_per_s("pipeline", "whole_clips_per_s"), clips_per_s("bare")
    return {
        "pipeline_clips_per_s": round(serving, 3), "pipeline_efficiency": round(serving / bare, 3),
        "pipeline_whole_clips_per_s": round(whole, 3), "pipeline_whole_efficiency": round(whole / bare, 3),
        "from": ", ".join(one["from"] for one in (*sides["pipeline"], *sides["bare"])),
    }  # fmt: skip


def waves() -> list[dict[str, Any]]:
    """Read the output of waves.py for the tuned servers, in order of name."""
    return [json.loads(path.read_text()) for path in sorted(MEASURED.glob("*-waves-*.json"))]


def rtx4090() -> dict[str, Any] | None:
    """Estimate an RTX 4090: apply the H200's share of its limits to the limits of this card.

    Prefill is assumed compute-bound, decoding memory-bound. prefill_tokens_per_s and decode_tokens_per_s are medians
    from the tuned server's log.
    """
    if not waves():
        return None
    log = waves()[-1]
    prefill = _median([rate for _, tokens, rate in log["prefill"] if tokens > 4096])
    decode = [(running, rate) for _, running, rate, _ in log["decode"] if running > 200 and rate > 5000]
    running, rate = decode[len(decode) // 2][0], _median([rate for _, rate in decode])
    context = log["load"]["prompt_tokens"] + TOKENS / 2
    reached = (WEIGHTS_GB + KV_GB_A_TOKEN * context * running) * rate / running / 1000 / H200["bandwidth_tb_s"]
    step_s = (WEIGHTS_GB + KV_GB_A_TOKEN * context * BATCH_4090) / 1000 / (RTX4090["bandwidth_tb_s"] * reached)
    found: dict[str, Any] = {
        "estimate": True,
        "h200_prefill_tokens_per_s": round(prefill),
        "h200_decode_tokens_per_s": round(rate),
        "h200_share_of_bandwidth": round(reached, 2),
    }
    for name, tokens in (("fixed_proxy", 1752), ("small_proxy", 902)):
        prefill_s = tokens / (prefill * RTX4090["fp8_tflop_s"] / H200["fp8_tflop_s"])
        gpu_s = prefill_s + TOKENS * step_s / BATCH_4090
        hours = 1e6 * gpu_s / 20 / 3600
        found[name] = {"gpu_seconds_a_clip": round(gpu_s, 2), "hours_a_million_on_20": round(hours, 1),
                       "times_faster_than_two_weeks": round(14 * 24 / hours)}  # fmt: skip
    return found


def table(points: list[dict[str, Any]]) -> str:
    """Return all points as a Markdown table."""
    lines = [
        "| engine | flags | proxy | tokens in | in flight | clips | clips/s | steady | tok/s | p50 s | from |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in points:
        rates = one["rates"]
        name = f"clipdex → {one['engine']}" if one.get("kind") == "pipeline" else one["engine"]
        steady = rates.get("steady_clips_per_s")
        lines.append(
            f"| {name} | {' '.join(one['flags'])} | {one['proxy']} | {rates['prompt_tokens']:.0f} "
            f"| {rates['in_flight']} | {rates['requests']} | {rates['clips_per_s']:.2f} "
            f"| {f'{steady:.2f}' if steady else ''} | {rates['tokens_per_s']:.0f} | {rates['p50_s']:.1f} "
            f"| {one['from']} |"
        )
    return "\n".join(lines)


def draw_engines(points: list[dict[str, Any]], path: Path) -> None:
    """Plot clips per second over requests in flight."""
    _style()
    figure, axes = plt.subplots(figsize=(7, 4))
    curves: dict[str, list[tuple[int, float]]] = {}
    for one in points:
        if one.get("kind") or one["point"].get("tokens", TOKENS) != TOKENS:
            continue
        name = one["case"] + ("" if one["proxy"] == FIXED else f", {one['proxy']}")
        name += ", two behind the gateway" if one["point"].get("through") == "gateway" else ""
        curves.setdefault(name, []).append((one["rates"]["in_flight"], one["rates"]["clips_per_s"]))
    for name, curve in curves.items():
        axes.plot(*zip(*sorted(curve), strict=True), marker="o", label=name)
    axes.set(xscale="log", xlabel="requests in flight", ylabel="clips/s", title="One H200, 512 tokens a clip")
    axes.set_xticks([1, 8, 32, 128, 256, 384], ["1", "8", "32", "128", "256", "384"])
    axes.legend(frameon=False)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def draw_waves(logs: list[dict[str, Any]], path: Path) -> None:
    """Plot prefill and decode rates over time, one row per server, to show synchronous phases and stalls."""
    _style()
    figure, rows = plt.subplots(len(logs), figsize=(7, 2.6 * len(logs)), sharex=True, squeeze=False)
    for log, axes in zip(logs, rows[:, 0], strict=True):
        began = _seconds(min(log["answered"]))
        axes.plot([_seconds(at) - began for at, *_ in log["prefill"]], [rate for _, _, rate in log["prefill"]], ".",
                  label="prefill")  # fmt: skip
        axes.plot([_seconds(at) - began for at, *_ in log["decode"]], [rate for _, _, rate, _ in log["decode"]], ".",
                  label="decode")  # fmt: skip
        for at in log["answered"]:
            axes.axvline(_seconds(at) - began, color="0.7", linewidth=0.7, zorder=0)
        axes.set(ylabel="tokens/s", xlim=(0, 80), ylim=(0, 50_000))
        axes.set_title(f"pool of {log['pool_mb'] / 1024:.0f} GB", loc="left", fontsize=9)
    rows[0, 0].legend(frameon=False, loc="upper right", ncols=2)
    rows[-1, 0].set(xlabel="seconds (lines: 255 answers at once)")
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def _rates(found: dict[str, Any]) -> dict[str, Any]:
    """Return the rates from first request to last response. whole_clips_per_s: from listing to the last process."""
    if "rates" not in found:
        return found
    rates: dict[str, Any] = {**found["rates"], "whole_clips_per_s": found["clips_per_s"]}
    return rates


def _one_at_a_time(points: list[dict[str, Any]]) -> tuple[float | None, str | None]:
    found = [one for one in points if one["engine"] == "transformers" and one["rates"]["in_flight"] == 1]
    return (round(1 / found[0]["rates"]["p50_s"], 3), found[0]["from"]) if found else (None, None)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _seconds(at: str) -> int:
    hours, minutes, seconds = (int(part) for part in at.split(":"))
    return 3600 * hours + 60 * minutes + seconds


def _style() -> None:
    mpl.rcParams.update(
        {"svg.hashsalt": "clipdex", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )


if __name__ == "__main__":
    main()
