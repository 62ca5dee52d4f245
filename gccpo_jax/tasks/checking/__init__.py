"""Checks of what a policy wrote, in child processes with a deadline and a limit of memory."""
