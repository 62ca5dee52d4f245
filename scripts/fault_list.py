"""The faults, each a function from a lab to a row of the table."""

from __future__ import annotations

import signal
import subprocess
from functools import partial
from typing import NamedTuple

from fault_runs import (
    STEPS,
    Ended,
    Lab,
    command,
    finish,
    largest,
    metrics,
    saved,
    steps_done,
    wait_for,
)

VERIFIER = ("--config.reward.verifier_seconds=3", "--config.reward.verifier_gib=0.5")
BY_SIGNAL = {-signal.SIGKILL: "137 (SIGKILL)"}


class Row(NamedTuple):
    """A row of the table; `wrong`: something was lost that should not be."""

    fault: str
    said: str
    lost: str
    code: str
    test: str
    wrong: bool = False


def row(fault: str, lab: Lab, ended: Ended, words: tuple[str, ...], lost: tuple[str, bool],
        test: str, *, code: int = 0) -> Row:  # fmt: skip
    """A row; wrong also where the exit code is another or the line was not said."""
    line = ended.line(*words)
    wrong = lost[1] or ended.code != code or not all(word in line for word in words)
    told = f"WRONG: {lost[0]}" if wrong else lost[0]
    shown = BY_SIGNAL.get(ended.code, str(ended.code))
    return Row(fault, lab.show(line) if words else "nothing", told, shown, f"`{test}`", wrong)


def kill_during_save(lab: Lab) -> Row:
    place = lab.folder / "killed"
    first = lab.run(place, patch="kill_during_save")
    kept = [path.name for path in saved(place)]
    again = lab.resume(place)
    lost, wrong = lab.lost(place)
    wrong = wrong or first.code != -signal.SIGKILL or kept != ["1", "2"] or again.code != 0
    said = lab.show(again.line("resumed after"))
    name = "SIGKILL while checkpoint 3 was written"
    return Row(name, f"resumed: {said}", lost, BY_SIGNAL.get(first.code, str(first.code)),
               "`test_resume.py`", wrong)  # fmt: skip


def _damage(lab: Lab, name: str, fault: str, change: str) -> Row:
    place = lab.copy(name)
    file = largest(saved(place)[-1])
    data = bytearray(file.read_bytes())
    if change == "cut":
        data = data[: len(data) // 2]
    else:
        middle = len(data) // 2
        data[middle : middle + 8] = bytes(b ^ 0xFF for b in data[middle : middle + 8])
    file.write_bytes(bytes(data))
    words = (f"checkpoint {STEPS} is damaged", f"going on from checkpoint {STEPS - 1}")
    ended = lab.resume(place)
    return row(fault, lab, ended, words, lab.lost(place), "test_checkpoints.py")


def all_damaged(lab: Lab) -> Row:
    place = lab.copy("all_damaged")
    for folder in saved(place):
        largest(folder).write_bytes(b"")
    before = sorted(path.name for path in (place / "checkpoints").iterdir())
    ended = lab.resume(place)
    kept = before == sorted(path.name for path in (place / "checkpoints").iterdir())
    lost = ("all, and nothing was touched", not kept)
    words = ("no checkpoint in it is whole",)
    return row("every checkpoint cut to nothing", lab, ended, words, lost, "test_checkpoints.py",
               code=2)  # fmt: skip


def full_disk(lab: Lab) -> Row:
    fault = "disk full (a tmpfs of two fifths of what the run needs)"
    disk = lab.folder / "disk"
    disk.mkdir()
    size = sum(file.stat().st_size for file in lab.whole.rglob("*") if file.is_file())

    def mount(options: str) -> bool:
        words = ["mount", "-t", "tmpfs", "-o", options, "none", str(disk)]
        return subprocess.run(words, capture_output=True).returncode == 0

    if not mount(f"size={size * 2 // 5}"):
        return Row(fault, "not injected here: mounting needs root", "-", "-", "`test_storage.py`")
    try:
        place = disk / "run"
        ended = lab.run(place)
        mount(f"remount,size={size * 3}")
        again = lab.resume(place)
        lost = lab.lost(place)
        lost = (lost[0], lost[1] or again.code != 0)
        words = ("error: ", "No space left", "last good checkpoint")
        return row(fault, lab, ended, words, lost, "test_storage.py", code=2)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _signal(lab: Lab, number: signal.Signals) -> Row:
    place = lab.folder / number.name
    process = lab.start(place)
    wait_for(lambda: steps_done(place) >= 1, process)
    process.send_signal(number)
    ended = finish(process)
    done = steps_done(place)
    line = ended.line("go on with")
    again = subprocess.run(command(line) or ["false"], cwd=lab.folder, env=lab.env, text=True,
                           capture_output=True)  # fmt: skip
    lost = lab.lost(place)
    lost = (lost[0], lost[1] or again.returncode != 0 or not 0 < done < STEPS)
    words = (f"{number.name}: stopped after step {done}, saved; go on with: ",)
    return row(f"{number.name} in the middle of a step", lab, ended, words, lost,
               "test_preemption.py", code=128 + number)  # fmt: skip


def _not_finite(lab: Lab, patch: str, fault: str, skipped: list[float]) -> Row:
    place = lab.folder / patch
    ended = lab.run(place, patch=patch)
    ours, theirs = metrics(place), metrics(lab.whole)
    found = [float(line["skipped"]) for line in ours]
    same = ours[:2] == theirs[:2] and (place / "bad" / "step_000003.json").is_file()
    count = int(sum(found))
    lost = (
        f"{count} of {2 * STEPS} updates, which had no effect; the steps before are those of the "
        "run without the fault, bit by bit",
        not same or found != skipped,
    )
    return row(fault, lab, ended, ("step 3:", "skipped, not finite"), lost, "test_bad_updates.py")


def nan_for_ever(lab: Lab) -> Row:
    place = lab.folder / "nan_for_ever"
    options = ("--config.optim.max_skipped=3",)
    ended = lab.run(place, *options, patch="nan_for_ever")
    same = metrics(place)[:2] == metrics(lab.whole)[:2]
    lost = (
        "the step in which it ended; skipped updates have no effect, a checkpoint is named",
        not same,
    )
    words = ("config.optim.max_skipped = 3", "last good checkpoint")
    return row("NaN in every log-probability from step 3 on", lab, ended, words, lost,
               "test_bad_updates.py", code=2)  # fmt: skip


def _verifier(lab: Lab, name: str, fault: str) -> Row:
    place, like = lab.folder / name, lab.folder / f"{name}_none"
    options = (*VERIFIER, "--config.steps=2", "--config.eval.questions=1")
    ended = lab.run(place, *options, f"--config.reward.verifier=fault_patches:{name}")
    lab.run(like, *options, "--config.reward.verifier=fault_patches:unscorable")
    lost, wrong = lab.lost(place, like)
    count = ended.said.count(": unscorable, ")
    if not wrong:
        lost = (
            f"the scores of {count} responses, unscorable; all else is as if it had returned None"
        )
    words = ("config.reward.verifier", "unscorable")
    return row(fault, lab, ended, words, (lost, wrong or not count), "test_user.py")


def unreadable_row(lab: Lab) -> Row:
    file = lab.folder / "rows.jsonl"
    good = '{"question": "1 + 1?", "answer": "2"}\n'
    file.write_text(good * 2 + '{"question": "1 + \n' + good * 7)
    place = lab.folder / "unreadable"
    options = ("--config.task.name=gsm8k", f"--config.data.path={file}")
    ended = lab.run(place, *_without_options(lab), *options)
    lost = ("nothing: it ends before its first step and makes no folder", place.exists())
    return row("a row of the data that is not JSON", lab, ended, ("rows.jsonl:3: not JSON",), lost,
               "test_cli.py", code=2)  # fmt: skip


def _without_options(lab: Lab) -> tuple[str, ...]:
    """The config file without the options of its task, which other tasks refuse."""
    file = lab.folder / "plain.py"
    lines = lab.config.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if "options" not in line))
    return ("--config", str(file))


