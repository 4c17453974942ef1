"""Settings: one frozen object, read once from CLIPDEX_* variables and validated.

A nested field has two underscores: CLIPDEX_ENGINE__NAME=sglang. Under Airflow, Connections override the variables
(airflow_tasks.py). Secrets are SecretStr, so that no repr, log line or report shows them.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self, get_origin

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from clipdex import days, presets
from clipdex.errors import ConfigurationError
from clipdex.families import FAMILIES

REPOSITORY = Path(__file__).resolve().parents[2]


_or_none = BeforeValidator(lambda value: None if value == "" else value)  # as other tools read an empty variable


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Access(_Group):
    """Hold an access key and its secret key, which go together."""

    key: SecretStr = SecretStr("")
    secret: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _key_has_its_secret(self) -> Self:
        if bool(self.key.get_secret_value()) != bool(self.secret.get_secret_value()):
            raise ValueError(
                "key and secret go together (login and password of an Airflow connection): set both or none"
            )
        return self


Timezone = Annotated[str, AfterValidator(days.checked_timezone)]
DEFAULT_EXCLUDE = (
    # unfinished and locked
    "*.part", "*.partial", "*.filepart", "*.tmp", "*.temp", "*.crdownload", "*.download", "*.opdownload", "*.aria2",
    "*.!qB", "*.!ut", "*.bts", "*.lock", "*.lck", "*.icloud", ".pending-*", ".~lock.*", "~$*", ".#*", ".~tmp~",
    ".rsync-partial", ".syncthing.*", "~syncthing~*", ".tmp.drivedownload", ".tmp.driveupload", ".dropbox.cache",
    ".sync", ".stfolder", ".nfs*", ".fuse_hidden*",
    # deleted
    ".trashed-*", ".Trash*", "$RECYCLE.BIN", "RECYCLER", "RECYCLED", "#recycle", "@Recycle", ".recycle", "trashbox",
    ".globalTrash", ".stversions", "lost+found", "LOST.DIR", "FOUND.[0-9][0-9][0-9]",
    # thumbnails and previews
    "@eaDir", "SYNOFILE_*", "SYNOPHOTO_*", "@__thumb", ".@__thumb", "thumbnails", ".thumbnails", "thumbs", ".thumbs",
    # attributes, indexes and snapshots of file systems
    "._*", "__MACOSX", ".AppleDouble", ".AppleDB", ".AppleDesktop", ".DocumentRevisions-V100", ".Spotlight-V100",
    ".fseventsd", ".TemporaryItems", "Network Trash Folder", "Temporary Items", "System Volume Information", "@tmp",
    "@sharebin", ".SynologyWorkingDirectory", "#snapshot", "@Recently-Snapshot", ".snapshot", ".snapshots", ".zfs",
    ".git",
)  # fmt: skip
"""Globs of what devices, shares and programs leave among clips."""

RESERVED_FIELDS = frozenset({
    "clip_id", "uri", "day", "chunk_no", "text", "start_s", "end_s", "duration_s", "width", "height", "engine", "model",
    "caption_key", "poster", "recorded_at", "recorded_from", "year", "month", "hour", "minute", "second", "metadata",
    "score", "id", "part_of", "part_no", "clip_start_s", "uri_folders", "local_minute", "moments",
})  # fmt: skip
"""Names that a clip's metadata may not have: fields of a point, and of the date in a path."""


MOST_HNSW_EF, MOST_OVERSAMPLING = 4096, 16
"""Limits of a search, which strict mode enforces for all clients of a collection."""


class MetadataType(StrEnum):
    STRING = "string"
    NUMBER = "number"
    TIME = "time"


