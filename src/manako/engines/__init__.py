"""Engines run a model and make the record: `load(ref)` gives a `Model`, which generates and scores.

numpy_gpt2.py   the GPT-2 forward pass, readable
numpy_llama.py  the Llama forward pass, readable
hf.py           any other causal model of `transformers`: its folder, checked (extra `hf`)
hf_engine.py    ... its passes
hf_parts.py     ... its blocks, norm and output matrix, found by watching one pass
activations.py  what a pass leaves behind when it is asked to
readout.py      from a row of the residual stream to logits
captures.py     from activations to the columns of a record: attention, lens, contributions
ablation.py     parts switched off, by an edit of weights
generation.py   the step loop: logits, chain, draw, record
scoring.py      every token of a given text: logits, rank, surprisal
model.py        `Model`, what a user holds; `load`, the one way in
"""
