"""LangChain: a retriever over the index.

    from clipdex.langchain import ClipRetriever

    retriever = ClipRetriever.from_settings(limit=5, where={"camera": "cam-7"})
    for document in retriever.invoke("a red car turns left"):
        print(document.metadata["uri"], document.metadata["start_s"], document.page_content)

It works in a chain, in batches, with callbacks and from an event loop, as any retriever. A call may change the search
for itself: retriever.invoke("a red car", where={"day": "2026-11-03"}, limit=3), or retriever.bind(limit=3) in a chain.
"""

from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field

from clipdex.config import Settings
from clipdex.index.search import ChunkHit, ClipHit
from clipdex.pipeline import Pipeline

_PER_CALL = ("limit", "chunks", "where", "weak", "diversity")


class ClipRetriever(BaseRetriever):
    """Retrieve the passages of captions that match a query, best clip first.

    limit: most clips
    chunks: most Documents per clip: its chunks that match best, each with its own text and times
    where: filters as in Pipeline.search, such as {"camera": "cam-7", "day": "2026-11-01..2026-11-03"}
    weak: include clips that are probably no match
    diversity: 0 to 1: how much the clips differ from each other
    Raises what Pipeline.search raises: InvalidFilter, EmptyQuery, NothingIndexed, IndexUnavailable, ConfigurationError;
    and pydantic.ValidationError for a field of a wrong type.
    """

    pipeline: Pipeline = Field(repr=False, exclude=True)
    limit: int = Field(default=5, ge=1)
    chunks: int = Field(default=1, ge=1)
    where: dict[str, Any] | None = None
    weak: bool = False
    diversity: float = Field(default=0.0, ge=0, le=1)

    @classmethod
    def from_settings(cls, settings: Settings | None = None, **fields: Any) -> Self:
        """Return a retriever over these settings, or over the CLIPDEX_* variables. Raises ConfigurationError.

        fields: limit, chunks, where, weak, diversity, and those of any retriever: name, tags, metadata
        """
        return cls(pipeline=Pipeline.open(settings), **fields)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **changes: Any
    ) -> list[Document]:
        how = self._changed(changes)
        return how._documents(self.pipeline.search(query, **how._arguments()))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **changes: Any
    ) -> list[Document]:
        how = self._changed(changes)
        return how._documents(await self.pipeline.asearch(query, **how._arguments()))

    def _changed(self, changes: dict[str, Any]) -> Self:
        """Return the retriever of one call. Raises TypeError for a field that a call cannot change."""
        if unknown := sorted(changes.keys() - set(_PER_CALL)):
            raise TypeError(
                f"{type(self).__name__} has no argument {unknown[0]!r}; a call takes {', '.join(_PER_CALL)}"
            )
        return type(self).model_validate({**dict(self), **changes}) if changes else self

    def _arguments(self) -> dict[str, Any]:
        return {"limit": self.limit, "where": self.where, "weak": self.weak, "diverse": self.diversity}

    def _documents(self, clips: list[ClipHit]) -> list[Document]:
        return [_document(clip, chunk) for clip in clips for chunk in clip.hits[: self.chunks]]


def _document(clip: ClipHit, chunk: ChunkHit) -> Document:
    """Return a chunk as a Document. A clip's own metadata lies beside the fields below, which win."""
    part = {"part_of": clip.part_of, "part_no": clip.part_no, "clip_start_s": clip.clip_start_s} if clip.part_of else {}
    return Document(
        id=chunk.id,
        page_content=chunk.text,
        metadata={
            **clip.metadata,
            "clip_id": clip.clip_id,
            "uri": clip.uri,
            "day": clip.day,
            "start_s": chunk.start_s,
            "end_s": chunk.end_s,
            "duration_s": clip.duration_s,
            "recorded_at": clip.recorded_at,
            "score": chunk.score,
            "relevance": clip.relevance,
            "weak": clip.weak,
            **part,
        },
    )