class Source(_Access):
    """Locate the clips and their days.

    url: any fsspec URL or a folder
    name: stands for the root in every clip_id, so that the mount point may change
    day_pattern: the path below the root, with {year}, {month}, {day} and * for one folder (storage/day_pattern.py); ""
        takes the day from the modification time
    timezone: IANA name of the time zone of all days
    extensions: of clips, in any case of letters
    exclude: globs of files and folders to leave out, in any case of letters; "..." stands for the default ones
    metadata: types of named values of a clip, from its path and its sidecars; a field of the path that is not declared
        is a string
    sidecars: names of files beside the clips that have more of the declared values (storage/sidecars.py)
    options: passed to the filesystem (key, secret, endpoint_url, ...)
    """

    name: str = "archive"
    url: str = ""
    day_pattern: str = "{year}/{month}/{day}"
    timezone: Timezone = "UTC"
    extensions: tuple[str, ...] = (
        ".mp4", ".m4v", ".mov", ".qt", ".f4v", ".3gp", ".3gpp", ".3g2", ".lrv", ".mkv", ".webm", ".avi", ".divx", ".ts",
        ".mts", ".m2ts", ".m2t", ".tod", ".mpg", ".mpeg", ".mpe", ".vob", ".mod", ".ogv", ".flv", ".wmv", ".asf",
        ".mxf", ".dav", ".gif",
    )  # fmt: skip
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    metadata: dict[str, MetadataType] = Field(default_factory=dict, max_length=64)
    sidecars: tuple[str, ...] = ("{file}.json", "metadata.csv")
    lookback_days: int = Field(default=2, ge=0)
    options: dict[str, Any] = Field(default_factory=dict, repr=False)

    @field_validator("metadata")
    @classmethod
    def _names_are_free(cls, metadata: dict[str, MetadataType]) -> dict[str, MetadataType]:
        for name in metadata:
            if not name.isidentifier() or len(name) > 64:
                raise ValueError(f"{name!r} is not a name such as camera")
            if name in RESERVED_FIELDS:
                raise ValueError(f"the name {name!r} is used by clipdex itself: choose another")
        return metadata

    @field_validator("sidecars")
    @classmethod
    def _sidecars_are_names(cls, sidecars: tuple[str, ...]) -> tuple[str, ...]:
        for name in sidecars:
            if not name or "/" in name or set(re.findall(r"[{}]", name.replace("{file}", "").replace("{stem}", ""))):
                raise ValueError(f"{name!r} is not a name such as {{file}}.json or metadata.csv")
        return sidecars

    @property
    def excluded(self) -> tuple[str, ...]:
        """Return the globs to leave out, with the default ones in the place of "..."."""
        return tuple(glob for one in self.exclude for glob in (DEFAULT_EXCLUDE if one == "..." else (one,)))


class Playback(StrEnum):
    """Select what is kept of a clip for browsers to play: nothing, the proxy, or 480 lines with sound."""

    OFF = "off"
    PROXY = "proxy"
    P480 = "480p"


class StoreSettings(_Access):
    """Configure the artifact store.

    url: any fsspec URL or a folder
    retention_days: age at which runs and reports are deleted [days]
    playback: what the pages play: proxy: the pictures that the engine sees, without sound; 480p: up to 30 pictures per
        second, with sound, which costs more CPU time and space; off: nothing is kept from now on
    """

    url: str = ""
    retention_days: int = Field(default=90, ge=1)
    playback: Playback = Playback.PROXY
    options: dict[str, Any] = Field(default_factory=dict, repr=False)


class Split(StrEnum):
    """Select where a long file is cut: between shots, or into parts of equal length."""

    SHOTS = "shots"
    FIXED = "fixed"


