"""An update that is not finite changes nothing and is counted; every other is what it was."""

import dataclasses
import functools
import json
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gccpo_jax import train
from gccpo_jax.errors import UserError
from gccpo_jax.objective.losses import Loss
from gccpo_jax.objective.update import gradient, make_optimizer, make_update, update_is_finite
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.log import RunLog
from gccpo_jax.tasks.base import Item
from gccpo_jax.training.bad_updates import bad_questions, describe_bad, explain_skip
from gccpo_jax.training.run import Run, headline
from gccpo_jax.types import TrainState
from tests.helpers import toy
from tests.helpers.runs import metrics, rollouts, small
from tests.helpers.updates import loss_fn, sampled

LOSS = loss_fn(beta=0.1, reduction="token_mean")
OPTIMIZER = make_optimizer(lr=0.02, steps=9, weight_decay=0.1)
EMA = 0.75
IS_GOOD = jax.jit(partial(update_is_finite, LOSS))


@pytest.fixture(scope="module")
def batch():
    return sampled(Rule())


def start():
    params = jax.tree.map(jnp.copy, toy.PARAMS)
    return TrainState(
        params, OPTIMIZER.init(params), jnp.int32(0), jax.tree.map(jnp.copy, toy.PARAMS)
    )


@functools.cache
def update(micro_batch):
    return make_update(LOSS, OPTIMIZER, micro_batch=micro_batch, ema=EMA)


def poisoned(batch, field, value, question=2):
    """One token of one response, or the reward of one response."""
    array = getattr(batch, field)
    place = (question, 1) if array.ndim == 2 else (question, 1, 0)
    return dataclasses.replace(batch, **{field: array.at[place].set(value)})


def assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@partial(jax.jit, static_argnames="micro_batch")
def unguarded(state, batch, micro_batch):
    """The update as it is without a guard."""
    grads, _ = gradient(LOSS, state.params, batch, micro_batch)
    updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    average = jax.tree.map(lambda a, p: EMA * a + (1 - EMA) * p, state.average, params)
    return TrainState(params, opt_state, state.step + 1, average)


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_a_finite_update_is_bit_by_bit_the_unguarded_one(batch, micro_batch):
    ours, theirs = start(), start()
    for _ in range(3):
        ours, found = update(micro_batch)(ours, batch)
        theirs = unguarded(theirs, batch, micro_batch)
        assert_same(ours, theirs)
        assert float(found["skipped"]) == 0 and float(found["update_norm"]) > 0


POISON = [
    ("advantage", jnp.nan), ("advantage", jnp.inf), ("behaviour_logp", jnp.nan),
    ("behaviour_logp", -jnp.inf), ("reference_logp", jnp.inf), ("reward", jnp.nan),
]  # fmt: skip


@pytest.mark.parametrize("micro_batch", [1, 4])
@pytest.mark.parametrize(("field", "value"), POISON)
def test_an_update_that_is_not_finite_changes_nothing(batch, field, value, micro_batch):
    state, _ = update(micro_batch)(start(), batch)
    before = jax.tree.map(np.array, state)
    state, found = update(micro_batch)(state, poisoned(batch, field, value))
    assert_same(state, before)
    assert float(found["skipped"]) == 1 and float(found["update_norm"]) == 0
    state, _ = update(micro_batch)(state, batch)
    assert_same(state, update(micro_batch)(update(micro_batch)(start(), batch)[0], batch)[0])


@pytest.mark.parametrize("field", ["advantage", "behaviour_logp", "reference_logp"])
def test_what_does_not_train_may_be_anything(batch, field):
    """A response that is masked out."""
    without = dataclasses.replace(batch, mask=batch.mask.at[2, 1].set(False))
    ours, found = update(4)(start(), poisoned(without, field, jnp.nan))
    assert float(found["skipped"]) == 0
    assert_same(ours, update(4)(start(), without)[0])


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_skipped(batch):
    """The square root at zero."""

    def loss(params, part):
        root = jnp.sqrt(0.0 * params["last"][0, 0])
        return Loss(root, *(jnp.float32(1) for _ in range(6)))

    step = make_update(loss, OPTIMIZER, micro_batch=2)
    state, found = step(start(), batch)
    assert float(found["loss"]) == 0 and float(found["skipped"]) == 1
    assert_same(state.params, toy.PARAMS)


@pytest.mark.parametrize(
    "options",
    [
        {"b1": 1.0},  # 0 / 0 in the bias correction
        {"b2": 1.0},
        {"lr": 1e38, "weight_decay": 1e10},  # the update itself overflows
        {"weight_decay": 1e30},  # its size does
    ],
)
def test_an_update_that_is_not_finite_under_a_finite_gradient_is_skipped(batch, options):
    optimizer = make_optimizer(**({"lr": 0.02, "steps": 9} | options))
    params = jax.tree.map(jnp.copy, toy.PARAMS)
    state = TrainState(params, optimizer.init(params), jnp.int32(0))
    state, found = make_update(LOSS, optimizer, micro_batch=2)(state, batch)
    assert np.isfinite(float(found["grad_norm"]))
    assert float(found["skipped"]) == 1 and float(found["update_norm"]) == 0
    assert_same(state.params, toy.PARAMS)


def test_the_questions_at_fault_are_found(batch):
    is_good = partial(IS_GOOD, toy.PARAMS)
    assert bad_questions(is_good, poisoned(batch, "advantage", jnp.nan)) == [2]
    twice = poisoned(poisoned(batch, "advantage", jnp.nan), "behaviour_logp", jnp.inf, 0)
    assert bad_questions(is_good, twice) == [0, 2]
    assert bad_questions(is_good, batch) == [0, 1, 2, 3], "none alone: all"


