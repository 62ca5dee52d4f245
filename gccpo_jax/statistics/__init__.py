"""Intervals and tests of shares and means over questions, with NumPy and SciPy alone."""