class VideoLimits(_Group):
    """Limit a clip; one that exceeds a limit is rejected. Times in seconds, memory and files in bytes.

    split: cut a file that is longer than max_duration_s into parts, which are clips of their own; max_bytes and
        decode_timeout_s then hold per part; None rejects it
    part_s: the longest part; min_part_s: the shortest part, at most half of it
    max_file_s: the longest file to cut
    near_duplicates: clips of a folder that look alike share a caption, up to this mean distance [bits of 64 per frame];
        None: each clip gets its own
    """

    max_duration_s: float = 120.0
    max_pixels: int = 4096 * 2304
    max_bytes: int = 512 * 2**20
    decode_timeout_s: float = 30.0
    memory_bytes: int = 2 * 2**30
    split: Annotated[Split | None, _or_none] = None
    part_s: float = Field(default=15.0, gt=0)
    min_part_s: float = Field(default=2.0, gt=0)
    max_file_s: float = Field(default=12 * 3600.0, gt=0)
    near_duplicates: Annotated[float | None, _or_none] = Field(default=None, ge=0, lt=32)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.split is None:
            return self
        if self.part_s > self.max_duration_s:
            raise ValueError(f"part_s {self.part_s:g} must be at most max_duration_s {self.max_duration_s:g}")
        if self.min_part_s > self.part_s / 2:
            raise ValueError(f"min_part_s {self.min_part_s:g} must be at most half of part_s {self.part_s:g}")
        if self.max_file_s < self.max_duration_s:
            raise ValueError(f"max_file_s {self.max_file_s:g} must be at least max_duration_s {self.max_duration_s:g}")
        return self

    @property
    def cut(self) -> str:
        """Return how long files are cut, "" if they are rejected. The same value cuts a file into the same parts."""
        return "" if self.split is None else f"{self.split}-1 {self.part_s:g} {self.min_part_s:g}"

    @property
    def file_bytes(self) -> int:
        """Return the size of the largest file: max_bytes, for each max_duration_s of the longest file to cut."""
        return (
            self.max_bytes if self.split is None else self.max_bytes * math.ceil(self.max_file_s / self.max_duration_s)
        )


class Sampling(_Group):
    """Select the frames that an engine sees.

    fps: sampling rate [1/s]; lowered to min_fps for long clips, which are then split into windows
    max_frames, visual_tokens: limits per request; visual tokens as the family counts them
    short_side: shorter side of a frame [pixels]
    multiple_of: both sides are multiples of it; with 28, Qwen2.5-VL need not resize
    family: of models (families/table.py), which counts visual tokens; "" counts as Qwen2.5-VL: one per 28x28 pixels in
        two frames
    """

    fps: float = Field(default=2.0, gt=0)
    min_fps: float = Field(default=1.0, gt=0)
    max_frames: int = Field(default=32, ge=1)
    visual_tokens: int = Field(default=8192, ge=1)
    short_side: int = Field(default=448, ge=32)
    multiple_of: int = Field(default=2, ge=2, multiple_of=2)
    family: str = ""

    @field_validator("family")
    @classmethod
    def _family_is_known(cls, family: str) -> str:
        if family and family not in FAMILIES:
            raise ValueError(f"there is no family {family!r}; the families are {', '.join(FAMILIES)}")
        return family

    def fingerprint(self) -> dict[str, Any]:
        """Return what the fingerprint has of these settings: no family unless it is set, as in earlier releases."""
        return self.model_dump(exclude=None if self.family else {"family"})


class EngineName(StrEnum):
    DETECTORS = "detectors"
    SGLANG = "sglang"
    VLLM = "vllm"
    TENSORRT_LLM = "tensorrt-llm"
    TRANSFORMERS = "transformers"


class Strategy(StrEnum):
    """Select how a clip is sent: as one video, or frame by frame with the texts concatenated or merged."""

    VIDEO = "video"
    FRAMES_CONCAT = "frames-concat"
    FRAMES_MERGE = "frames-merge"


class Clock(StrEnum):
    """Select the frame times that the model gets: those of the frames, or the engine's default."""

    FRAMES = "frames"
    ENGINE = "engine"


