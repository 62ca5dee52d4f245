"""The chain suite: short arithmetic stories whose every step can be judged."""
