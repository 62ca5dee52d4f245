"""A Python that can reach nothing: lines of JSON in and out, each a piece of hostile code to run.

Started as a fresh `python -I -S` with no environment. It enters new user, mount, process, network
and IPC namespaces and splits in two. The keeper stays outside: it ends the other at its deadline,
when it is told to, and when whoever started it is gone. The other is process 1 of its namespace:
its file system is the standard library and the system's shared libraries, read-only, without
`/proc`; it has no rights, can start no process or thread, and memory and processor time are
limited. It works as root and as an ordinary user of Linux 5.12 or later that allows user
namespaces; elsewhere it answers why not and ends.

    {"code": source, "inputs": {name: value}}  ->  {"value": ...} or {"error": "..."}

The value is the last line's, if that is an expression. Code may call `ask(...)`, which writes
{"ask": [...]} and reads {"value": ...} or {"error": ...}. Values are plain data (`encode`).
"""

from __future__ import annotations

import ast
import ctypes
import json
import math
import os
import platform
import resource
import signal
import struct
import sys
import time
import types
from typing import Any

NOBODY = 65534
LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib")
_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_RECURSIVE, _PRIVATE, _BIND, _DETACH = 0x4000, 1 << 18, 0x1000, 2
_READ_ONLY, _NO_SUID, _NO_DEV = 1, 2, 4  # of a mount, old numbers and new
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_DEATH_SIGNAL, _FILTER, _DROP_RIGHT, _NO_NEW_RIGHTS = 1, 22, 24, 38  # of prctl
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Calls of the kernel that no program needs, by number: those that start programs, open sockets,
# keep memory beside the process's own, mount, trace, enter namespaces, or are hard to audit.
REFUSED = {
    "x86_64": (
        *(29, 41, 53, 59, 64, 68, 101, 155, 165, 166, 248, 249, 250, 272, 298, 308, 310, 311),
        *(319, 321, 322, 323, 425, 426, 427, 428, 429, 430, 431, 432, 442),
    ),
    "aarch64": (
        *(39, 40, 41, 97, 117, 186, 190, 194, 198, 199, 217, 218, 219, 221, 241, 268, 270, 271),
        *(279, 280, 281, 282, 425, 426, 427, 428, 429, 430, 431, 432, 442),
    ),
}


def encode(value: Any) -> Any:
    """Plain data as JSON has it; subclasses become what they are made of.

    Raises:
      TypeError: anything else, an object of a class of the program's above all.
    """
    if value is None or type(value) in (bool, float, str):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 63 else {"int": hex(value)}
    if isinstance(value, list):
        return [encode(one) for one in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(value[key])] for key in value]}
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(one) for one in value]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    for kind in (float, str):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"a value of type {type(value).__name__} is not plain data")


def decode(value: Any) -> Any:
    """What `encode` was given."""
    if isinstance(value, list):
        return [decode(one) for one in value]
    if not isinstance(value, dict):
        return value
    [(kind, inside)] = value.items()
    match kind:
        case "int":
            return int(inside, 16)
        case "bytes":
            return bytes.fromhex(inside)
        case "complex":
            return complex(*inside)
        case "dict":
            return {decode(key): decode(one) for key, one in inside}
    return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](map(decode, inside))


def main() -> None:
    """Isolates this process and serves; arguments: CPU seconds, wall seconds, bytes, as JSON."""
    limits = json.loads(sys.argv[1])
    try:
        enter_namespaces()
        build_root()
        inside = os.fork()
    except OSError as error:
        print(json.dumps({"unavailable": f"{error.strerror} ({error.filename})"}), flush=True)
        return
    if inside:
        keep(inside, limits["wall"])
    else:
        serve(limits)


