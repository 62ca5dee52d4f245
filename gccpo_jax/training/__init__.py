"""The run of reinforcement learning: session, experience, update, evaluation, log."""
