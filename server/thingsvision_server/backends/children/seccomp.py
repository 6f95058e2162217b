"""Denies this process system calls that a guest has no use for, by a filter of the kernel.

A denied call fails with EPERM, as for a user without the right. Sockets, other programs, new
processes and signals to other processes are among them; threads and memory are not.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from pathlib import Path

_PR_SET_SECCOMP, _MODE_FILTER, _UNUSED = 22, 2, (0, 0)
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_THREAD = 0x00010000
"""The flag of `clone` that makes a thread, not a process."""

_OTHER_INTERFACE = 0x40000000
"""Numbers from here on are x32's: the same calls under other numbers."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_DENIED: dict[str, tuple[int | None, int | None]] = {
    # Network: what is left are pairs of sockets.
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # Other programs and processes.
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "tkill": (200, 130), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440), "kcmp": (312, 272),
    "setpgid": (109, 154), "setsid": (112, 157), "setpriority": (141, 140),
    "move_pages": (279, 239), "migrate_pages": (256, 238),
    # The system.
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "quotactl": (179, 60), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "syslog": (103, 116), "iopl": (172, None),
    "ioperm": (173, None), "personality": (135, 92), "fanotify_init": (300, 262),
    "msgget": (68, 186), "semget": (64, 190), "shmget": (29, 194), "mq_open": (240, 180),
    "chmod": (90, None), "fchmodat": (268, 53), "chown": (92, None), "fchownat": (260, 54),
}  # fmt: skip
"""By name: the number on x86_64, and on aarch64; None: it does not exist there."""

_ON_ITSELF_ONLY = {
    "kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}  # fmt: skip
"""Calls whose first argument must be this process's id."""

_ABOUT_ITSELF_ONLY = {"prlimit64": (302, 261)}
"""Calls whose first argument must be 0 or this process's id."""

_CLONE, _CLONE3 = (56, 220), (435, 435)
_MACHINES = ("x86_64", "aarch64")

_Instruction = tuple[int, int, int, int]


class _Filter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jump_if_true", ctypes.c_uint8),
        ("jump_if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filters", ctypes.POINTER(_Filter)))


def is_available() -> bool:
    """Tell whether this kernel filters system calls."""
    known = sys.platform == "linux" and platform.machine() in _MACHINES
    return known and Path("/proc/sys/kernel/seccomp/actions_avail").exists()


def deny() -> bool:
    """Deny the calls to this thread and its later threads; return whether that could be done."""
    if platform.machine() not in _MACHINES:
        return False
    instructions = _program(_MACHINES.index(platform.machine()), os.getpid())
    filters = (_Filter * len(instructions))(*(_Filter(*one) for one in instructions))
    program = _Program(len(instructions), filters)
    library = ctypes.CDLL(None, use_errno=True)
    result: int = library.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), *_UNUSED)
    return result == 0


def _program(machine: int, pid: int) -> list[_Instruction]:
    fail = (_RETURN, 0, 0, _FAIL | errno.EPERM)
    made: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, _ARCHITECTURES[_MACHINES[machine]]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_AT_LEAST, 0, 1, _OTHER_INTERFACE),
        fail,
    ]
    for numbers in _DENIED.values():
        if (number := numbers[machine]) is not None:
            made += [(_JUMP_IF_EQUAL, 0, 1, number), fail]
    # Without `clone3`, whose arguments no filter sees, the C library makes threads by `clone`.
    made += [(_JUMP_IF_EQUAL, 0, 1, _CLONE3[machine]), (_RETURN, 0, 0, _FAIL | errno.ENOSYS)]
    made += [
        (_JUMP_IF_EQUAL, 0, 4, _CLONE[machine]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_IF_ANY_BIT, 1, 0, _THREAD),
        fail,
        (_RETURN, 0, 0, _ALLOW),
    ]
    for numbers in _ON_ITSELF_ONLY.values():
        made += _only_for(numbers[machine], [pid])
    for numbers in _ABOUT_ITSELF_ONLY.values():
        made += _only_for(numbers[machine], [0, pid])
    return [*made, (_RETURN, 0, 0, _ALLOW)]


def _only_for(number: int, values: list[int]) -> list[_Instruction]:
    """Return the test that a call's first argument is one of some values."""
    tests = [(_JUMP_IF_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [
        (_JUMP_IF_EQUAL, 0, len(values) + 3, number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        *tests,
        (_RETURN, 0, 0, _FAIL | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
