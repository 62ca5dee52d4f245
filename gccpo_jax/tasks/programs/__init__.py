"""The programs suite: straight-line functions whose every statement can be judged."""