class Preflight(StrEnum):
    """Select what a task checks of a node before its first clip: nothing, or what stops it.

    warn: wrong token counts and a video that is not looked at stop the task, other faults are logged
    strict: a model without the time, reasoning in answers and other faults stop it, too
    """

    OFF = "off"
    WARN = "warn"
    STRICT = "strict"


class Engine(_Group):
    """Configure the captioning engine. Times in seconds.

    preset: settings for a family of models (presets.py); explicit settings override them
    prompt, merge_prompt: names of files in captions/prompts
    times: ask for the times of each paragraph of a video's caption, and read them; captions written under either value
        count under both
    language: of the captions, ISO 639-1; prompts are written in it for de, en, es, fr, ru and zh
    tokenizer: the model's tokenizer.json, or a local folder that has it, to fit the words of prompts to max_tokens; ""
        for a table by language (captions/budgets.py); the engine transformers takes the model's own
    max_tokens: limit per description; a clip of several windows has several descriptions
    frame_tokens: limit per frame description
    min_tokens: minimum of the whole caption, if the engine counts tokens
    options: added to every request, such as {"top_k": 20}; part of the fingerprint
    server_sampling: the server's own sampling flags ({"fps": 2, "max_frames": 32}), checked against the server; part
        of the fingerprint
    clock: "frames" requires servers to pass the frame times to the model; "engine" accepts the server's default; part
        of the fingerprint of video captions
    preflight: check the nodes with known videos before the first clip (captions/preflight)
    in_flight: concurrent requests per batch over all nodes; 0 for the engine's default, 32 per base_url for servers
    ca_file: a PEM file of certificate authorities for https:// URLs; "" for the public ones
    device, dtype, batch_size: for transformers; "auto" uses a GPU if there is one, and the stored precision
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
    times: bool = True
    language: str = "en"
    tokenizer: str = ""
    max_tokens: int = Field(default=1024, ge=1)
    min_tokens: int = Field(default=64, ge=0)
    frame_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.2, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)
    server_sampling: dict[str, float] = Field(default_factory=dict)
    clock: Clock = Clock.FRAMES
    preflight: Preflight = Preflight.WARN
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
            raise ValueError(f"engine {self.name} needs model: a name that the server lists at /v1/models")
        return self


class Chunking(_Group):
    """Configure chunk sizes, in tokens of the embedding model."""

    tokens: int = Field(default=200, ge=16)
    overlap: int = Field(default=32, ge=0)

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap >= self.tokens:
            raise ValueError(f"overlap {self.overlap} must be below tokens {self.tokens}")
        return self


class Precision(StrEnum):
    """Name the numbers that an embedding model computes with."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class Embedding(_Group):
    """Configure the embedding model: in this process, or on servers (index/http_embedder.py). Times in seconds.

    model: a sentence-transformers name or folder; "" for the one of the captions' language, from a package of the
        extra embedded: all-MiniLM-L6-v2 for English, else multilingual-e5-small-q4. With base_urls, the served name
    query_prompt, document_prompt: what the model gets before each query and text; None for the model's own
    precision: auto for bfloat16 where the processor computes it, else float16 for the weights on x86; only if the
        vectors have a cosine of 0.99 with float32
    device, precision: of the model in this process
    batch_size: texts at once, or per request
    base_urls: servers with /v1/embeddings; () for the model in this process. The other settings are of these servers
    ca_file: a PEM file of certificate authorities for https:// URLs; "" for the public ones
    server_prompts: the servers prepend the prompts themselves, by the request's input_type
    tokenizer: name or folder of a model whose tokenizer counts the tokens of chunks; "" for that of model
    max_tokens: longest text of the model, with prompt and special tokens; 0 for what the model or its servers state
    in_flight: concurrent requests per process over all servers; 0 for 8 per base_url
    """

    model: str = ""
    query_prompt: Annotated[str | None, _or_none] = None
    document_prompt: Annotated[str | None, _or_none] = None
    batch_size: int = Field(default=32, ge=1)
    device: str = "cpu"
    precision: Precision = Precision.AUTO
    base_urls: tuple[str, ...] = ()
    api_key: SecretStr = SecretStr("")
    ca_file: str = ""
    server_prompts: bool = False
    tokenizer: str = ""
    max_tokens: int = Field(default=0, ge=0)
    in_flight: int = Field(default=0, ge=0)
    tries: int = Field(default=4, ge=1)
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 60.0
    deadline_s: float = 300.0