def checked(name: str, result: int) -> None:
    """Raises OSError if a call of the C library failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def enter_namespaces() -> None:
    """New namespaces, in which this process is root and, if it was root, somebody is nobody."""
    root, uid, gid = os.geteuid() == 0, os.geteuid(), os.getegid()
    reader, writer = os.pipe()
    helper = os.fork()
    if not helper:  # only who is outside may say who is who inside
        os.close(writer)
        told = os.read(reader, 1)
        os._exit(0 if told and write_maps(os.getppid(), root, uid, gid) else 1)
    os.close(reader)
    result = LIBC.unshare(_NAMESPACES)
    error = ctypes.get_errno()
    if result == 0:
        os.write(writer, b"1")
    os.close(writer)
    _, status = os.waitpid(helper, 0)
    ctypes.set_errno(error)
    checked("unshare", result)
    if status:
        raise PermissionError(1, "ids cannot be mapped", "uid_map")
    for kind in ("user", "mnt", "pid", "net", "ipc"):  # none inside this one
        with open(f"/proc/sys/user/max_{kind}_namespaces", "w") as file:
            file.write("0")


def write_maps(pid: int, root: bool, uid: int, gid: int) -> bool:
    """Whether the ids of a process in a new user namespace could be written."""
    nobody = f"\n{NOBODY} {NOBODY} 1" if root else ""
    texts = {"uid_map": f"0 {uid} 1{nobody}\n", "gid_map": f"0 {gid} 1{nobody}\n"}
    if not root:
        texts = {"setgroups": "deny", **texts}
    try:
        for name, text in texts.items():
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
    except OSError:
        return False
    return True


def build_root() -> None:
    """A file system of the libraries alone, read-only, in place of the machine's."""
    checked("private", LIBC.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None))
    new = "/proc"  # any folder that no library is in; nothing reads it any more
    library = os.path.dirname(os.path.realpath(os.__file__))
    tmpfs(new)
    for folder in (*LIBRARIES, library):
        if os.path.islink(folder):
            os.makedirs(os.path.dirname(new + folder), exist_ok=True)
            os.symlink(os.readlink(folder), new + folder)
        elif os.path.isdir(folder) and not os.path.isdir(new + folder):
            os.makedirs(new + folder)
            source, target = folder.encode(), (new + folder).encode()
            checked(folder, LIBC.mount(source, target, None, _BIND | _RECURSIVE, None))
    for packages in ("site-packages", "dist-packages"):
        if os.path.isdir(f"{new}{library}/{packages}"):
            tmpfs(f"{new}{library}/{packages}")
    os.chdir(new)
    checked("pivot_root", LIBC.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."))
    checked("umount", LIBC.umount2(b".", _DETACH))
    os.chdir("/")
    wanted = (ctypes.c_uint64 * 4)(_READ_ONLY | _NO_SUID | _NO_DEV, 0, 0, 0)
    recursive, here = 0x8000, -100
    checked(
        "read-only",
        LIBC.syscall(_MOUNT_SETATTR, here, b"/", recursive, ctypes.byref(wanted), 32),
    )


def tmpfs(folder: str) -> None:
    """An empty file system in memory at a folder."""
    checked(folder, LIBC.mount(b"tmpfs", folder.encode(), b"tmpfs", _NO_SUID | _NO_DEV, b"size=1m"))


def keep(inside: int, wall: float) -> None:
    """Ends the process inside at its deadline, on a signal, or when nobody waits for it."""
    for end in (0, 1):
        os.close(end)
    waited = {signal.SIGCHLD, signal.SIGTERM}
    deadline, parent = time.monotonic() + wall, os.getppid()
    while time.monotonic() < deadline and os.getppid() == parent:
        found = signal.sigtimedwait(waited, min(0.2, max(0.0, deadline - time.monotonic())))
        if os.waitpid(inside, os.WNOHANG)[0]:
            return
        if found is not None and found.si_signo == signal.SIGTERM:
            break
    os.kill(inside, signal.SIGKILL)  # and with process 1 everything in its namespace
    os.waitpid(inside, 0)


def give_up_rights(limits: dict[str, Any]) -> None:
    """No rights, no new ones, no processes, and limits on the rest."""
    if os.getuid() == 0 and can_be_nobody():
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    for right in range(64):
        LIBC.prctl(_DROP_RIGHT, right, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked("capset", LIBC.capset(header, (ctypes.c_uint32 * 6)()))
    checked("prctl", LIBC.prctl(_NO_NEW_RIGHTS, 1, 0, 0, 0))
    checked("prctl", LIBC.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0))
    refuse_calls(platform.machine())
    seconds = math.ceil(limits["cpu"])
    most = {
        resource.RLIMIT_AS: limits["bytes"],
        resource.RLIMIT_CPU: seconds,  # process 1 hears no signal but the hard limit's
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for kind, size in most.items():
        resource.setrlimit(kind, (size, size))


def refuse_calls(machine: str) -> None:
    """From now on the kernel refuses the calls of `REFUSED`, and ends what calls it otherwise."""
    load, equal, least, give = 0x20, 0x15, 0x35, 0x06  # of a filter: word, ==, >=, return
    refused = REFUSED[machine]
    lines = [
        (load, 0, 0, 4),
        (equal, 1, 0, _ARCHITECTURE[machine]),
        (give, 0, 0, 0x80000000),  # of another architecture: killed
        (load, 0, 0, 0),
        (least, len(refused) + 1, 0, 0x40000000),
        *((equal, len(refused) - n, 0, number) for n, number in enumerate(refused)),
        (give, 0, 0, 0x7FFF0000),  # allowed
        (give, 0, 0, 0x00050001),  # not permitted
    ]
    program = b"".join(struct.pack("=HBBI", *line) for line in lines)
    text = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(lines), ctypes.addressof(text))
    checked("seccomp", LIBC.prctl(_FILTER, 2, header, 0, 0))


def can_be_nobody() -> bool:
    """Whether nobody's id exists here: it does where root started this."""
    try:
        os.setresgid(-1, NOBODY, -1)
    except OSError:
        return False
    return True


def serve(limits: dict[str, Any]) -> None:
    """Runs what it is given, as process 1, until its input ends."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for end in (0, 1, 2):
        os.dup2(NULL, end)
    os.close(NULL)
    try:
        give_up_rights(limits)
    except OSError as error:
        say(replies, {"unavailable": f"{error.strerror} ({error.filename})"})
        return
    say(replies, {"ready": True})
    program = types.ModuleType("program")
    sys.modules["program"] = program
    sys.argv = ["program"]

    def ask(*arguments: Any) -> Any:
        say(replies, {"ask": encode(list(arguments))})
        reply = json.loads(requests.readline())
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return decode(reply["value"])

    program.ask = ask
    for line in requests:
        say(replies, feed(json.loads(line), vars(program)))


def feed(request: dict[str, Any], space: dict[str, Any]) -> dict[str, Any]:
    """What came of one piece of code."""
    try:
        space.update((name, decode(value)) for name, value in request["inputs"].items())
        tree, last = ast.parse(request["code"]), None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        exec(compile(tree, "<program>", "exec"), space)
        return {"value": encode(eval(compile(last, "<program>", "eval"), space) if last else None)}
    except BaseException as error:  # SystemExit too
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def say(replies: Any, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    LIBC = ctypes.CDLL(None, use_errno=True)
    NULL = os.open(os.devnull, os.O_RDWR)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM))
    main()
