"""Seccomp filter for processes that read hostile files: no network, no other program, no other process.

The filter is permanent and covers every thread. It needs no privilege and works inside containers.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_PR_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _JUMP_IF, _JUMP_FROM, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_X32 = 0x40000000  # flag of x32 system calls

# socket, connect, execve, execveat, ptrace, process_vm_readv, process_vm_writev, io_uring_setup
_REFUSED = {
    "x86_64": (0xC000003E, (41, 42, 59, 322, 101, 310, 311, 425)),
    "aarch64": (0xC00000B7, (198, 203, 221, 281, 117, 270, 271, 425)),
}


def refuse() -> bool:
    """Install the filter. Return False if this machine does not support it. Requires no_new_privs."""
    if sys.platform != "linux" or platform.machine() not in _REFUSED:
        return False
    architecture, calls = _REFUSED[platform.machine()]
    # Also refuse calls of another architecture, whose numbers differ.
    steps = [(_LOAD, 0, 0, _ARCHITECTURE), (_JUMP_IF, 0, len(calls) + 2, architecture), (_LOAD, 0, 0, _NUMBER)]
    steps.append((_JUMP_FROM, len(calls), 0, _X32))
    steps += [(_JUMP_IF, len(calls) - 1 - n, 0, call) for n, call in enumerate(calls)]
    steps[-1] = (_JUMP_IF, 0, 1, calls[-1])
    steps += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(program, len(program))
    given = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(held)))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _FILTER, given, 0, 0) != 0:
        if ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS):  # no seccomp in this kernel
            return False
        raise OSError(ctypes.get_errno(), f"prctl({_PR_SET_SECCOMP}): {os.strerror(ctypes.get_errno())}")
    return True
