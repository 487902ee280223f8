"""Training from scratch in PyTorch (extra `train`): the one room, beside engines/hf.py, that may import torch.

model.py       the textbook GPT-2 and its ablation switches
config.py      every setting, declared once
batches.py     which windows of the corpus each step sees
held_out.py    the text that evaluations score, by the method of `manako eval`
memory.py      what a training takes, summed before it is taken
optim.py       AdamW, Muon, the learning rate over a run
machine.py     what the machine can do: type and speed of products
processes.py   one process, or the ranks that torchrun starts
loop.py        updates, evaluations, checkpoints
recipe.py      training.json of a checkpoint
state.py       the training state of a checkpoint and the log, read strictly
page_run.py    a training that the page saved, as a run folder
run.py         from text to the last checkpoint, and on from one: `manako.train`
"""
