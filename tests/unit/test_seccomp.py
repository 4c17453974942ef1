"""Test what a decoder that a malicious file controls cannot do.

PROGRAM is confined by the code that confines a decoder. ATTEMPTS call the kernel directly, so that no check of a
library stands in for the filter. The victim is a process of the same user with a secret in its environment and memory,
as the parent of a decoder is.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INCLUDE = ROOT / "include"
USERS = [os.geteuid(), *([65534] if os.geteuid() == 0 else [])]  # root can also become an unprivileged user

PROGRAM = """
import ctypes, json, os, platform, socket, subprocess, sys, threading
from clipdex.config import VideoLimits
from clipdex.video.sandbox import worker

user, victim, attempts = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
arm = platform.machine() == "aarch64"
buffer = ctypes.create_string_buffer(4096)
unlimited = ctypes.create_string_buffer(b"\\xff" * 16)
held = socket.socketpair()
confined = threading.Event()
answers = {name: [] for name in attempts}


def call(x86_64, aarch64, *arguments):
    number = aarch64 if arm else x86_64
    answer = libc.syscall(*(ctypes.c_long(one) if isinstance(one, int) else one for one in (number, *arguments)))
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def try_all():
    confined.wait()
    for name, attempt in attempts.items():
        try:
            answers[name].append(f"allowed: {eval(attempt)}")
        except PermissionError as error:
            answers[name].append("refused" if error.errno == 13 else str(error))
        except Exception as error:
            answers[name].append(f"not refused: {error!r}")


