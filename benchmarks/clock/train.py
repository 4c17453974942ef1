"""Train a small Qwen2.5-VL (12.7 million parameters) on drawn clips, at several rates, and save it as a checkpoint.

    python -m benchmarks.clock.train OUT --seconds 950 [--device cuda] [--batch 64] [--steps N] [--sides 224 336]

The model has its own vocabulary and answers clipdex's prompt. The frames have one side length after the other, since
most is learned faster from small frames. Every block of its vision tower attends to the whole frame, which avoids a
loop over windows. Needs the transformers that SGLang 0.5.17 pins (5.12.1) or newer.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

from benchmarks.clock.drawing import FRAMES, SCENES, SIDE, draw
from clipdex.captions.local.positions import rope_index
from clipdex.captions.strategies import prompt_text

MAX_TOKENS = 64
PROMPT = prompt_text("describe", "en", MAX_TOKENS)
RATES = (4.0, 2.0, 4 / 3, 1.0, 2 / 3, 0.5)
"""Frames per second in training."""
TOKENS_PER_SECOND = 2
PATCH, MERGE, DEPTH = 14, 2, 2

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
            "<|image_pad|>", "<|video_pad|>")  # fmt: skip
_SYSTEM = "You are a helpful assistant."
_CHAT = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}<|im_start|>system\n"
    + _SYSTEM
    + "<|im_end|>\n{% endif %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type in ('video', 'video_url') %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=950.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--sides", type=int, nargs="+", default=(224, SIDE), metavar="PIXELS")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(args.out)
    model = _model(tokenizer).to(args.device)
    _lay_out_frames_once()
    _train(model, tokenizer, args)
    model.to(torch.bfloat16).save_pretrained(args.out)
    _write_processor(args.out)


def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    corpus = [scene.caption for scene in SCENES] + [PROMPT, _SYSTEM, "system\n", "user\n", "assistant\n"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(list(_SPECIAL))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=_CHAT,
        additional_special_tokens=list(_SPECIAL[3:]),
    )  # fmt: skip
    fast.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(_CHAT)
    return fast


def _model(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    number: Any = tokenizer.convert_tokens_to_ids
    text = {
        "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6,
        "num_key_value_heads": 2, "vocab_size": -(-len(tokenizer) // 64) * 64, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
        "bos_token_id": number("<|endoftext|>"), "eos_token_id": number("<|im_end|>"),
        "pad_token_id": number("<|endoftext|>"), "tie_word_embeddings": False,
    }  # fmt: skip
    vision = {
        "depth": 4, "hidden_size": 192, "intermediate_size": 512, "num_heads": 3, "out_hidden_size": 384,
        "fullatt_block_indexes": [0, 1, 2, 3], "tokens_per_second": TOKENS_PER_SECOND,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"), vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"), tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[number("<|im_end|>")], pad_token_id=number("<|endoftext|>"), do_sample=False
    )
    return model


def _attend_to_whole_frames(side: int) -> None:
    """Replace the vision tower's attention by a batched one for frames of equal size."""

    def forward(self: Any, hidden_states: torch.Tensor, position_embeddings: Any = None, **_: Any) -> torch.Tensor:
        count = hidden_states.shape[0]
        query, key, value = self.qkv(hidden_states).reshape(count, 3, self.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
        query, key = modeling_qwen2_5_vl.apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        patches = (side // PATCH) ** 2

        def by_frame(one: torch.Tensor) -> torch.Tensor:
            return one.reshape(-1, patches, self.num_heads, one.shape[-1]).transpose(1, 2).to(value.dtype)

        seen = functional.scaled_dot_product_attention(by_frame(query), by_frame(key), by_frame(value))
        return self.proj(seen.transpose(1, 2).reshape(count, -1))

    modeling_qwen2_5_vl.Qwen2_5_VLVisionAttention.forward = forward


def _lay_out_frames_once() -> None:
    """Cache the values that the vision tower computes from the video sizes, which are constant."""

    def kept(original: Any) -> Any:
        results: dict[tuple[int, ...], Any] = {}

        def call(grid: torch.Tensor, *given: Any, **more: Any) -> Any:
            key = (len(grid), *grid[0].tolist())
            if key not in results:
                results[key] = original(grid, *given, **more)
            return results[key]

        return call

    for name in ("get_vision_position_ids", "get_vision_attention_seqlens", "get_vision_window_index"):
        if hasattr(modeling_qwen2_5_vl, name):
            setattr(modeling_qwen2_5_vl, name, kept(getattr(modeling_qwen2_5_vl, name)))


def _train(model: Any, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace) -> None:
    """Predict the caption from the prompt and the video, with positions for a random rate."""
    device, number = args.device, tokenizer.convert_tokens_to_ids
    answers = {
        scene: tokenizer(scene.caption + "<|im_end|>", add_special_tokens=False)["input_ids"] for scene in SCENES
    }
    longest, pad = max(map(len, answers.values())), number("<|endoftext|>")
    side = 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
    generator, chance = torch.Generator(device=device).manual_seed(1), random.Random(2)
    began, step = time.monotonic(), 0
    while (spent := time.monotonic() - began) < args.seconds and step < args.steps:
        done = max(spent / args.seconds, step / args.steps)
        for group in optimizer.param_groups:
            group["lr"] = 7e-4 * min(1, step / 150) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-5
        if side != (side := args.sides[min(int(done * len(args.sides)), len(args.sides) - 1)]):
            grid, head, positions = _layout(tokenizer, side, longest, device)
            _attend_to_whole_frames(side)
        scenes = chance.choices(SCENES, k=args.batch)
        rows = [head + answers[scene] + [pad] * (longest - len(answers[scene])) for scene in scenes]
        wanted = [[-100] * len(head) + answers[scene] + [-100] * (longest - len(answers[scene])) for scene in scenes]
        ids, labels = torch.tensor(rows, device=device), torch.tensor(wanted, device=device)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            output = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                position_ids=torch.cat(chance.choices(positions, k=args.batch), dim=1),
                pixel_values_videos=_patches(draw(scenes, device, generator, side)),
                video_grid_thw=torch.tensor([grid] * args.batch, device=device),
                mm_token_type_ids=2 * (ids == number("<|video_pad|>")).int(),
                labels=labels,
                use_cache=False,
            )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 200 == 0 or step == 1:
            likeliest, right = output.logits[:, :-1].argmax(dim=-1), labels[:, 1:]
            whole = ((likeliest == right) | (right < 0)).all(dim=1).float().mean().item()
            loss = output.loss.item()
            print(f"{spent:.0f} s, step {step}, {side} px: loss {loss:.4f}, captions right {whole:.2f}", flush=True)


def _layout(
    tokenizer: PreTrainedTokenizerFast, side: int, longest: int, device: str
) -> tuple[tuple[int, int, int], list[int], list[torch.Tensor]]:
    """Return the patch grid, the prompt's token ids, and the positions of prompt and answer for each of RATES."""
    grid = (FRAMES // DEPTH, side // PATCH, side // PATCH)
    video = "<|video_pad|>" * (math.prod(grid) // MERGE**2)
    head = tokenizer(
        f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n<|im_start|>user\n{PROMPT}<|vision_start|>{video}<|vision_end|>"
        "<|im_end|>\n<|im_start|>assistant\n",
        add_special_tokens=False,
    )["input_ids"]
    number: Any = tokenizer.convert_tokens_to_ids
    row = torch.tensor([head + [number("<|endoftext|>")] * longest], device=device)
    kinds = 2 * (row == number("<|video_pad|>")).int()
    place = rope_index(MERGE, TOKENS_PER_SECOND)
    positions = [
        place(row, kinds, video_grid_thw=torch.tensor([grid]), second_per_grid_ts=torch.tensor([DEPTH / rate]))[0]
        for rate in RATES
    ]
    return grid, head, positions


def _patches(frames: torch.Tensor) -> torch.Tensor:
    """Return frames (B, T, 3, H, W) as patches (B·n, 1176), in the order of Qwen2VLVideoProcessor."""
    batch, count, channels, height, width = frames.shape
    mean, std = (torch.tensor(one).to(frames)[None, None, :, None, None] for one in (_MEAN, _STD))
    cut = ((frames - mean) / std).reshape(
        batch, count // DEPTH, DEPTH, channels,
        height // PATCH // MERGE, MERGE, PATCH, width // PATCH // MERGE, MERGE, PATCH,
    )  # fmt: skip
    return cut.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9).reshape(-1, channels * DEPTH * PATCH * PATCH)


def _write_processor(folder: Path) -> None:
    common = {
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": PATCH, "temporal_patch_size": DEPTH,
        "merge_size": MERGE, "image_mean": _MEAN, "image_std": _STD, "processor_class": "Qwen2_5_VLProcessor",
    }  # fmt: skip
    kinds = {
        "preprocessor": ("image", "Qwen2VLImageProcessor"),
        "video_preprocessor": ("video", "Qwen2VLVideoProcessor"),
    }
    for name, (kind, processor) in kinds.items():
        document = {**common, f"{kind}_processor_type": processor}
        (folder / f"{name}_config.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
