"""Rollouts and branches under keyed noise; a function of ids, never of call order."""
