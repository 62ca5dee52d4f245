"""Products of rounded operands that are added up in float32, with gradients as narrow as these.

    c = sum_j a_j b_j    in float32,      da = round(dc) b,    db = a round(dc)

What follows such a product (a softmax) is computed in float32, so its cotangent is float32 too.
Left so, the two products of the backward pass would be of float32 operands: half as fast where a
machine multiplies bfloat16 at all, and twice the bytes. With float32 operands nothing is rounded.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from gccpo_jax.types import Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def wide_product(subscripts: str, a: Array, b: Array) -> Array:
    """`einsum(subscripts, a, b)` in float32 of operands of one dtype.

    Gradients take the cotangent rounded to that dtype; a forward-mode derivative is rounded to it.
    """
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)


@wide_product.defjvp
def _derivative(
    subscripts: str, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (a, b), (da, db) = primals, tangents
    # The transpose of this conversion is what rounds the cotangent.
    change = jnp.einsum(subscripts, da, b) + jnp.einsum(subscripts, a, db)
    return wide_product(subscripts, a, b), change.astype(jnp.float32)
