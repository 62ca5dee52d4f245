"""MBPP, from its files as published: the full set (`text`) or the sanitized one (`prompt`)."""

from __future__ import annotations

import ast
import re

from gccpo_jax.errors import UserError
from gccpo_jax.tasks.base import Item
from gccpo_jax.tasks.code.asserts import of_asserts
from gccpo_jax.tasks.code.coded import Coded, CodeRow, coded_task, item_of, reader

read_records = reader("task_id", "code", "test_list")
of_splits = coded_task("mbpp", lambda item, chat: item.question)
"""The task. The question shows the tests, as is usual."""


def to_item(row: CodeRow, number: int) -> Item:
    """An item of a row; tests that are published as a challenge are hidden."""
    told = row.fields.get("prompt") or row.fields.get("text")
    if not told:
        raise UserError(f"{row.where}: no 'prompt' and no 'text'; expected a row of MBPP")
    shown, hidden = row["test_list"], row.fields.get("challenge_test_list") or []
    before = "\n".join(row.fields.get("test_imports") or [])
    tests = of_asserts([*shown, *hidden], [before], _defined(row["code"]))
    code = Coded(
        entry=entry_of(shown[0], row["code"]),
        tests=tests,
        before=before,
        after=row.fields.get("test_setup_code") or "",
    )
    listed = "\n".join(shown)
    question = f"{told}\nThe code should pass these tests:\n{listed}\n"
    return item_of(number, question, row["code"], code, {"id": str(row["task_id"])})


def entry_of(test: str, program: str) -> str:
    """The function that a test calls and that the reference defines."""
    defined = _defined(program)
    called = [n.id for n in ast.walk(ast.parse(test)) if isinstance(n, ast.Name)]
    return next((name for name in called if name in defined), defined[-1] if defined else "")


def _defined(program: str) -> list[str]:
    return re.findall(r"^(?:def|class) +(\w+)", program, re.MULTILINE)
