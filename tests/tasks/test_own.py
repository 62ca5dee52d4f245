"""A task of the user's, by the name of its function: what it is given, and what is refused."""

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.tasks import Item, bare_task, load_task

MODULE = """
from gccpo_jax.tasks import Item, Task


def task(path: str = "a", size: int = 2, held: int = 1):
    if path == "nowhere":
        raise FileNotFoundError(path)
    items = [Item(n, f"{path} {n} ?", str(n)) for n in range(size)]
    return Task(
        name="mine",
        splits={"train": items[held:], "id": items[:held]},
        prompt=lambda item: item.question,
        extract=lambda text: text,
        verify=lambda item, text: float(text == item.answer),
    )


def needy(path):
    return task(path)


def nothing():
    return None
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "own_questions.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def test_the_function_gets_the_path_and_the_options():
    task = load_task("own_questions:task", "file.jsonl", size=3)
    assert task.splits["id"] == [Item(0, "file.jsonl 0 ?", "0")]
    assert len(task.splits["train"]) == 2
    assert bare_task("own_questions:task").name == "mine"


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("own_question:task", {}, "cannot import 'own_question'"),
        ("own_questions:tusk", {}, "has no 'tusk'; its functions: task, needy, nothing"),
        ("own_questions:needy", {}, "missing a required argument: 'path'; set data.path"),
        ("own_questions:task", {"path": "a", "chat": True}, "unexpected keyword argument 'chat'"),
        ("own_questions:task", {"path": "nowhere"}, "FileNotFoundError: nowhere"),
        ("own_questions:task", {"path": "a", "held": 0}, "no questions for 'id'"),
        ("own_questions:nothing", {}, "returned NoneType, expected a gccpo_jax Task"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(name, options, words):
    with pytest.raises(UserError, match=f"^task '{name}'|^task = '{name}'") as found:
        load_task(name, **options)
    assert words in str(found.value)


def test_a_name_without_a_function_lists_what_there_is():
    with pytest.raises(UserError, match="there are chain, .*your own, 'package.module:function'"):
        load_task("mine")


def test_an_option_of_another_task_says_where_to_begin():
    with pytest.raises(UserError, match="no option 'train'; it has chat, .*begin with a config"):
        load_task("gsm8k", "file.jsonl", train=3)
