"""Test the first captions of a new process, which import the detectors' packages, from several threads at once."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from clipdex.config import Sampling, VideoLimits
from clipdex.video import prepare
from tests.support.clips import write_clip

TIMES, AT_ONCE = 8, 2

PROGRAM = """
import asyncio, pickle, sys
from pathlib import Path

import pytest
from clipdex.captions.detectors import Detectors
from clipdex.config import Settings

async def start():
    engine = Detectors(Settings.load(engine={"in_flight": 2}))
    clip = pickle.loads(Path(sys.argv[1]).read_bytes())
    captions = asyncio.gather(*(engine.caption(clip) for _ in range(2)))
    while not captions.done():
        await engine.check()
    print(len({caption.text for caption in await captions}))
    await engine.aclose()

asyncio.run(start())
"""


@pytest.mark.slow
def test_first_captions_in_many_threads_find_whole_packages(tmp_path):
    clip = tmp_path / "clip"
    path = write_clip(tmp_path / "a.mp4", seconds=1)
    clip.write_bytes(pickle.dumps(prepare(path, VideoLimits(), Sampling(short_side=64))))

    def start(_: int) -> tuple[str, str]:
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(clip)], capture_output=True, text=True, check=False)
        return done.stdout.strip(), "" if done.returncode == 0 else done.stderr[-2000:]

    with ThreadPoolExecutor(AT_ONCE) as starts:
        assert list(starts.map(start, range(TIMES))) == [("1", "")] * TIMES