def two_runs(lab: Lab) -> Row:
    place = lab.folder / "two"
    process = lab.start(place)
    wait_for(lambda: (place / "lock").exists() and (place / "lock").read_text(), process)
    ended = lab.resume(place)
    first = finish(process)
    lost = lab.lost(place)
    lost = (lost[0], lost[1] or first.code != 0)
    words = (f"process {process.pid} on", "runs in it")
    return row(
        "a second run in the same folder", lab, ended, words, lost, "test_workdir.py", code=2
    )


def dead_lock(lab: Lab) -> Row:
    place = lab.folder / "dead"
    process = lab.start(place)
    wait_for(lambda: steps_done(place) >= 2, process)
    process.kill()
    code = finish(process).code
    ended = lab.resume(place)
    lost = lab.lost(place)
    words = (f"taken over from process {process.pid}", "which is dead")
    found = row("SIGKILL between two steps; the lock stays", lab, ended, words, lost,
               "test_resume.py, test_workdir.py")  # fmt: skip
    return found._replace(code=BY_SIGNAL.get(code, str(code)))


FAULTS = {
    "kill_during_save": kill_during_save,
    "dead_lock": dead_lock,
    "truncated": partial(
        _damage, name="truncated", fault="the newest checkpoint cut in half", change="cut"
    ),
    "flipped": partial(
        _damage, name="flipped", fault="eight bytes of the newest checkpoint flipped", change="flip"
    ),
    "all_damaged": all_damaged,
    "full_disk": full_disk,
    "sigterm": partial(_signal, number=signal.SIGTERM),
    "sigint": partial(_signal, number=signal.SIGINT),
    "nan_gradient": partial(
        _not_finite,
        patch="nan_gradient",
        fault="NaN in the gradient under a finite loss, one update",
        skipped=[0, 0, 1, 0],
    ),
    "nan_logp": partial(
        _not_finite,
        patch="nan_logp",
        fault="NaN in one log-probability, one step of two updates",
        skipped=[0, 0, 2, 0],
    ),
    "nan_for_ever": nan_for_ever,
    "verifier_sleeps": partial(_verifier, name="sleeps", fault="a verifier that sleeps"),
    "verifier_crashes": partial(
        _verifier, name="crashes", fault="a verifier that ends its process"
    ),
    "verifier_eats_memory": partial(
        _verifier, name="eats_memory", fault="a verifier that takes all memory"
    ),
    "unreadable_row": unreadable_row,
    "two_runs": two_runs,
}
