"""Test the command's errors: one line on stderr with what, why and what next, exit code 2, and nothing spent before."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from clipdex.cli import main
from tests.support.clips import plain, write_clip
from tests.support.engine import MODEL, StandIn


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path) -> Path:
    for name in [name for name in os.environ if name.startswith(("CLIPDEX_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def clip(tmp_path) -> Path:
    (tmp_path / "clips").mkdir()
    return write_clip(tmp_path / "clips/red.mp4", picture=plain((200, 30, 30)))


@pytest.fixture
def fail(capsys):
    """Run the command, which must fail with exit code 2; return its one line on stderr."""

    def run(*arguments: object) -> str:
        try:
            code = main([str(one) for one in arguments])
        except SystemExit as exit_:
            code = exit_.code
        output = capsys.readouterr()
        assert code == 2 and output.out == ""
        [line] = output.err.splitlines()
        return line

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "clipdex: the following arguments are required: command; see clipdex --help"),
        (["serch"], "clipdex: argument command: invalid choice: 'serch'"),
        (["search"], "clipdex search: the following arguments are required: query; see clipdex search --help"),
        (["search", "x", "--limit", "0"], "clipdex search: argument --limit: '0' is not a whole number of 1 or more"),
        (["search", "x", "--day", "3.11.2026"], "clipdex search: argument --day: '3.11.2026' is not a date"),
        (["search", " "], "clipdex search: the query is empty; enter words"),
        (["ingest", ".", "--recaption-for", "x"], "clipdex ingest: argument --recaption-for: invalid choice: 'x'"),
        (["ingest", ".", "--retry-quarantined", "x"], "clipdex ingest: argument --retry-quarantined: invalid choice"),
        (["plan", "--clips", "1", "--profile", "x"], "clipdex plan: argument --profile: invalid choice: 'x'"),
        (["plan", "--clips", "1", "--clips-per-second-per-gpu", "nan"], "clipdex plan: argument --clips-per-second"),
        (["plan", ".", "--from", "2026-11-03"], "clipdex plan: --from and --to go together"),
        (["plan"], "clipdex plan: nothing to plan: give a folder"),
        (["captions", "\x1b[2J"], r"clipdex: unrecognized arguments: \u001b[2J; see clipdex --help"),
        (["eval"], "clipdex eval: the following arguments are required: file; see clipdex eval --help"),
        (["mcp", "--http", "--port", "70000"], "clipdex mcp: argument --port: '70000' is not a port from 0 to 65535"),
        (["mcp", "--port", "80"], "clipdex mcp: arguments --host and --port: only with --http; see clipdex mcp --help"),
        (["compare", "x.mp4"], "clipdex compare: the following arguments are required: --with"),
    ],
)
def test_a_wrong_argument_is_one_line(fail, arguments, message):
    assert fail(*arguments).startswith(message)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CLIPDEX_ENGINE__BASE_URLS", "http://10.0.0.7"),
        ("CLIPDEX_ENGINE__OPTIONS", "{x"),
        ("CLIPDEX_SOURCE", "a-secret"),
    ],
)
def test_a_setting_without_json_is_named(fail, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    line = fail("plan", "--clips", 1)
    assert line.startswith(f"clipdex plan: settings: {variable}: expected JSON") and value not in line


@pytest.mark.parametrize("command", ["ingest", "plan"])
def test_a_missing_folder_is_named(fail, home, clip, command):
    assert fail(command, home / "nowhere") == f"clipdex {command}: {home}/nowhere: no such folder"
    assert fail(command, clip) == f"clipdex {command}: {clip}: is a file; a folder expected"


@pytest.mark.parametrize("command", [["caption"], ["eval"], ["compare", "--with", "a:strategy=video"]])
def test_a_missing_file_is_named(fail, home, clip, command):
    assert fail(*command, home / "no.mp4") == f"clipdex {command[0]}: {home}/no.mp4: no such file"
    assert f"{clip.parent} is a folder; a file expected" in fail(*command, clip.parent)


@pytest.mark.parametrize(
    ("command", "place", "why"),
    [
        *((command, "/proc/none", "no such file or directory") for command in ("search", "ingest")),
        *((command, "FILE", "not a directory") for command in ("search", "ingest", "plan", "captions", "reindex")),
    ],
)
def test_a_home_that_cannot_be_used_is_one_line(fail, monkeypatch, clip, command, place, why):
    place = place.replace("FILE", str(clip))
    monkeypatch.setenv("CLIPDEX_HOME", place)
    arguments = {"search": ["x"], "ingest": [clip.parent], "plan": [clip.parent]}.get(command, [])
    line = fail(command, *arguments)
    assert line.startswith(f"clipdex {command}: {place}") and f": {why}; check the arguments, CLIPDEX_HOME" in line


@pytest.mark.parametrize("command", ["captions", "ingest", "reindex"])
def test_object_storage_that_cannot_be_used_is_one_line(fail, monkeypatch, clip, command):
    monkeypatch.setenv("CLIPDEX_STORE__URL", "s3://bucket")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    line = fail(command, *([clip.parent] if command == "ingest" else []))
    assert line.startswith(f"clipdex {command}: object storage: Unable to locate credentials; check the URL")


def test_a_file_or_folder_that_this_user_may_not_read_is_one_line():
    program = """
