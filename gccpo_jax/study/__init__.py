"""The controlled study: arms against each other over seeds, from plan to page.

python -m gccpo_jax.study --config configs/study.py:confirm
python -m gccpo_jax.study --tables runs/study-confirm/results.jsonl
"""
