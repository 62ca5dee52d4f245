"""Several processes, one run: how they find each other, agree, and end together.

Every process runs the same program on the same numbers: what a step samples is a function
of ids and the position in the data, so all know the whole batch of questions, and a run
goes on under another number of processes as the same run. (Data split by process, each
reading a part of its own, would make the order depend on their number.) Devices hold a
process's own rows only; what the host reads is gathered (`to_host`), what costs the host
time is divided (`divided`), and files are the first process's (`is_first`).

JAX's coordination service, in the first process, carries what is not on devices.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from gccpo_jax.errors import UserError

_T = TypeVar("_T")
_FAILED = "gccpo/failed"
_DAYS = 7 * 24 * 3600 * 1000  # milliseconds; a process that fails ends those that wait for it
_POLL = 1.0  # seconds until a failure elsewhere is noticed
_broadcasts = itertools.count()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process is among all: from the command line."""

    coordinator: str = ""  # HOST:PORT of the first process; empty: JAX finds it
    count: int = 0  # of processes; 0: JAX finds it
    index: int = -1  # this process's; -1: JAX finds it
    seconds: int = 300  # to wait for the others


def connect(place: Place) -> None:
    """Joins the other processes; before anything else touches a device.

    Where the others cannot be reached in time the process says so and ends with exit code 2.

    Raises:
      UserError: no cluster was recognised, or this process could not even begin to connect.
    """
    where = place.coordinator or "the cluster's coordinator"
    name = f"process {place.index} of {place.count}" if place.count else "this process"
    # JAX's own deadline aborts the process from C++, with a stack trace: ours comes first.
    alarm = threading.Timer(place.seconds, _not_met, [where, name, place.seconds])
    alarm.daemon = True
    alarm.start()
    jax.config.update("jax_enable_preemption_service", False)  # `signals.py` takes signals
    # Not `cluster_detection_method=None` where everything is given: a SLURM job in whose shell
    # processes are started by hand would give each of them one device.
    method = {"cluster_detection_method": "deactivate"} if place.coordinator else {}
    try:
        jax.distributed.initialize(
            coordinator_address=place.coordinator or None,
            num_processes=place.count or None,
            process_id=place.index if place.index >= 0 else None,
            initialization_timeout=place.seconds + 60,
            **method,
        )
        jax.devices()  # waits for the devices of all
    except Exception as error:  # the service's own, ValueError, OSError, those of cluster APIs
        reason = " ".join(str(error).split())[:300]
        if not place.coordinator:
            raise UserError(
                f"--processes auto: no cluster was recognised, or it did not answer ({reason}); "
                "give --coordinator HOST:PORT, --processes N and --process I"
            ) from error
        raise UserError(f"--coordinator {where}: {name} could not connect ({reason})") from error
    finally:
        alarm.cancel()
    if not is_first():
        logging.disable(logging.WARNING)  # the first warns for all
    threading.Thread(target=_watch, daemon=True).start()


def _not_met(where: str, name: str, seconds: int) -> None:
    print(
        f"error: --coordinator {where}: {name} did not meet the others within {seconds} s "
        "(--wait); is process 0 running there, is its port free and open, and were all started?",
        file=sys.stderr,
    )
    _leave(2)


def is_first() -> bool:
    """Whether this process writes files and talks."""
    return alone() or jax.process_index() == 0


def alone() -> bool:
    """Whether there is one process."""
    # Asking JAX for the count starts its devices: not where text is read on one machine.
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def to_host(x: Any) -> np.ndarray:
    """An array of devices as NumPy, whole on every process; all call it in the same order.

    It waits first: NumPy, handed what a program never wrote for want of memory, would end the
    process or never come back.

    Raises:
      jax.errors.JaxRuntimeError: the program that should have written it failed.
    """
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(jax.block_until_ready(x))


def divided(one: Callable[[int], Sequence[Any] | np.ndarray], count: int) -> np.ndarray:
    """`np.stack([one(0), ..., one(count - 1)])`; each process makes some, all get all.

    For work on questions that costs the host time; `one` gives float32 or int32 of one shape.
    """
    if alone():
        return np.stack([one(n) for n in range(count)])
    size = -(-count // jax.process_count())
    mine = range(jax.process_index() * size, min((jax.process_index() + 1) * size, count))
    rows = [one(n) for n in mine]
    # Every process sends as many rows; one without questions makes row 0 for its shape.
    filled = np.stack([*rows, *[rows[0] if rows else one(0)] * (size - len(rows))])
    return multihost_utils.process_allgather(filled, tiled=True)[:count]


def broadcast_arrays(tree: _T) -> _T:
    """A tree of NumPy arrays as the first process has it; all call it in the same order."""
    return tree if alone() else multihost_utils.broadcast_one_to_all(tree)


def largest(value: int) -> int:
    """The largest of all processes' values."""
    return value if alone() else int(multihost_utils.process_allgather(np.int32(value)).max())


def broadcast_json(action: Callable[[], _T]) -> _T:
    """What `action` returns in the first process, which alone calls it; fit for JSON."""
    if alone():
        return action()
    key, client = f"gccpo/broadcast/{next(_broadcasts)}", _client()
    if is_first():
        found = action()
        client.key_value_set(key, json.dumps(found))
        return found
    return json.loads(client.blocking_key_value_get(key, _DAYS))


@contextmanager
def held_by_first(context: AbstractContextManager[Any]) -> Iterator[None]:
    """`with context:` in the first process; others go on when it was entered."""
    if is_first():
        with context:
            broadcast_json(lambda: None)
            yield
    else:
        broadcast_json(lambda: None)
        yield


def end(code: int, message: str) -> int:
    """The exit code of a process that failed, after a message to the others: they end too.

    With several processes it ends this one at once: leaving in good order would mean waiting
    for the others, which wait for it.
    """
    if not jax.distributed.is_initialized():
        return code
    try:
        _client().key_value_set(_FAILED, f"process {jax.process_index()}: {message}")
    except Exception:  # another was first, or the service is gone
        pass
    if is_first():
        time.sleep(3 * _POLL)  # the service is in this process: until the others have read it
    _leave(code)
    return code


def _watch() -> None:
    """Ends this process when another has failed, whatever it is waiting for."""
    while True:
        time.sleep(_POLL)
        try:
            message = _client().key_value_try_get(_FAILED)
        except Exception as error:
            if "NOT_FOUND" in str(error):
                continue
            return  # shut down: the run is over
        if not message.startswith(f"process {jax.process_index()}: "):
            print(f"error: ended because of {message}", file=sys.stderr)
            _leave(1)


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _client() -> Any:
    from jax._src.distributed import global_state  # there is no public way to the service

    return global_state.client