import os, sys
import clipdex.cli, clipdex.captions.engines, clipdex.compare.page, clipdex.pipeline, clipdex.runs.planning
import clipdex.storage.artifacts, clipdex.storage.source, upath.implementations.local
folder = sys.argv[1]
if os.geteuid() == 0:
    os.setuid(65534)  # root may read everything
os.environ["CLIPDEX_HOME"] = folder + "/closed"
for arguments in (["caption", folder + "/a.mp4"], ["compare", folder + "/a.mp4", "--with", "a:"], ["captions"],
                  ["plan", folder + "/closed"], ["ingest", folder + "/closed"]):
    print(clipdex.cli.main(arguments))
"""
    with tempfile.TemporaryDirectory() as folder:  # not below tmp_path, which is closed to others
        Path(folder).chmod(0o755)
        Path(folder, "a.mp4").touch(mode=0)
        Path(folder, "closed").mkdir(mode=0)
        done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True)
    assert done.stdout.split() == ["2"] * 5, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 5 and all(line.startswith("clipdex ") and folder in line for line in lines)
    assert f"clipdex caption: {folder}/a.mp4: permission denied; give this user access, or use another path" in lines


def outputs(tmp_path: Path, clip: Path) -> dict[str, str]:
    (tmp_path / "file").touch()
    return {
        str(tmp_path / "missing/page.html"): f"the folder {tmp_path}/missing does not exist: create it",
        str(tmp_path): f"{tmp_path} is a folder: name a file in it",
        str(tmp_path / "file/page.html"): f"the folder {tmp_path}/file is a file",
        "/proc/page.html": "/proc/page.html cannot be written",
        str(clip): "is one of the clips: name another file",
    }


def test_an_output_that_cannot_be_written_is_found_before_a_caption_is_paid_for(fail, clip, tmp_path):
    content = clip.read_bytes()
    with StandIn() as engine:
        variant = f"a:engine=sglang,model={MODEL},base_urls={engine.url}"
        for out, message in outputs(tmp_path, clip).items():
            assert message in fail("compare", clip, "--with", variant, "--out", out)
        assert engine.requests == []
    assert clip.read_bytes() == content


def test_checking_an_output_leaves_no_file_and_changes_none(fail, tmp_path, clip):
    from clipdex.storage.filesystem import require_writable

    new, old, link = tmp_path / "new.html", tmp_path / "old.html", tmp_path / "link.html"
    old.write_text("kept")
    link.symlink_to(tmp_path / "target.html")
    for path in (new, old, link, Path("/dev/null")):
        require_writable(path)
    assert not new.exists() and old.read_text() == "kept" and link.is_symlink() and not link.exists()


def test_a_reader_that_stops_early_is_no_error(home):
    command = [sys.executable, "-m", "clipdex.cli", "plan", "--clips", "1", "--json"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_these_letters_shows_them_escaped(home, clip):
    command = [
        sys.executable,
        "-m",
        "clipdex.cli",
        "compare",
        clip,
        "--with",
        "a:engine=vllm",
        "--out",
        home / "ü.html",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == f"{home}/\\xfc.html\n" and "Traceback" not in done.stderr
