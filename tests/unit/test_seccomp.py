"""Test what seccomp denies to a decoder that a malicious file controls."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, os, socket, subprocess, sys, threading
from clipdex.video.sandbox import seccomp
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
assert seccomp.refuse()
read, write = os.pipe()
threading.Thread(target=os.write, args=(write, b"threads still run")).start()
assert os.read(read, 99) == b"threads still run"
try:
    {attempt}
except PermissionError:
    print("refused")
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.socket(socket.AF_UNIX)",
        "subprocess.run(['true'])",
        "os.execv(sys.executable, [sys.executable, '-c', ''])",
        "threading.Thread(target=socket.socket).run()",
    ],
)
def test_decoder_cannot_use_the_network_or_start_a_program(attempt):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(attempt=attempt)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("refused\n", 0), done.stderr
