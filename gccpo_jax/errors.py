"""The one exception that is addressed to the user, and how a command reports it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(ValueError):
    """A mistake of the user's; the command line prints it in one line and exits with 2.

    The message says what is wrong (with the offending value) and what to do instead.
    """


def exit_code(action: Callable[[], object]) -> int:
    """Runs a command: 0, or 2 and one line on stderr for a mistake of the user's."""
    try:
        action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
