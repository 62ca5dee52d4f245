"""The device mesh and one table from logical axes of parameters to mesh axes.

Only the question axis B of data is split (over `data` x `fsdp`); a question's
group stays together, so group statistics need no collectives and do not depend
on the mesh. One device is a mesh of one.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gccpo_jax.errors import UserError

RULES: dict[str | None, str | None] = {
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "head": None,
    "layers": None,
    None: None,
}
"""Logical axis of a parameter -> mesh axis. Changing the parallelism is editing this table."""

QUESTIONS = ("data", "fsdp")


def make_mesh(data: int = 1, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """A mesh over the first data x fsdp x tensor devices.

    Raises:
      UserError: there are too few, or several processes have more than it takes.
    """
    needed, present, processes = data * fsdp * tensor, jax.device_count(), jax.process_count()
    if needed != present and processes > 1:
        raise UserError(
            f"config.mesh {data} x {fsdp} x {tensor} (data x fsdp x tensor) is {needed} devices, "
            f"the {processes} processes have {present}: with several processes a mesh takes all; "
            f"choose sizes whose product is {present}, or start other processes"
        )
    if needed > present:
        raise UserError(
            f"config.mesh {data} x {fsdp} x {tensor} (data x fsdp x tensor) needs {needed} "
            f"devices, {present} present; lower the sizes or start with more devices"
        )
    devices = jax.devices()[:needed]
    axis_types = (AxisType.Auto,) * 3
    return jax.make_mesh(
        (data, fsdp, tensor), ("data", "fsdp", "tensor"), axis_types=axis_types, devices=devices
    )


def parameter_shardings(mesh: Mesh, abstract: Any, logical_axes: Any) -> Any:
    """Shardings of parameters from their shapes and logical axes; refuses uneven splits."""

    def one(path: Any, leaf: Any, axes: tuple[str | None, ...]) -> NamedSharding:
        spec = _spec(axes)
        for size, axis in zip(leaf.shape, spec, strict=True):
            if axis is not None and size % mesh.shape[axis]:
                raise UserError(
                    f"{jax.tree_util.keystr(path)} {leaf.shape}: {size} does not divide over "
                    f"mesh.{axis} = {mesh.shape[axis]}; choose a divisor"
                )
        return NamedSharding(mesh, spec)

    flat, tree = jax.tree_util.tree_flatten_with_path(abstract)
    axes = _axes(logical_axes)
    return tree.unflatten([one(path, leaf, a) for (path, leaf), a in zip(flat, axes, strict=True)])


def _spec(axes: tuple[str | None, ...]) -> PartitionSpec:
    return PartitionSpec(*(RULES[axis] for axis in axes))


def _axes(logical_axes: Any) -> list[tuple[str | None, ...]]:
    return jax.tree.leaves(logical_axes, is_leaf=lambda x: isinstance(x, tuple))


def gather(mesh: Mesh | None, params: Any, logical_axes: Any) -> Any:
    """Parameters as a device computes with them: whole over `fsdp`, still split over `tensor`.

    Called on a layer's parameters where the layer runs. Left to itself the compiler may
    split a contraction over `fsdp` instead and add partial results of activations, which
    moves more and adds in another order than one device does. Gradients go the other
    way: summed over devices and split again. The identity without an axis `fsdp`.
    """
    if mesh is None or mesh.shape["fsdp"] == 1:
        return params
    flat, tree = jax.tree.flatten(params)
    whole = [_gather(x, mesh, _spec(a)) for x, a in zip(flat, _axes(logical_axes), strict=True)]
    return tree.unflatten(whole)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))  # not gathered any earlier
    return jax.lax.with_sharding_constraint(x, _whole(mesh, spec))


def _whole(mesh: Mesh, spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*(a if a != "fsdp" else None for a in spec)))


def _gather_forward(x: Any, mesh: Mesh, spec: PartitionSpec) -> tuple[Any, None]:
    return _gather(x, mesh, spec), None


def _gather_backward(mesh: Mesh, spec: PartitionSpec, _: None, gradient: Any) -> tuple[Any]:
    # Summed whole before it is split, or an embedding's gradient would gather activations.
    gradient = jax.lax.with_sharding_constraint(gradient, _whole(mesh, spec))
    return (jax.lax.with_sharding_constraint(gradient, NamedSharding(mesh, spec)),)


_gather.defvjp(_gather_forward, _gather_backward)


def replicated(mesh: Mesh) -> NamedSharding:
    """One copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(mesh: Mesh, tree: Any) -> Any:
    """Places arrays whose leading axis is the question axis, split over `data` x `fsdp`."""
    return jax.tree.map(partial(put, NamedSharding(mesh, PartitionSpec(QUESTIONS))), tree)


