"""Plays scenarios: an archive, and what an undisturbed run leaves of it, are made once; each gets a home of its own."""

import random
import shutil
import threading
from pathlib import Path

from tests.faults.scenarios import Scenario
from tests.support.chaos import Drill, make_archive
from tests.support.verdict import State, Verdict


class Suite:
    """What scenarios share. home: all of it lies there. Scenarios may be played by several threads."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)
        self.home, self.archive = home, make_archive(home / "archive")
        self._played = 0
        self._lock = threading.Lock()
        with Drill(home / "undisturbed", self.archive) as drill:
            drill.finish()
            self.undisturbed = drill.state()
            found = drill.verdict(self.undisturbed).wrong()
            assert not found, f"undisturbed, and yet: {found}"
        self._before: Path | None = None

    def play(self, scenario: Scenario, seed: int) -> Verdict:
        """Play it, let it end, and compare."""
        with self._lock:
            self._played += 1
            home = self.home / f"{self._played}"
        archive = self.archive
        if scenario.own_archive:
            archive = home / "clips"
            shutil.copytree(self.archive, archive)
        state = self.before if scenario.again else None
        with Drill(home, archive, state=state, served=scenario.served, **scenario.drill) as drill:
            if scenario.again:
                drill.recaption = True
            expected: State = scenario.play(drill, random.Random(seed), self.undisturbed) or self.undisturbed
            drill.finish()
            verdict = drill.verdict(expected)
        if not verdict.wrong():
            shutil.rmtree(home)
        return verdict

    @property
    def before(self) -> Path:
        """A day that is searchable already, by longer captions: what they leave over must go."""
        with self._lock:
            if self._before is None:
                with Drill(self.home / "before", self.archive, words=700) as drill:
                    drill.finish()
                self._before = self.home / "before" / ".clipdex"
            return self._before