ITEMS = [Item(id=n + 100, question=f"question {n}", answer=str(n)) for n in range(4)]
WORDS = types.SimpleNamespace(decode=lambda ids: " ".join(map(str, ids)))


def test_a_bad_question_is_described_by_what_the_update_reads(batch):
    (row,) = describe_bad([2], ITEMS, poisoned(batch, "advantage", jnp.nan), WORDS)
    assert (row["question_id"], row["question"], row["gold"]) == (102, "question 2", "2")
    assert len(row["responses"]) == 3
    kept = np.asarray(batch.mask[2, 1])
    response = row["responses"][1]
    assert response["text"] == " ".join(map(str, np.asarray(batch.tokens[2, 1])[kept]))
    assert np.isnan(response["advantage"][0]) and len(response["advantage"]) == kept.sum()
    np.testing.assert_array_equal(response["behaviour_logp"], batch.behaviour_logp[2, 1][kept])
    assert response["reward"] == float(batch.reward[2, 1])


def run_of(flags, tmp_path, said):
    """A run whose updates are skipped as `flags` say."""
    session = types.SimpleNamespace(solver=types.SimpleNamespace(tokenizer=WORDS))
    flags = iter(flags)
    return Run(
        state=start(), update=lambda state, _: (state, {"skipped": next(flags), "loss": 0.5}),
        log=types.SimpleNamespace(say=said.append), watch=None, checkpoints=None, signals=None,
        first=0, skipped=0, explain=partial(explain_skip, IS_GOOD, session, tmp_path / "bad"),
    )  # fmt: skip


def test_so_many_in_a_row_end_the_run(batch, tmp_path):
    """Counted over steps and inner epochs; a finite one starts the count anew."""
    c = small(optim__epochs=2, optim__max_skipped=3)
    bad, said = poisoned(batch, "advantage", jnp.nan), []
    run = run_of([0, 0, 1, 1, 0, 1, 1, 1], tmp_path, said)
    found = [run.learn(c, step, bad, ITEMS)["skipped"] for step in (1, 2, 3)]
    assert found == [0, 2, 1] and run.skipped == 1
    with pytest.raises(UserError, match="max_skipped = 3: .*step_000004.json"):
        run.learn(c, 4, bad, ITEMS)
    assert len(said) == 3 and "step 2: 2 updates skipped" in said[0]
    files = sorted(path.name for path in (tmp_path / "bad").iterdir())
    assert files == [f"step_00000{n}.json" for n in (2, 3, 4)]
    (row,) = json.loads((tmp_path / "bad" / files[0]).read_text())
    assert row["question_id"] == 102
    run = run_of([1] * 50, tmp_path, said)
    c = small(optim__epochs=2, optim__max_skipped=0)
    assert sum(run.learn(c, step, bad, ITEMS)["skipped"] for step in range(5)) == 10, "0: never"


@pytest.mark.parametrize(("beta", "shown"), [(0.1, "loss 0.5000  kl 0.2500"), (0.0, "loss 0.5000")])
def test_no_kl_is_shown_where_none_is_measured(batch, tmp_path, beta, shown):
    run = run_of([], tmp_path, [])
    run.update = lambda state, _: (state, {"skipped": 0.0, "loss": 0.5, "kl": 0.25})
    found = run.learn(small(objective__beta=beta), 1, batch, ITEMS)
    assert ("kl" in found) == (beta > 0) and headline(found) == shown


def test_numbers_that_are_not_finite_are_null(tmp_path):
    """Every line is JSON, also for readers that do not know NaN; the next run reads them."""

    def refuse(name):
        raise AssertionError(name)

    log = RunLog(tmp_path, 3, True)
    log.step(1, {"loss": float("nan"), "kl": -float("inf"), "grad_norm": 0.5, "skipped": 1}, "")
    log.step(2, {"loss": 0.25}, "")
    log.close()
    RunLog(tmp_path, 3, False, resume_step=1).close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    row = json.loads(line, parse_constant=refuse)
    assert row == {"step": 1, "loss": None, "kl": None, "grad_norm": 0.5, "skipped": 1}


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [0, 1])
def test_a_poisoned_run_goes_on_or_ends_as_asked(tmp_path, monkeypatch, micro_batch):
    """NaN in an advantage at steps 2 and 3 of a run; resumed, it ends in the same step."""
    make = train.update_batch
    calls = []

    def poison(*arguments):
        calls.append(1)
        made = make(*arguments)
        return poisoned(made, "advantage", jnp.nan, 1) if len(calls) in (2, 3) else made

    monkeypatch.setattr(train, "update_batch", poison)
    options = dict(
        credit__kind="outcome", objective__beta=0.0, eval__ood_questions=0,
        checkpoint__every=1, log__rollouts_every=1, optim__micro_batch=micro_batch,
    )  # fmt: skip
    train.train_and_evaluate(small(**options), "small", tmp_path / "run")
    rows = metrics(tmp_path / "run")
    assert [row["skipped"] for row in rows] == [0, 1, 1, 0]
    assert [row["loss"] is None for row in rows] == [False, True, True, False]
    for step in (2, 3):
        (bad,) = json.loads((tmp_path / f"run/bad/step_00000{step}.json").read_text())
        ids = [row["question_id"] for row in rollouts(tmp_path / "run", step)]
        assert bad["question_id"] == ids[-1] != ids[0]
    if micro_batch:
        return
    calls.clear()
    c = small(**options, optim__max_skipped=2)
    with pytest.raises(UserError, match="max_skipped = 2: .*last good checkpoint: .*/2\\)"):
        train.train_and_evaluate(c, "small", tmp_path / "ends")
    calls[:] = [1, 1]
    with pytest.raises(UserError, match="max_skipped = 2: .*step_000003.json"):
        train.train_and_evaluate(c, "small", tmp_path / "ends", resume=True)
