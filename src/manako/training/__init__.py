"""Training from scratch in PyTorch (extra `train`): the one room, beside engines/hf.py, that may import torch.

model.py   the textbook GPT-2 and its ablation switches
loop.py    from documents to a model folder: batches, AdamW, schedule, evaluation, saving
"""