class Quantization(StrEnum):
    """Select how a Qdrant server compresses the vectors that it searches: a byte per dimension, or four bits."""

    NONE = "none"
    INT8 = "int8"
    TURBO = "turbo"


_Flag = Annotated[bool | None, _or_none]
_Factor = Annotated[Annotated[int, Field(ge=1)] | None, _or_none]


class Index(_Group):
    """Configure the index. Times in seconds.

    The fields from expected_points on are for a Qdrant server alone. None means the value for expected_points
    (index/server_layout.py), or else the server's own.

    url: a Qdrant server; "" for the embedded Qdrant Edge
    ca_file: a PEM file of certificate authorities for an https:// URL; "" for the public ones
    expected_points: number of points that the collection is laid out for; 0 leaves the layout to the server
    quantization: of the vectors that are searched; they stay in memory
    vectors_on_disk: read the vectors as they were embedded from disk, by rescoring alone
    payload_on_disk: read the payloads of hits from disk
    shard_number: shards of a new collection; cannot be changed later
    replication_factor: copies of each shard, on as many nodes
    write_consistency_factor: copies that apply a write before it counts
    strict_mode: refuse filters of fields without an index, and requests beyond limits; None for new collections only
    hnsw_ef: width of the search in the graph; wider finds more and takes longer
    exact: compare all vectors instead of the graph
    rescore: compute the scores of quantized hits from the vectors as they were embedded
    oversampling: quantized hits that are rescored per hit that is wanted
    """

    url: str = ""
    api_key: SecretStr = SecretStr("")
    ca_file: str = ""
    alias: str = "clips"
    timeout_s: float = 30.0
    lock_wait_s: float = 120.0
    expected_points: int = Field(default=0, ge=0)
    quantization: Annotated[Quantization | None, _or_none] = None
    vectors_on_disk: _Flag = None
    payload_on_disk: _Flag = None
    shard_number: _Factor = None
    replication_factor: _Factor = None
    write_consistency_factor: _Factor = None
    strict_mode: _Flag = None
    hnsw_ef: Annotated[Annotated[int, Field(ge=1, le=MOST_HNSW_EF)] | None, _or_none] = None
    exact: bool = False
    rescore: _Flag = None
    oversampling: Annotated[Annotated[float, Field(ge=1, le=MOST_OVERSAMPLING)] | None, _or_none] = None

    @model_validator(mode="after")
    def _as_many_copies_can_apply_a_write(self) -> Self:
        written, copies = self.write_consistency_factor, self.replication_factor
        if written and copies and written > copies:
            raise ValueError(
                f"write_consistency_factor {written} is above replication_factor {copies}: no write could count; "
                "lower the former, or raise the latter"
            )
        return self


class SearchMode(StrEnum):
    """Select how chunks are ranked: by meaning (dense), by words (sparse), or by both (hybrid)."""

    HYBRID = "hybrid"
    DENSE = "dense"
    SPARSE = "sparse"


class Fusion(StrEnum):
    """Select how the two rankings become one: by their scores, or by their ranks (reciprocal rank fusion)."""

    SCORE = "score"
    RRF = "rrf"


