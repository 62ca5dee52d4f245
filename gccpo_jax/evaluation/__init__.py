"""How good a policy is on a file of questions: responses, figures, comparisons."""