if user != os.geteuid():
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
earlier = threading.Thread(target=try_all)
earlier.start()
out = os.dup(1)
worker.confine(VideoLimits(), os.getppid())
confined.set()
earlier.join()
later = threading.Thread(target=try_all)
later.start()
later.join()
try_all()
os.write(out, json.dumps(answers).encode() + b"\\n")
os.read(0, 1)
"""

# call(x86_64 number, aarch64 number, arguments). Where one is allowed, it changes nothing.
ATTEMPTS = {
    # signals
    "kill": "call(62, 129, victim, 0)",
    "kill all": "call(62, 129, -1, 0)",
    "tkill": "call(200, 130, victim, 0)",
    "tgkill": "call(234, 131, victim, victim, 0)",
    "rt_sigqueueinfo": "call(129, 138, victim, 0, buffer)",
    "rt_tgsigqueueinfo": "call(297, 240, victim, victim, 0, buffer)",
    "pidfd_open": "call(434, 434, victim, 0)",
    "pidfd_send_signal": "call(424, 424, 0, 0, 0, 0)",
    "pidfd_getfd": "call(438, 438, 0, 0, 0)",
    "fcntl: signals of a socket": "call(72, 25, held[0].fileno(), 8, victim)",
    "ioctl: signals of a socket": "call(16, 29, held[0].fileno(), 0x8901, buffer)",
    "timer_create": "call(222, 107, 0, 0, buffer)",
    # tracing, memory of other processes
    "ptrace": "call(101, 117, 16, victim, 0, 0)",
    "process_vm_readv": "call(310, 270, victim, 0, 0, 0, 0, 0)",
    "process_vm_writev": "call(311, 271, victim, 0, 0, 0, 0, 0)",
    "process_madvise": "call(440, 440, 0, 0, 0, 0, 0)",
    "kcmp": "call(312, 272, victim, victim, 0, 0, 0)",
    "perf_event_open": "call(298, 241, buffer, victim, -1, -1, 0)",
    "environ of another process": "open(f'/proc/{victim}/environ').read()",
    "memory of another process": "open(f'/proc/{victim}/mem', 'rb')",
    # files
    "openat": "call(257, 56, -100, b'/etc/passwd', 0, 0)",
    "openat2": "call(437, 437, -100, b'/etc/passwd', buffer, 24)",
    "open": "call(2, 56, *(() if not arm else (-100,)), b'/etc/passwd', 0, 0)",
    "creat": "os.open('/none/new', os.O_CREAT | os.O_WRONLY)",
    "open_by_handle_at": "call(304, 265, 0, buffer, 0)",
    "stat": "os.stat('/etc/passwd')",
    "readlink": "os.readlink('/proc/self/exe')",
    "list a folder": "os.listdir('/')",
    "unlink": "os.unlink('/none/file')",
    "rename": "os.rename('/none/file', '/none/other')",
    "memfd_create": "os.memfd_create('program')",
    "shmget": "call(29, 194, 0, 0, 0)",
    "flock": "call(73, 32, 0, 1)",
    # network, and descriptors for others
    "socket": "socket.socket()",
    "socket to this machine": "socket.socket(socket.AF_UNIX)",
    "socketpair": "socket.socketpair()",
    "connect": "call(42, 203, held[0].fileno(), buffer, 16)",
    "bind": "call(49, 200, held[0].fileno(), buffer, 16)",
    "listen": "call(50, 201, held[0].fileno(), 1)",
    "sendmsg": "held[0].sendmsg([b'data'])",
    "sendto": "held[0].send(b'data')",
    # programs, processes
    "execve": "call(59, 221, b'/none', 0, 0)",
    "execveat": "call(322, 281, -100, b'/none', 0, 0, 0)",
    "run a program": "subprocess.run(['true'])",
    "fork": "os.fork() or os._exit(0)",
    "clone: vfork": "call(56, 220, 0x4000 | 17, 0, 0, 0, 0) or os._exit(0)",
    "clone: a process": "call(56, 220, 17, 0, 0, 0, 0) or os._exit(0)",
    "clone: a new namespace": "call(56, 220, 0x10000000 | 17, 0, 0, 0, 0) or os._exit(0)",
    "unshare": "call(272, 97, 0x10000000)",
    "setns": "call(308, 268, 0, 0)",
    # limits and privileges
    "raise a limit: prlimit64": "call(302, 261, 0, 9, unlimited, 0)",
    "raise a limit: CPU time": "call(302, 261, 0, 0, unlimited, 0)",
    "limits of another process": "call(302, 261, victim, 9, unlimited, 0)",
    "raise a limit: setrlimit": "call(160, 164, 9, unlimited)",
    "prctl: dumpable again": "call(157, 167, 4, 1, 0, 0, 0)",
    "prctl: outlive the parent": "call(157, 167, 1, 0, 0, 0, 0)",
    "setpriority": "call(141, 140, 0, victim, 0)",
    "sched_setaffinity": "call(203, 122, victim, 8, buffer)",
    "setuid": "call(105, 146, 0)",
    "capset": "call(126, 91, buffer, buffer)",
    # the kernel
    "io_uring_setup": "call(425, 425, 1, buffer)",
    "bpf": "call(321, 280, 0, buffer, 128)",
    "keyctl": "call(250, 219, 0, 0, 0)",
    "userfaultfd": "call(323, 282, 0)",
    "mount": "call(165, 40, b'none', b'/none', b'none', 0, 0)",
    "a call that no kernel has": "call(4000, 4000)",
}
OF_X86_64 = {
    "fork by number": "call(57, 0) or os._exit(0)",
    "creat by number": "call(85, 0, b'/none/new', 0o600)",
    "x32: getpid": "call(0x40000000 | 39, 0)",
    "x32: openat": "call(0x40000000 | 257, 0, -100, b'/etc/passwd', 0, 0)",
}
if os.uname().machine == "x86_64":
    ATTEMPTS |= OF_X86_64


@pytest.fixture(scope="module", params=USERS, ids=lambda user: f"user {user}")
def answers(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """Return the answers to each attempt: in a thread older than the filter, in a newer one, in the main thread."""
    with confined(request.param, ATTEMPTS) as (program, _):
        line = program.stdout.readline()
        assert line, program.stderr.read()
        return json.loads(line)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_confined_decoder_is_refused_in_every_thread(answers, attempt):
    assert answers[attempt] == ["refused"] * 3


def test_the_documentation_names_each_attempt():
    section = (ROOT / "docs" / "security.md").read_text().partition("| Attempt | Refused |")[2].partition("\n\n")[0]
    assert re.findall("`(.+?)`", section) == [name for name in ATTEMPTS if name not in OF_X86_64]


@pytest.mark.parametrize("file", ["environ", "maps", "fd"])
def test_a_decoder_is_closed_to_other_processes_of_its_user(file):
    with confined(USERS[-1], {}) as (program, victim):
        program.stdout.readline()
        open_to_it, closed = (read_as(USERS[-1], process.pid, file) for process in (victim, program))
    assert open_to_it.returncode == 0
    assert closed.returncode != 0 and "Permission denied" in closed.stderr


@contextmanager
def confined(user: int, attempts: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """Run PROGRAM, and as its victim a process of its user with a secret in its environment."""
    with (
        subprocess.Popen(["sleep", "600"], env={**os.environ, "SECRET": "hunter2"}, user=user) as victim,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(user), str(victim.pid), json.dumps(attempts)],
            env={"PYTHONPATH": str(INCLUDE), "PATH": os.environ["PATH"]},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        yield program, victim
        for process in (program, victim):
            process.kill()


def read_as(user: int, pid: int, file: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ls" if file == "fd" else "cat", f"/proc/{pid}/{file}"], capture_output=True, text=True, user=user
    )
