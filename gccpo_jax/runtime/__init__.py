"""The machine: devices and mesh, processes, command line, working directory, checkpoints, log.

Knows nothing of reinforcement learning.
"""
