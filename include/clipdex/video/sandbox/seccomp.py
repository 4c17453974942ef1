"""Seccomp filter for processes that read hostile files: they compute, and use the files that they hold.

A list of allowed system calls. All others fail with EACCES: opening files, network, signals, other programs and
processes, their memory, limits, io_uring, and what a newer kernel adds. The filter is permanent and covers every
thread, also earlier ones. It needs no privilege and works inside containers.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_SET_FILTER, _ALL_THREADS = 1, 1  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
_LOAD, _JUMP_IF, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
# CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID: the flags of pthread_create
_THREAD_FLAGS = 0x3D0F00

_MACHINES = ("x86_64", "aarch64")
_AUDIT = (0xC000003E, 0xC00000B7)
_SECCOMP = (317, 277)
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_ALLOWED = {
    # held files, pipes and sockets; descriptors come with recvmsg, none can be sent
    "read": (0, 63),
    "pread64": (17, 67),
    "write": (1, 64),
    "lseek": (8, 62),
    "close": (3, 57),
    "recvmsg": (47, 212),
    "dup2": (33, 24),  # dup3 on aarch64
    # memory
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "brk": (12, 214),
    "madvise": (28, 233),
    # threads, and signals to this process
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "gettid": (186, 178),
    "getpid": (39, 172),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # clocks, random numbers, the size of the memory
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "sysinfo": (99, 179),
}


def install() -> bool:
    """Install the filter. Return False if this machine does not support it. Requires no_new_privs.

    Raises OSError if the kernel rejects the filter.
    """
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    machine = _MACHINES.index(platform.machine())
    steps = _filter(machine)
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(program, len(program))
    given = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(held)))
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    answer = call(*(ctypes.c_long(one) for one in (_SECCOMP[machine], _SET_FILTER, _ALL_THREADS)), given)
    if answer > 0:
        raise OSError(errno.EBUSY, f"seccomp: thread {answer} has another filter")
    if answer < 0:
        if ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS):  # no seccomp in this kernel
            return False
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
    return True


def _filter(machine: int) -> list[tuple[int, int, int, int]]:
    """Return the BPF program: (operation, steps to skip if true, if false, operand) per step."""
    # Numbers of another architecture mean other calls. An x32 number is in no list.
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_IF, 1, 0, _AUDIT[machine]), _fail(errno.EACCES)]
    steps.append((_LOAD, 0, 0, _NUMBER))
    for numbers in _ALLOWED.values():
        steps += [(_JUMP_IF, 0, 1, numbers[machine]), (_RETURN, 0, 0, _ALLOW)]
    # The flags of clone3 are in memory, which a filter cannot read. After ENOSYS, the C library calls clone.
    steps += [(_JUMP_IF, 0, 1, _CLONE3[machine]), _fail(errno.ENOSYS)]
    steps += [(_JUMP_IF, 0, 3, _CLONE[machine]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    steps += [(_JUMP_IF, 0, 1, _THREAD_FLAGS), (_RETURN, 0, 0, _ALLOW), _fail(errno.EACCES)]
    return steps


def _fail(error: int) -> tuple[int, int, int, int]:
    return _RETURN, 0, 0, _FAIL | error
