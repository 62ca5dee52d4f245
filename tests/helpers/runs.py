"""The quickstart in miniature, and what a run left behind."""

import gzip
import json
import struct

from gccpo_jax import config


def records(file):
    """The events of a TensorBoard file, from its format: length, checksum, data, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, at = file.read_bytes(), 0
    while at < len(data):
        (size,) = struct.unpack_from("Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + size])
        at += size + 16


def small(**changes):
    """The quickstart in miniature."""
    c = config.default()
    c.steps = 4
    c.batch_size = 2
    c.group_size = 4
    c.data.max_prompt_tokens = 44
    c.sampling.max_tokens = 40
    c.task.options.update(train=40, id=6, ood=4, max_operations=3)
    c.eval.questions = 4
    c.eval.ood_questions = 4
    c.eval.batch = 4
    c.eval.max_prompt_tokens = 60
    c.checkpoint.every = 2
    c.log.rollouts_every = 2
    c.log.tensorboard = False
    for path, value in changes.items():
        section, _, name = path.rpartition("__")
        setattr(c[section] if section else c, name, value)
    return config.freeze(c)


def rollouts(workdir, step):
    """The trajectories that were kept of a step."""
    file = workdir / f"rollouts/step_{step:06d}.jsonl.gz"
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def metrics(workdir):
    """The steps of metrics.jsonl without the fields that hold times."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timed = ("_seconds", "_per_second")
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in rows if row["step"]]