class Search(_Group):
    """Configure how a query is answered. clipdex.index.ranking has the formulas.

    dense_weight, sparse_weight: weights of the two rankings in mode hybrid; 0 leaves a ranking out. sparse_weight None:
        3 with score fusion, 1 with reciprocal rank fusion
    density_weight: how much a chunk loses because it resembles many clips (score fusion)
    rrf_k: constant of reciprocal rank fusion; the larger, the more low ranks count
    depth: lowest number of candidates from each ranking [chunks]
    reranker: name or folder of a cross-encoder that orders the best clips again; "" for none
    rerank: number of clips that it reads, at least those that are wanted
    min_relevance: hits of less are weak: left out unless they are wanted [0 to 1]
    calibration: log odds of relevance per cosine, per share of the query's words, and at 0 of both; None for those of
        the model
    """

    mode: SearchMode = SearchMode.HYBRID
    fusion: Fusion = Fusion.SCORE
    dense_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    sparse_weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    density_weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    rrf_k: int = Field(default=60, ge=1)
    depth: int = Field(default=200, ge=1)
    reranker: str = ""
    rerank: int = Field(default=30, ge=1)
    min_relevance: float = Field(default=0.35, ge=0, le=1)
    calibration: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _a_ranking_counts(self) -> Self:
        if not any(self.weights):
            raise ValueError("dense_weight and sparse_weight are both 0: one of the rankings must count")
        return self

    @property
    def weights(self) -> tuple[float, float]:
        """Return the weights of the dense and of the sparse ranking, as the mode has them."""
        match self.mode:
            case SearchMode.DENSE:
                return 1.0, 0.0
            case SearchMode.SPARSE:
                return 0.0, 1.0
            case _:
                default = 3.0 if self.fusion is Fusion.SCORE else 1.0
                return self.dense_weight, default if self.sparse_weight is None else self.sparse_weight


def _network(text: str) -> str:
    """Return an address or a network as it is. Raises ValueError."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an address such as 10.0.0.7, or a network such as 10.0.0.0/24") from None
    return text


class Serve(_Group):
    """Configure clipdex serve.

    token_file: digests of the tokens; "" for tokens.json in the state folder
    hosts: names of the server, beside localhost and its address
    trusted_proxies: addresses and networks of reverse proxies, whose X-Forwarded-For, -Proto and -Prefix count
    requests_per_minute: limit per token
    """

    token_file: str = ""
    hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    requests_per_minute: int = Field(default=600, ge=1)


class Quarantine(_Group):
    """Limit how many rejections are accepted.

    max_share: of a batch for one reason, if more than `floor` clips have it
    max_share_of_run: of a run; more fails the report
    trust_decoder: accept any number of rejections by the decoder
    """

    max_share: float = Field(default=0.2, gt=0, le=1)
    floor: int = Field(default=4, ge=0)
    max_share_of_run: float = Field(default=0.5, gt=0, le=1)
    trust_decoder: bool = False


class Batches(_Group):
    """Configure batches and leases.

    size: clips per mapped task, doubled up to max_size if a run would exceed max_batches
    lease_s: until the lease of a run expires that does not renew it [s]
    """

    size: int = Field(default=64, ge=1)
    max_size: int = Field(default=512, ge=1)
    max_batches: int = Field(default=1024, ge=1)
    preparing: int = Field(default=2, ge=1)
    lease_s: float = Field(default=900.0, gt=0)


def _default_home() -> Path:
    """Return the checkout that clipdex runs from; outside of one, the user's data folder."""
    if (REPOSITORY / "pyproject.toml").is_file():
        return REPOSITORY
    return platformdirs.user_data_path("clipdex")


