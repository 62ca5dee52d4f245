"""The controlled study: does the method generalise, and is it the causal part that does it?

    search     few seeds and many arms, to choose; docs/study_search.md says what was tried
    confirm    fresh seeds, once; arms, contrasts and numbers were written before they ran
    tokens     the same seeds at equal forward tokens, for the method and what it is measured by
    wordings   fresh seeds once more, for GRPO over several wordings (A15), the best of `confirm`;
               tokens equal within a fifth: what 40 updates of A15 cost is 88 of GRPO's, 42 of A2's
               and 33 of A8's, so A0 alone needs a second run; five seeds at first, then five
               more because ten take under six hours, not because of what five had shown
    rivals     the first five seeds and policies for other step credit beside A15, equal updates;
               in the `--workdir` of `wordings`, whose cells are not run again. `branch_train`
               updates on up to nine times as many sequences; planned with the others, run later
    placebos   the same for A7 and its credit on other steps (A9, A10)
    hidden     negative control: the cue is one that `surface` rewrites leave alone and `number`
               rewrites do not, so A14 and A15 must follow it as GRPO does, and A14n must not

Every seed has a policy of its own with two ways to an answer (`two_ways_sft.py`), and all its
arms start from it.

Command   python -m gccpo_jax.study --config configs/study.py:search --jobs 2
          python -m gccpo_jax.study --config configs/study.py:confirm --jobs 2
          python -m gccpo_jax.study --tables runs/study-confirm/results.jsonl
"""

from gccpo_jax.study.plan import default

RIVALS = ("A0", "A2", "A8", "pav", "spo_mask")  # sampled as asked, as the method is
ARMS = (
    *("A0", "A2", "A7", "A8", "A9", "A10"),  # GRPO, controls of the credit, placebos
    *("A14", "A14d", "A14e", "A14n", "A15", "A15s"),  # effects in other words
    *("pav", "spo_mask", "branch_train"),
)


def get_config(phase="search"):
    study = default()
    study.base = "configs/two_ways.py"
    study.sft = "configs/two_ways_sft.py"
    study.method = "A14e"
    study.rivals = RIVALS
    study.evaluate_every = 20
    study.changes = "checkpoint.every=20 log.rollouts_every=0 log.tensorboard=false"
    if phase == "search":
        study.rivals = (*RIVALS, "branch_train")  # the confirmation was fixed before
        study.seeds = (1, 2)
        study.updates = 60
        study.pairs = ("A15s-A15", "A7-A9", "A7-A10")
        study.arms = {arm: arm for arm in ARMS}  # or {"name": "A14e optim.do_share=0.5"}
        return study
    study.confirms = True
    if phase == "hidden":
        study.sft += ":hidden"
        study.seeds = (301, 302, 303)
        study.updates, study.matched = 40, False
        study.method, study.rivals = "A14n", ("A0", "A14", "A15")
        study.arms = {arm: arm for arm in ("A14n", *study.rivals)}
        study.primary = ("hidden_wrong", "hidden_absent")
        study.changes += " eval.questions=100 eval.ood_questions=100"
        study.changes += " task.options.labelled=0.0 task.options.hidden=0.9"
        return study
    beside = {
        "rivals": ("pav", "spo_mask", "branch_train"),
        "placebos": ("A7", "A9", "A10"),
    }
    if phase == "wordings" or phase in beside:
        study.seeds = tuple(range(201, 211 if phase == "wordings" else 206))
        study.updates, study.matched = 40, phase == "wordings"
        study.method, study.rivals = "A15", beside.get(phase, ("A0", "A2", "A8"))
        study.arms = {arm: arm for arm in ("A15", *study.rivals)}
        study.budget, study.tolerance = 385_000.0, 0.2
        study.changes += " eval.questions=100 eval.ood_questions=100"
        return study
    study.seeds = (101, 102, 103, 104, 105)
    study.updates = 40
    study.matched = phase == "tokens"
    study.changes += " eval.questions=100 eval.ood_questions=100"
    study.pairs = ("A15s-A15", "A14e-A15")
    study.rivals = ("A0", "A2", "A8")
    study.arms = {arm: arm for arm in ("A14e", *study.rivals, "A15", "A15s")}
    return study
