"""Published tests as `checking.code.Tests`: the program is called from another process.

Each `assert` is a test of its own. What it calls by a name that neither Python nor an import of
the test's has is the program's, and is asked for:

    assert f([1, 2]) == 3        ->  ask("f", [[1, 2]], {}) == 3
    assert f(Pair(1, 2)) == 3    ->  ask("f(Pair(1, 2))") == 3        (no plain data)
"""

from __future__ import annotations

import ast
import builtins
import textwrap
from collections.abc import Iterable, Sequence

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.checking.code import Tests

_TEST = """
try:
    _passed[{n}] = _passed[{n}] is not False and bool({condition})
except Exception as error:
    _passed[{n}] = False
    _errors.append(type(error).__name__)
"""
_START = "_passed, _errors = [None] * {count}, []\n"
_END = "\n[[one is True for one in _passed], _errors]\n"


def of_asserts(
    asserts: Sequence[str], imports: Sequence[str] = (), defined: Iterable[str] = ()
) -> Tests:
    """Tests of top-level `assert` statements, such as MBPP's; `imports` come before them.

    What is in `defined` is the program's though Python has something of that name.

    >>> of_asserts(["assert f([1]) == 3"]).source.splitlines()[2]
    "    _passed[0] = _passed[0] is not False and bool(ask('f', [[1]], {}) == 3)"
    """
    tree = ast.parse("\n".join((*imports, *asserts)))
    count = _number(tree)
    known = {*dir(builtins), *(name for node in ast.walk(tree) for name in _bound(node))}
    known -= {*defined}
    return _tests(ast.unparse(_Asking(known).visit(tree)), count)


def of_check(prompt: str, test: str, entry: str) -> Tests:
    """Tests of a function `check(candidate)`, such as HumanEval's.

    Args:
      prompt: what comes before the program; its other functions are there for the tests.
      test: source that defines `check`. entry: name of the program's function.
    """
    tree = ast.parse(test)
    count = _number(tree)
    call = textwrap.dedent(f"""
        def _candidate(*arguments, **names):
            return ask({entry!r}, list(arguments), names)
        {entry} = _candidate
        try:
            check(_candidate)
        except Exception as error:
            _errors.append(type(error).__name__)
    """)
    return _tests("\n".join((prompt, ast.unparse(tree), call)), count)


def of_calls(function: str, calls: Iterable[tuple[list, object]]) -> Tests:
    """Tests of pairs (arguments, result); a tuple is a list, what is generated a list too."""
    asked = f"lambda *a: (lambda v: list(v) if hasattr(v, '__next__') else v)({function}(*a))"
    plain = textwrap.dedent("""
        def _plain(value):
            return [_plain(one) for one in value] if type(value) in (list, tuple) else value
    """)
    tests = [
        _TEST.format(n=n, condition=f"_plain(ask({asked!r}, {given!r}, {{}})) == {gold!r}")
        for n, (given, gold) in enumerate(calls)
    ]
    return _tests(plain + "".join(tests), len(tests))


def _tests(source: str, count: int) -> Tests:
    if not count:
        raise UserError(f"a test without an assert: {source[:200]!r}")
    return Tests(_START.format(count=count) + source + _END, count)


def _number(tree: ast.Module) -> int:
    """Puts each `assert` of a tree into a test of its own; how many there are."""

    class Tested(ast.NodeTransformer):
        count = 0

        def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
            text = _TEST.format(n=self.count, condition=ast.unparse(node.test))
            self.count += 1
            return ast.parse(text).body

    tested = Tested()
    tested.visit(tree)
    return tested.count


def _bound(node: ast.AST) -> list[str]:
    """Names that a node gives a value."""
    match node:
        case ast.Name(ctx=ast.Store()):
            return [node.id]
        case ast.alias():
            return [(node.asname or node.name).partition(".")[0]]
        case ast.arg():
            return [node.arg]
    return []


class _Asking(ast.NodeTransformer):
    """Calls of names that are not known as questions to the program."""

    def __init__(self, known: set[str]) -> None:
        self.known = known | {"_passed", "_errors"}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not isinstance(node.func, ast.Name) or node.func.id in self.known:
            return self.generic_visit(node)
        inside = [n for part in (*node.args, *node.keywords) for n in ast.walk(part)]
        strange = any(isinstance(n, ast.Name) and n.id not in self.known for n in inside)
        if (
            strange
            or any(isinstance(n, ast.Starred) for n in inside)
            or None in (keyword.arg for keyword in node.keywords)
        ):
            return _expression(f"ask({ast.unparse(node)!r})")
        names = ", ".join(f"{k.arg!r}: {ast.unparse(k.value)}" for k in node.keywords)
        given = ", ".join(ast.unparse(one) for one in node.args)
        return _expression(f"ask({node.func.id!r}, [{given}], {{{names}}})")


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