class Settings(BaseSettings):
    """Hold all settings of a run. home: contains the state folders .clipdex and .airflow."""

    model_config = SettingsConfigDict(
        env_prefix="CLIPDEX_",
        env_nested_delimiter="__",
        env_parse_none_str="null",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    home: Path = Field(default_factory=_default_home)
    source: Source = Source()
    store: StoreSettings = StoreSettings()
    video: VideoLimits = VideoLimits()
    sampling: Sampling = Sampling()
    engine: Engine = Engine()
    chunking: Chunking = Chunking()
    embedding: Embedding = Embedding()
    index: Index = Index()
    search: Search = Search()
    serve: Serve = Serve()
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
        """Rank a preset below explicit settings and above the defaults."""
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

    def changed(self, changes: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return settings with other values of some fields, by group. Raises ConfigurationError."""
        groups = {}
        for name, fields in changes.items():
            group = getattr(self, name) if name in type(self).model_fields else None
            if not isinstance(group, BaseModel):
                known = ", ".join(one for one in type(self).model_fields if isinstance(getattr(self, one), BaseModel))
                raise ConfigurationError(f"there is no group of settings {name!r}; the groups are {known}")
            for field in fields:
                if field not in type(group).model_fields:
                    known = ", ".join(f"{name}.{one}" for one in type(group).model_fields)
                    raise ConfigurationError(f"there is no setting {name}.{field}; this group has {known}")
            try:
                groups[name] = type(group).model_validate({**dict(group), **fields})
            except ValidationError as error:
                raise ConfigurationError(_validation_message(error, name)) from None
        return self.model_copy(update=groups)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the environment. overrides: by group, a dict of changed fields. Raises ConfigurationError."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise ConfigurationError(_validation_message(error)) from None
        except SettingsError:  # its message has neither the variable nor a reason
            raise ConfigurationError(
                f'settings: {_without_json(cls)}: expected JSON, such as ["http://gpu-1:30000"] or {{"fps": 2}}'
            ) from None


class _SourceTimezone(BaseModel):
    timezone: Timezone = "UTC"


class _TimezoneSettings(BaseSettings):
    """Read the time zone alone: the other settings may be complete only with their Connections."""

    model_config = SettingsConfigDict(env_prefix="CLIPDEX_", env_nested_delimiter="__", extra="ignore")

    source: _SourceTimezone = _SourceTimezone()


def source_timezone() -> str:
    """Return the time zone in the environment, the one of the schedule. Raises ConfigurationError."""
    try:
        return _TimezoneSettings().source.timezone
    except ValidationError as error:
        raise ConfigurationError(_validation_message(error)) from None
    except SettingsError:
        raise ConfigurationError('settings: CLIPDEX_SOURCE: expected JSON, such as {"timezone": "UTC"}') from None


class _Preset(PydanticBaseSettingsSource):
    """Provide the settings of the chosen strategy and preset."""

    def __call__(self) -> dict[str, Any]:
        engine = self.current_state.get("engine", {})
        try:
            chosen = presets.row(engine if isinstance(engine, dict) else dict(engine))
        except KeyError:
            known = ", ".join(presets.PRESETS)
            raise ConfigurationError(
                f"there is no preset {engine['preset']!r}: set CLIPDEX_ENGINE__PRESET to one of {known}, or unset it"
            ) from None
        return {group: dict(fields) for group, fields in chosen.items()}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # required by the base class, unused


def _without_json(settings: type[Settings]) -> str:
    """Return the names of the variables that need JSON and have none."""
    found = []
    for group, field in settings.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            continue
        names = {f"clipdex_{group}"} | {
            f"clipdex_{group}__{name}"
            for name, inner in field.annotation.model_fields.items()
            if get_origin(inner.annotation) in (tuple, dict)
        }
        for variable, value in os.environ.items():
            try:
                if variable.lower() in names:
                    json.loads(value)
            except ValueError:
                found.append(variable)
    return ", ".join(found) or "a list or an object"


def _validation_message(error: ValidationError, *group: str) -> str:
    """Name each invalid variable and its error, but not its value, which may be a secret. group: that of all of them"""
    lines = []
    for mistake in error.errors(include_input=False, include_url=False):
        name = "CLIPDEX_" + "__".join(str(part) for part in (*group, *mistake["loc"])).upper()
        lines.append(f"{name}: {mistake['msg']}")
    return "settings: " + "; ".join(lines)
