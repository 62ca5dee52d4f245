"""GCCPO: reinforcement learning that rewards reasoning steps for their effect on the answer.

`from gccpo_jax import reward, advantage, objective` gives pure functions of
arrays that need JAX and nothing else; every other module is imported when it is
named (`from gccpo_jax import sampling`). Importing the package imports nothing.
"""

import sys

__version__ = "0.1.0"


def _is_command() -> bool:
    """Whether Python is about to run `-m gccpo_jax.<command>`, for which it imports this first."""
    given = getattr(sys, "argv", [])
    if given[:1] != ["-m"]:  # what stands there until the module is found
        return False
    module = sys.orig_argv[len(sys.orig_argv) - len(given)].removeprefix("-m")
    return module.partition(".")[0] == __name__


if _is_command():
    from gccpo_jax.errors import end_on_interrupt

    end_on_interrupt()
