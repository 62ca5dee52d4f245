"""The one exception that is addressed to the user rather than to a programmer."""


class UserError(ValueError):
    """A mistake of the user's; the command line prints it in one line and exits with 2.

    The message says what is wrong (with the offending value) and what to do instead.
    """
