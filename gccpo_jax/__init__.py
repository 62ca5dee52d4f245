"""GCCPO: reinforcement learning that rewards reasoning steps for their effect on the answer.

`from gccpo_jax import reward, advantage, objective` gives pure functions of
arrays that need JAX and nothing else; every other module is imported when it is
named (`from gccpo_jax import sampling`). Importing the package imports nothing.
"""

__version__ = "0.1.0"
