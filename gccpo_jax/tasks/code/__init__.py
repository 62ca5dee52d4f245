"""Programming tasks whose outcome is what tests say: HumanEval, MBPP, QuixBugs."""
