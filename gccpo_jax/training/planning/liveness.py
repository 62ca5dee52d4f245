"""Peak memory of a traced program, without running or compiling it.

The program is a jaxpr, hence made from shapes alone. Its operations are walked in order,
and at each of them the values that a later one still reads are added up. What a compiler
does about values is in five rules:

    alias     a reshape, a transpose or a join with nothing is its operand seen in another way
    fuse      an elementwise value exists only if a matrix product, a loop, a gather or
              the like reads it, or if it is expensive (`exp`) and read twice
    in place  an elementwise result, the state of a loop and an updated slice take the
              memory of an operand of their size that nothing reads later
    loop      a loop holds its state, its stacked results and the peak of one pass; what it
              reads in another order of the axes than it lies in is copied
    results   what a program returns has memory of its own from the first operation on, which
              nothing else uses before it is written, unless it takes that of a donated argument
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

_CALLS = {"jit": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr", "closed_call": "call_jaxpr"}
_CALLS |= {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "pjit": "jaxpr"}
_CALLS |= {"custom_vmap_call": "call"}
_ALIASES = frozenset("reshape squeeze expand_dims stop_gradient copy copy_p transpose name".split())
_EXPENSIVE = frozenset(
    "exp exp2 log log1p expm1 tanh logistic div rem sqrt rsqrt pow sin cos erf random_bits".split()
)
_REDUCTIONS = frozenset(
    "reduce_sum reduce_max reduce_min reduce_and reduce_or argmax argmin".split()
)
_UPDATES = frozenset("dynamic_update_slice scatter scatter-add".split())
_LOOPS = frozenset(("scan", "while"))
_WHOLE = _UPDATES | _LOOPS
_WHOLE |= frozenset(
    "turn dot_general gather concatenate pad sort cumsum cumlogsumexp top_k cond".split()
)
"""Operations that read operands from memory and write results to it."""


@dataclasses.dataclass(eq=False)
class _Op:
    name: str
    reads: list[int]  # ids of values
    writes: list[int]
    params: dict[str, Any]


class _Seen(NamedTuple):
    """A value as a variable sees it."""

    value: int
    order: tuple[int, ...] | None = None  # its axes, after transposes; None: as it lies in memory


class _Program:
    """A jaxpr without calls and aliases: operations on numbered values."""

    def __init__(self) -> None:
        self.ops: list[_Op] = []
        self.bytes: dict[int, int] = {}
        self.turned: set[int] = set()  # updated in an order that is not theirs
        self._copies: dict[_Seen, int] = {}
        self._fresh = itertools.count()

    def value(self, size: int) -> int:
        number = next(self._fresh)
        self.bytes[number] = size
        return number

    def inline(self, jaxpr: Any, inputs: Sequence[_Seen | None]) -> list[_Seen | None]:
        """Appends the operations of a jaxpr; None stands for a literal."""
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        env |= {var: _Seen(self.value(0)) for var in jaxpr.constvars}

        def seen(variables: Any) -> list[_Seen | None]:
            return [None if isinstance(v, Literal) else env[v] for v in variables]

        for eqn in jaxpr.eqns:
            name, reads = eqn.primitive.name, seen(eqn.invars)
            if name in _CALLS:
                inner = eqn.params[_CALLS[name]]
                env |= zip(eqn.outvars, self.inline(_open(inner), reads), strict=True)
            elif (of := _alias_of(eqn)) is not None:
                env[eqn.outvars[0]] = reads[of] and _Seen(reads[of].value, _order(eqn, reads[of]))
            else:
                if name in _UPDATES and reads[0] and reads[0].order:
                    self.turned.add(reads[0].value)
                sized = zip(reads, (nbytes(v.aval) for v in eqn.invars), strict=True)
                loop = name in _LOOPS
                ids = [self._straight(r, size) if loop else r.value for r, size in sized if r]
                writes = [self.value(nbytes(v.aval)) for v in eqn.outvars]
                self.ops.append(_Op(name, ids, writes, eqn.params))
                env |= zip(eqn.outvars, map(_Seen, writes), strict=True)
        return seen(jaxpr.outvars)

    def _straight(self, seen: _Seen, size: int) -> int:
        """The value in the order that it is seen in: itself, or a copy."""
        if seen.order is None:
            return seen.value
        if seen not in self._copies:
            self._copies[seen] = self.copy(seen.value, size, len(self.ops))
        return self._copies[seen]

    def copy(self, value: int, size: int, at: int) -> int:
        """Inserts a copy of a value before operation `at`."""
        fresh = self.value(size)
        self.ops.insert(at, _Op("turn", [value], [fresh], {}))
        return fresh


def _order(eqn: Any, seen: _Seen) -> tuple[int, ...] | None:
    """Order of the axes after an alias; those of size 1 do not matter."""
    shape = eqn.outvars[0].aval.shape
    if eqn.primitive.name != "transpose":
        return seen.order
    before = seen.order or tuple(range(len(shape)))
    if len(before) != len(shape):
        return before
    order = tuple(before[axis] for axis in eqn.params["permutation"])
    moving = [axis for axis, size in zip(order, shape, strict=True) if size > 1]
    return None if moving == sorted(moving) else order


def nbytes(aval: Any) -> int:
    """Bytes of an array of this shape and dtype; a random key is two words."""
    key = jax.dtypes.issubdtype(aval.dtype, jax.dtypes.prng_key)
    return math.prod(aval.shape) * (8 if key else aval.dtype.itemsize)


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _alias_of(eqn: Any) -> int | None:
    """Which operand the result is in another view; None: it is a new value."""
    name, result = eqn.primitive.name, eqn.outvars[0].aval
    if name == "concatenate":  # with operands of no elements
        filled = [n for n, v in enumerate(eqn.invars) if v.aval.size]
        return filled[0] if len(filled) == 1 else None
    same = name in _ALIASES
    same |= name == "convert_element_type" and eqn.invars[0].aval.dtype == result.dtype
    same |= name == "broadcast_in_dim" and eqn.invars[0].aval.size == result.size  # axes of 1
    return 0 if same else None


def peak(jaxpr: Any, donated: Sequence[bool] = ()) -> int:
    """Most bytes that a program holds beside its arguments, its results included.

    Args:
      jaxpr: from `jax.make_jaxpr`.
      donated: per flat argument, whether its memory may be used again; none by default.

    Example: for `lambda a, b: jnp.sin(a @ b)` of two [8, 8] float32 it is 256: the sine
    is written over the product.
    """
    program, inner = _Program(), _open(jaxpr)
    donated = tuple(donated) or (False,) * len(inner.invars)
    own = [nbytes(v.aval) if gone else 0 for v, gone in zip(inner.invars, donated, strict=True)]
    inputs = [program.value(size) for size in own]
    outputs = _values(program.inline(inner, [_Seen(x) for x in inputs]))
    return _walk(program, inputs, outputs, Counter(own)) - sum(own)


def _values(seen: Sequence[_Seen | None]) -> list[int]:
    return [x.value for x in seen if x is not None]


def _body(op: _Op) -> int:
    """Peak of one pass of a loop beside its state; of a conditional its larger branch."""
    if op.name == "cond":
        return max(peak(branch) for branch in op.params["branches"])
    scan = op.name == "scan"
    body = _open(op.params["jaxpr" if scan else "body_jaxpr"])
    consts = op.params["num_consts" if scan else "body_nconsts"]
    carry = op.params["num_carry"] if scan else len(body.invars) - consts
    program = _Program()
    own = [nbytes(v.aval) for v in body.invars[consts : consts + carry]]
    inputs = [program.value(size) for size in (*[0] * consts, *own)]
    pieces = [program.value(nbytes(v.aval)) for v in body.invars[consts + carry :]]
    program.ops = [_Op("dynamic_slice", [], [piece], {}) for piece in pieces]
    results = program.inline(body, [_Seen(x) for x in (*inputs, *pieces)])
    _straighten(program)
    _store(program, _values(results[carry:]))
    outputs = _values(results[:carry])
    # What only stacked results need (gradients of weights) is left to the end.
    first = _needed([op for op in program.ops if op.name != "store"], outputs)
    ready = {value for op in first for value in op.writes}.union(inputs)
    first += [op for op in program.ops if op.name == "store" and op.reads[0] in ready]
    program.ops = sorted(program.ops, key=lambda op: op not in first)
    return _walk(program, inputs, outputs) - sum(own)


def _straighten(program: _Program) -> None:
    """State that is updated in another order is kept in that: loops inside read a copy."""
    for op in [op for op in program.ops if op.name in _LOOPS]:
        for value in program.turned.intersection(op.reads):
            fresh = program.copy(value, program.bytes[value], program.ops.index(op))
            op.reads = [fresh if read == value else read for read in op.reads]


def _store(program: _Program, stacked: list[int]) -> None:
    """Results that a loop stacks are written as soon as they are there."""
    for value in dict.fromkeys(stacked):
        at = next((n for n, op in enumerate(program.ops) if value in op.writes), -1)
        program.ops.insert(at + 1, _Op("store", [value], [], {}))


def _walk(
    program: _Program, inputs: list[int], outputs: list[int], donated: Counter[int] | None = None
) -> int:
    """Most bytes alive at once; inputs are alive at first, outputs at the end.

    `donated`: of a whole program, how many of its arguments of each size may be overwritten.
    """
    ops = _needed(program.ops, outputs)
    solid = _solid(ops, outputs) | set(inputs)
    behind = {value: {value} for value in inputs}  # in memory, what a value is made from
    steps = []
    for op in ops:
        reads = set().union(*(behind.get(r, ()) for r in op.reads))
        writes = [w for w in op.writes if w in solid]
        behind |= {w: {w} if w in solid else reads for w in op.writes}
        if writes or op.name == "store":
            steps.append((op, reads, writes))
    last = {r: n for n, (_, reads, _) in enumerate(steps) for r in reads}
    last |= {r: len(steps) for value in outputs for r in behind.get(value, ())}
    early = set() if donated is None else _early(program, steps, last, outputs, donated)
    early -= set(inputs)
    alive = highest = sum(program.bytes[value] for value in (*inputs, *early))
    for n, (op, reads, writes) in enumerate(steps):
        ends = [r for r in reads if last[r] == n]
        dying = Counter(program.bytes[r] for r in ends)
        for size in (program.bytes[w] for w in writes if w not in early):
            if _in_place(op) and dying[size]:
                dying[size] -= 1
            else:
                alive += size
        inside = _body(op) if op.name in _LOOPS or op.name == "cond" else 0
        highest = max(highest, alive + inside)
        alive -= sum(size * count for size, count in dying.items())
        alive -= sum(program.bytes[w] for w in writes if w not in last)
    return highest


def _early(
    program: _Program,
    steps: list[tuple[_Op, set[int], list[int]]],
    last: dict[int, int],
    outputs: list[int],
    donated: Counter[int],
) -> set[int]:
    """The values that begin what becomes a result: their memory is there from the beginning."""
    begun, left = set(outputs), Counter(donated)
    for n, (op, reads, writes) in reversed(list(enumerate(steps))):
        if _in_place(op):
            ends = {r: program.bytes[r] for r in reads if last[r] == n}
            for value in begun.intersection(writes):
                size = program.bytes[value]
                for found in [r for r in ends if ends[r] == size][:1]:
                    del ends[found]
                    begun = begun - {value} | {found}
    for value in sorted(begun):
        if left[size := program.bytes[value]]:
            left[size] -= 1
            begun.discard(value)
    return begun


def _needed(ops: list[_Op], outputs: list[int]) -> list[_Op]:
    wanted, kept = set(outputs), []
    for op in reversed(ops):
        if op.name == "store" or wanted.intersection(op.writes):
            wanted.update(op.reads)
            kept.append(op)
    return kept[::-1]


def _solid(ops: list[_Op], outputs: list[int]) -> set[int]:
    """The values that exist in memory."""
    readers = Counter(r for op in ops for r in set(op.reads))
    solid = set(outputs)
    for op in ops:
        if op.name in _WHOLE:
            solid.update(op.reads, op.writes)
        elif op.name in _REDUCTIONS:
            solid.update(op.writes)
        elif op.name in _EXPENSIVE:
            solid.update(w for w in op.writes if readers[w] > 1)
    return solid


def _in_place(op: _Op) -> bool:
    return op.name in _UPDATES or op.name in _LOOPS or op.name not in _WHOLE