def put(where: NamedSharding, value: Any) -> jax.Array:
    """An array that every process knows, placed: each process copies its devices' parts only."""
    value = np.asarray(value)
    return jax.make_array_from_callback(value.shape, where, lambda index: value[index])


def put_rows(
    rows: Iterable[np.ndarray],
    shape: tuple[int, ...],
    dtype: np.dtype,
    stacked: bool,
    where: jax.sharding.Sharding | None = None,
) -> jax.Array:
    """An array of `shape` made of `rows`: one per layer if `stacked`, else one in all.

    On the host there are only the parts that this process's devices hold, and one row.
    """
    where = where or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    parts: dict[str, tuple[tuple[slice, ...], np.ndarray]] = {}  # by text: slices have no hash
    for index in where.addressable_devices_indices_map(shape).values():
        size = [len(range(*cut.indices(n))) for cut, n in zip(index, shape, strict=True)]
        parts.setdefault(str(index), (index, np.empty(size, dtype)))
    for layer, row in enumerate(rows):
        for index, part in parts.values():
            if stacked:  # layers are never split
                part[layer] = row[index[1:]]
            else:
                part[...] = row[index]
    return jax.make_array_from_callback(shape, where, lambda index: parts[str(index)][1])


def state_shardings(mesh: Mesh, abstract_state: Any, params_shardings: Any) -> Any:
    """Shardings of an optimizer state: each moment like its parameter, the rest replicated.

    Optax keeps moments in trees of the parameters' structure; those subtrees are
    recognised by structure and take the parameters' shardings.
    """
    structure = jax.tree.structure(params_shardings)

    def is_params(x: Any) -> bool:
        return jax.tree.structure(x) == structure

    def one(x: Any) -> Any:
        return params_shardings if is_params(x) else jax.tree.map(lambda _: replicated(mesh), x)

    return jax.tree.map(one, abstract_state, is_leaf=is_params)


def keep_compilations() -> None:
    """Turns JAX's persistent compilation cache on: a second run starts without compiling.

    The folder is `gccpo_jax/compiled` in `$XDG_CACHE_HOME` or `~/.cache`, on CPU one in it for
    each set of a processor's features: its programs are made for them (JAX's own key of a program
    holds them too). A folder that was chosen before (`JAX_COMPILATION_CACHE_DIR`) stays, and
    `JAX_ENABLE_COMPILATION_CACHE=false` turns it off. Where it can't be written nothing is kept.
    """
    if not jax.config.jax_enable_compilation_cache:
        return
    if not jax.config.jax_compilation_cache_dir:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        folder = home / "gccpo_jax" / "compiled"
        if jax.default_backend() == "cpu":
            folder /= f"cpu-{processor_features()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # JAX keeps what took a second; a run on CPU has some sixty programs that take less.
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def processor_features(info: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> str:
    """A hash of what this machine's processor can do, as far as the system says.

    Args:
      info: what Linux says of its processors; elsewhere only their kind is known.
    """
    lines = info.read_text().splitlines() if info.exists() else []
    features = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    said = "\n".join([platform.machine(), platform.processor(), *sorted(set(features))])
    return hashlib.sha256(said.encode()).hexdigest()[:12]
