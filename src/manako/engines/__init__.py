"""Engines run a model and make the trace.

protocol.py     what an engine is, and how it tells what it lacks; the NumPy models of families/ are engines as they are
hf_engine.py    any other causal model of `transformers` (extra `hf`)
hf_parts.py     ... its blocks, norm and output matrix, found by watching one pass
session.py      one text in an engine: its cache, and the exact window past the context
captures.py     from activations to the columns of a trace: attention, lens, contributions
ablation.py     parts switched off, by an edit of weights
generation.py   the step loop: logits, chain, draw, record
scoring.py      every token of a given text: logits, rank, surprisal
provenance.py   what ran, for the header of a trace
"""
