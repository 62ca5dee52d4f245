"""Opens what a run needs: mesh, policy on its shards, task, tokenizer, questions."""

from __future__ import annotations

import dataclasses
import tempfile
from functools import partial

import jax

from gccpo_jax.config import Config
from gccpo_jax.errors import UserError
from gccpo_jax.masked import all_finite
from gccpo_jax.policy import model, weights
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.chat_template import Template
from gccpo_jax.policy.fused_attention import check_fused
from gccpo_jax.policy.tokenizer import Tokenizer, check_vocab, load_tokenizer
from gccpo_jax.runtime import sharding
from gccpo_jax.runtime.sharding import keep_compilations
from gccpo_jax.sampling.questions import Questions, load_questions
from gccpo_jax.sampling.solver import Solver, make_solver
from gccpo_jax.sampling.writer import open_writer
from gccpo_jax.tasks import load_task, make_tokenizer
from gccpo_jax.tasks.base import Task
from gccpo_jax.tasks.checking.user import with_verifier
from gccpo_jax.tasks.paraphrase import paraphrased
from gccpo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Session:
    """A run's fixed parts. Parameters are handed on, not kept."""

    mesh: jax.sharding.Mesh
    arch: Arch
    solver: Solver
    train: Questions
    evaluation: dict[str, Questions]  # every split of the task but "train"


def open_session(config: Config) -> tuple[Session, Params]:
    """Loads and checks everything that can fail before the first step.

    Raises:
      UserError: an impossible mesh, missing or damaged weights, a tokenizer of another
        model, unreadable questions, an option that the task does not have.
    """
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    keep_compilations()
    task = open_task(config)
    if config.task.paraphraser:
        task = paraphrased(task, open_writer(config.task.paraphraser, mesh))
    if config.policy.init == "scratch":
        tokenizer = dataclasses.replace(_own_tokenizer(task), template=template_of(config))
        arch = _scratch_arch(config, tokenizer)
        start = jax.jit(model.init, static_argnums=0, out_shardings=model.shardings(mesh, arch))
        params = start(arch, jax.random.key(config.seed))
    else:
        tokenizer = load_tokenizer(config.policy.path, template_of(config))
        arch, params = weights.load(
            config.policy.path, config.policy.dtype or None, partial(model.shardings, mesh)
        )
        if not all_finite(params):
            raise UserError(
                f"config.policy.path = {config.policy.path!r}: some weights are not finite, no "
                "update can mend them; take another file"
            )
    check_vocab(arch, tokenizer)
    _check_context(config, arch)
    tokenizer.template.check(tokenizer.backend, task.chat, task.system)
    spare = tokenizer.spare_rows(arch.vocab_size)
    fused = config.policy.attention == "cudnn"
    if fused:
        check_fused(arch, config.policy.compute or arch.dtype, mesh.size)
    section = config.policy
    policy = model.make_policy(arch, section.remat, mesh, section.compute, spare, fused)
    solver = make_solver(policy, task, tokenizer, config.mesh.data * config.mesh.fsdp)
    eval_width = config.eval.max_prompt_tokens or config.data.max_prompt_tokens
    session = Session(
        mesh=mesh,
        arch=arch,
        solver=solver,
        train=load_questions(task, "train", tokenizer, config.data.max_prompt_tokens),
        evaluation={
            name: load_questions(task, name, tokenizer, eval_width, _limit(config, name))
            for name in sorted(task.splits)
            if name != "train" and (name == "id" or config.eval.ood_questions)
        },
    )
    return session, params


def is_narrow(config: Config, arch: Arch) -> bool:
    """Whether the policy computes in less than float32, so that two programs disagree about it."""
    return (config.policy.compute or arch.dtype) != "float32"


def template_of(config: Config) -> Template:
    """What chat templates are rendered with in this run."""
    return Template(config.data.template, config.data.date)


def open_task(config: Config) -> Task:
    """The task with its options and files; a path that it does not read is refused."""
    options = dict(config.task.options)
    for name in ("path", "eval_path"):
        if value := getattr(config.data, name):
            options[name] = value
    return with_verifier(
        load_task(config.task.name, **options),
        config.reward.verifier,
        seconds=config.reward.verifier_seconds,
        gib=config.reward.verifier_gib,
    )


def scratch_shape(config: Config) -> Arch:
    """The shape of a decoder that starts from random weights."""
    return _scratch_arch(config, _own_tokenizer(open_task(config)))


def _limit(config: Config, split: str) -> int:
    return config.eval.questions if split == "id" else config.eval.ood_questions


def _own_tokenizer(task: Task) -> Tokenizer:
    with tempfile.TemporaryDirectory() as directory:
        return load_tokenizer(make_tokenizer(task.name, directory))


def _scratch_arch(config: Config, tokenizer: Tokenizer) -> Arch:
    shape = config.policy.scratch
    if shape.width % shape.heads:
        raise UserError(
            f"config.policy.scratch.width = {shape.width}: expected a multiple of "
            f"heads = {shape.heads}"
        )
    return Arch(
        vocab_size=-(-tokenizer.vocab_size // 8) * 8,  # divides over a tensor axis up to 8
        width=shape.width,
        depth=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.width // shape.heads,
        mlp_width=shape.mlp,
        max_positions=512,
        dtype=config.policy.dtype or "float32",
    )


def _check_context(config: Config, arch: Arch) -> None:
    prompt, response = config.data.max_prompt_tokens, config.sampling.max_tokens
    needed = max(
        prompt + response,
        (config.eval.max_prompt_tokens or prompt) + (config.eval.max_tokens or response),
    )
    if needed > arch.max_positions:
        raise UserError(
            f"max_prompt_tokens + max_tokens = {needed} (config.data and sampling, or eval): the "
            f"model's context is {arch.max_positions} tokens; lower one of them"
        )
