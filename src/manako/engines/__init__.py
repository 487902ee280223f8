"""Engines run a model and make the record: `load(ref)` gives a `Model`, which generates and scores.

numpy_gpt2.py   the GPT-2 forward pass, readable
generation.py   the step loop: logits, chain, draw, record
scoring.py      every token of a given text: logits, rank, surprisal
model.py        `Model`, what a user holds; `load`, the one way in
"""
