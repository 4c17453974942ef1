"""In-process PyTorch engine: any image-text checkpoint that transformers can load.

One thread processes batches of waiting requests, so the event loop is not blocked. The model loads in that thread on
first use, from local files only.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clipdex.captions.local.positions import keep_frame_times
from clipdex.captions.local.processors import Processor, open_processor
from clipdex.captions.model import Completion, Generation, ModelRequest
from clipdex.config import Settings
from clipdex.errors import ClipRejected, ConfigurationError, EngineUnavailable, Reason

log = logging.getLogger(__name__)


class TransformersModel:
    """A Model (model.py). A batch has at most batch_size requests with the same media type and sampling.

    A batch that exceeds GPU memory is halved, and so are later ones. batch_size also affects answers of some models:
    SmolVLM puts the frame count of the longest video into the prompt of every video of the batch.
    """

    def __init__(self, settings: Settings) -> None:
        engine = settings.engine
        self._name, self._device, self._dtype = engine.model, engine.device, engine.dtype
        self._batch_size = engine.batch_size
        self.in_flight = engine.in_flight or 2 * engine.batch_size
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transformers")
        self._loaded: _Loaded | None = None

    @property
    def traits(self) -> Mapping[str, Any]:
        """Return the weights' identity and dtype, without loading the model."""
        return {"weights": identity(model_folder(self._name)), "dtype": self._dtype}

    async def check(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer one request. A cancelled request stops at once if it waits, else after the next token."""
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.answer

    async def aclose(self) -> None:
        for waiting in self._waiting:
            waiting.answer.cancel()
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        if self._loaded:
            import torch

            self._loaded = None
            torch.cuda.empty_cache()

    async def _work(self) -> None:
        """Process batches until no request waits."""
        while batch := self._next():
            answering = asyncio.get_running_loop().run_in_executor(self._thread, self._answered, batch)
            try:
                answers = await answering
            except BaseException as error:
                for waiting in batch:
                    if isinstance(error, Exception) and not waiting.answer.done():
                        waiting.answer.set_exception(error)
                    waiting.answer.cancel()
                if not isinstance(error, Exception):
                    raise
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if waiting.answer.done():
                    continue
                if isinstance(answer, Exception):
                    waiting.answer.set_exception(answer)
                else:
                    waiting.answer.set_result(answer)

    def _next(self) -> list["_Waiting"]:
        """Return a batch: the oldest request and others of the same kind."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        alike = [waiting for waiting in self._waiting if waiting.kind == self._waiting[0].kind]
        batch = alike[: self._batch_size]
        self._waiting = [waiting for waiting in self._waiting if waiting not in batch]
        return batch

    def _answered(self, batch: Sequence["_Waiting"]) -> list[Completion | Exception]:
        """Answer a batch, in the worker thread. Split a failed batch until the failing request is found."""
        import torch

        try:
            return list(self._load().answer(batch))
        except (EngineUnavailable, ConfigurationError) as error:
            return [error] * len(batch)
        except ClipRejected as refusal:
            if len(batch) == 1:
                return [refusal]
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                return [EngineUnavailable(f"{self._name}: one clip exceeds GPU memory: {_first_line(error)}")]
            self._batch_size = len(batch) // 2
            log.warning("%d clips exceed GPU memory; reducing the batch size to %d", len(batch), self._batch_size)
        except RuntimeError as error:
            if len(batch) == 1:
                return [EngineUnavailable(f"{self._name}: torch failed: {_first_line(error)}")]
        torch.cuda.empty_cache()
        half = len(batch) // 2
        return [*self._answered(batch[:half]), *self._answered(batch[half:])]

    def _load(self) -> "_Loaded":
        if self._loaded is None:
            self._loaded = _Loaded(self._name, self._device, self._dtype)
        return self._loaded


@cache
def identity(folder: Path) -> str:
    """Return the identity of a folder's weights: its Hub revision, else a digest of samples of every file.

    Samples, because reading 15 GB takes longer than a batch, and different weights differ nearly everywhere.
    """
    if folder.parent.name == "snapshots" and _REVISION.fullmatch(folder.name):
        return folder.name[:16]
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            for start in range(0, size, max(_SAMPLE, size // _SAMPLES)):
                stream.seek(start)
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()[:16]


@dataclass(eq=False, slots=True)
class _Waiting:
    """A waiting request and the future of its reply."""

    request: ModelRequest
    answer: asyncio.Future[Completion]

    @property
    def kind(self) -> tuple[type, Generation]:
        return type(self.request.media), self.request.generation


class _Loaded:
    """A model in memory."""

    def __init__(self, name: str, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoModelForImageTextToText
        from transformers.utils.logging import disable_progress_bar

        folder = model_folder(name)
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigurationError(
                f"CLIPDEX_ENGINE__DEVICE is {device!r}, which torch {torch.__version__} cannot use here: "
                f"{_first_line(error)}; set it to cpu, cuda or auto"
            ) from error
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ConfigurationError(
                f"CLIPDEX_ENGINE__DTYPE: expected auto, bfloat16, float16 or float32, found {dtype!r}"
            )
        disable_progress_bar()  # type: ignore[no-untyped-call]
        started = time.monotonic()
        try:
            self._processor: Processor = open_processor(folder)
            model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True)
            self._model = model.to(device).eval()
            keep_frame_times(self._model)
        except torch.OutOfMemoryError as error:
            raise EngineUnavailable(f"{name}: the weights exceed GPU memory: {_first_line(error)}") from error
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ConfigurationError(
                f"{name} cannot be loaded from {folder}: {_first_line(error)}; CLIPDEX_ENGINE__MODEL must name a "
                "complete checkpoint that transformers loads as AutoModelForImageTextToText"
            ) from error
        self._name, self._longest = name, _longest(self._model.config)
        log.info(
            "loaded %s on %s in %s after %.1f s", name, device, str(self._model.dtype).removeprefix("torch."),
            time.monotonic() - started,
        )  # fmt: skip

    def answer(self, batch: Sequence[_Waiting]) -> list[Completion]:
        """Return one reply per request of the batch."""
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        started = time.monotonic()
        generation = batch[0].request.generation
        inputs = self._processor.inputs([waiting.request for waiting in batch])
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        self._fits(max(prompt_tokens), generation.max_tokens)
        inputs = inputs.to(self._model.device, self._model.dtype)
        prompt = inputs["input_ids"].shape[1]
        torch.manual_seed(generation.seed)
        with torch.inference_mode():
            rows = self._model.generate(
                **inputs,
                **self._sampling(generation),
                logits_processor=LogitsProcessorList(_penalties(generation, prompt)),
                stopping_criteria=StoppingCriteriaList([_StopCancelled(batch)]),
            )[:, prompt:].tolist()
        seconds = time.monotonic() - started
        return [self._reply(row, count, seconds) for row, count in zip(rows, prompt_tokens, strict=True)]

    def _sampling(self, generation: Generation) -> dict[str, Any]:
        """Return the arguments of generate(); top_p and top_k keep the checkpoint's values."""
        common = {
            "max_new_tokens": generation.max_tokens,
            "repetition_penalty": generation.repetition_penalty,
            "pad_token_id": self._pad,
        }
        if generation.temperature:
            return {**common, "do_sample": True, "temperature": generation.temperature}
        return {**common, "do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}

    def _reply(self, row: list[int], prompt_tokens: int, seconds: float) -> Completion:
        """Decode a row up to its first end token, which is counted."""
        end = next((place + 1 for place, token in enumerate(row) if token in self._ends), None)
        tokens = row[:end]
        return Completion(
            text=self._processor.tokenizer.decode(tokens, skip_special_tokens=True),
            finish_reason="length" if end is None else "stop",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(tokens),
            seconds=seconds,
        )

    def _fits(self, prompt_tokens: int, max_tokens: int) -> None:
        if self._longest and prompt_tokens + max_tokens > self._longest:
            raise ClipRejected(
                Reason.REJECTED_BY_ENGINE,
                f"{prompt_tokens} prompt and {max_tokens} answer tokens, {self._name} takes {self._longest}: lower "
                "CLIPDEX_SAMPLING__MAX_FRAMES, CLIPDEX_SAMPLING__SHORT_SIDE or CLIPDEX_ENGINE__MAX_TOKENS",
            )

    @property
    def _ends(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        ends = self._processor.tokenizer.eos_token_id if ends is None else ends
        return set(ends) if isinstance(ends, list) else {ends}

    @property
    def _pad(self) -> int:
        pad = self._processor.tokenizer.pad_token_id
        return int(min(self._ends) if pad is None else pad)


class _StopCancelled:
    """Stops the generation of cancelled requests."""

    def __init__(self, batch: Sequence[_Waiting]) -> None:
        self._batch = batch

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        return torch.tensor([waiting.answer.done() for waiting in self._batch], device=input_ids.device)


def _penalties(generation: Generation, prompt: int) -> list[Any]:
    """Return the frequency penalty as servers apply it: per occurrence of a token in the answer."""
    import torch

    def frequency(input_ids: Any, scores: Any) -> Any:
        answer = input_ids[:, prompt:]
        once = torch.full(answer.shape, generation.frequency_penalty, dtype=scores.dtype, device=scores.device)
        return scores - torch.zeros_like(scores).scatter_add(1, answer, once)

    return [frequency] if generation.frequency_penalty else []


def model_folder(name: str) -> Path:
    """Return the local folder of a model: the folder itself, or its snapshot in the Hub cache."""
    if Path(name).is_dir():
        return Path(name).resolve()
    from huggingface_hub import snapshot_download

    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(name, local_files_only=True))
    raise ConfigurationError(
        f"model {name!r} is neither a folder nor in the local Hub cache; download it on a machine with network "
        f"(hf download {name}), share that cache by HF_HOME, or set CLIPDEX_ENGINE__MODEL to a folder"
    )


def _longest(config: Any) -> int:
    """Return the model's context length [tokens]; 0 if the config has none."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 0)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_REVISION = re.compile("[0-9a-f]{40}")
_SAMPLE, _SAMPLES = 2**16, 64
