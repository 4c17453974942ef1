"""The public API: what `import clipdex` gives, what it costs, and the examples."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clipdex
from clipdex import cli
from tests.support.pipeline import DAY, Pipeline

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def archive(tmp_path, engine, monkeypatch) -> Pipeline:
    """An archive of three clips, named by the environment."""
    archive = Pipeline(tmp_path, [engine.url])
    for name, value in archive.environment().items():
        monkeypatch.setenv(name, value)
    archive.put(3)
    return archive


def test_the_exported_names_are_these():
    assert sorted(clipdex.__all__) == [
        "BatchRejected", "ChunkHit", "ClipHit", "ClipRejected", "ClipdexError", "ConfigurationError",
        "EmbeddingUnavailable", "EmptyQuery", "EngineUnavailable", "IndexUnavailable", "Ingested", "InvalidFilter",
        "LeaseHeld", "NothingIndexed", "Pipeline", "Reason", "RunIncomplete", "Settings", "Unavailable",
        "UnknownClip", "__version__",
    ]  # fmt: skip
    assert all(getattr(clipdex, name) is not None for name in clipdex.__all__)
    assert dir(clipdex) == sorted(clipdex.__all__)


def test_importing_it_and_its_pipeline_loads_no_framework():
    code = "import sys, clipdex; clipdex.Pipeline, clipdex.ClipHit, clipdex.ConfigurationError; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "airflow", "transformers", "sentence_transformers", "qdrant_client", "qdrant_edge", "av", "cv2"}
    assert heavy.isdisjoint(loaded)


@pytest.mark.slow
def test_importing_every_module_changes_no_logger():
    """Airflow configures logging when it is imported, so it comes first."""
    code = """
import importlib, logging, pkgutil
import airflow.sdk, clipdex
def seen():
    return [(one.name, one.level, list(one.handlers), one.disabled) for one in map(logging.getLogger, names)]
names = [None, "httpx", "httpcore", "qdrant_client", "py.warnings", "clipdex"]
logging.getLogger("httpx").setLevel(logging.INFO)
before = seen()
for module in pkgutil.walk_packages(clipdex.__path__, "clipdex."):
    importlib.import_module(module.name)
assert seen() == before, (before, seen())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_is_ingested_and_searched(archive):
    pipeline = clipdex.Pipeline.open()
    events: list[str] = []
    result = pipeline.ingest(str(archive.clips), on_progress=lambda event: events.append(type(event).__name__))
    assert (result.report.total("captioned"), len(result.clips)) == (3, 3)
    assert events == ["Plan", "CaptionTotals", "Ingested"]
    [hit] = pipeline.search("what is to be seen", limit=1, weak=True, where={"engine": "sglang"})
    assert hit.uri.startswith(f"file://{archive.clips}")
    assert (hit.text, hit.start_s, hit.end_s) == (hit.hits[0].text, hit.hits[0].start_s, hit.hits[0].end_s)
    assert not pipeline.search("what is to be seen", weak=True, where={"engine": "detectors"})


def test_a_folder_that_is_done_is_not_captioned_again(archive, engine):
    pipeline = clipdex.Pipeline.open()
    for captioned in (3, 0):
        assert pipeline.ingest(str(archive.clips)).report.total("captioned") == captioned
    assert len(engine.chats) == 3


def test_a_folder_is_the_same_source_however_it_is_written(archive, monkeypatch):
    pipeline = clipdex.Pipeline.open()
    pipeline.ingest(archive.clips)
    monkeypatch.chdir(archive.home)
    assert pipeline.ingest("clips").report.total("captioned") == 0
    with pytest.raises(FileNotFoundError, match="no such folder"):
        pipeline.ingest("nowhere")


def test_a_folder_that_is_ingested_has_nothing_left_to_plan(archive, capsys):
    clipdex.Pipeline.open().ingest(archive.clips)
    assert cli.main(["plan", str(archive.clips), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["discovered"], plan["to_do"]) == ({DAY: 3}, {DAY: 0})


def test_the_command_reports_unfinished_clips_and_the_cause(archive, engine, capsys):
    engine.plan.set("503:1.0:at=chat")
    assert cli.main(["ingest", str(archive.clips)]) == 1
    message = capsys.readouterr().err
    assert "3 clips are unfinished (" in message and "run the same command again" in message


def test_an_engine_that_is_down_is_raised_after_the_result_is_shown(archive, engine):
    engine.plan.set("503:1.0:at=chat")
    events: list[object] = []
    with pytest.raises(clipdex.EngineUnavailable):
        clipdex.Pipeline.open().ingest(str(archive.clips), on_progress=events.append)
    assert isinstance(events[-1], clipdex.Ingested)


@pytest.mark.parametrize(
    ("example", "shown"),
    [
        (["search_a_folder.py", "CLIPS", "what is to be seen"], "3 clips captioned, 0 quarantined"),
        (["batch_by_batch.py", DAY], "3 clips indexed, 0 quarantined"),
        (["search_async.py", "a dog"], "nothing to search"),
    ],
)
def test_an_example_runs(archive, example, shown):
    command = [sys.executable, str(EXAMPLES / example[0]), *(str(archive.clips) if word == "CLIPS" else word
               for word in example[1:])]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, cwd=archive.home)
    assert shown in done.stdout + done.stderr


def test_every_example_is_run_here():
    sources = Path(__file__).read_text() + (Path(__file__).parent / "test_serve_process.py").read_text()
    assert all(re.search(f'[/"]{re.escape(path.name)}"', sources) for path in EXAMPLES.glob("*.py"))
