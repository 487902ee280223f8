"""The reference model of the benchmarks: 6 layers, 8 heads, width 256, context 512, 3,554 tokens, random weights."""

from pathlib import Path

import numpy as np

from manako.families.gpt2 import ModelConfig
from manako.formats.model_folder import write_checkpoint
from manako.tokenizer import start_id_of, train_characters

VOCABULARY = 3_554


def write_reference_model(
    folder: Path, n_layer: int = 6, n_head: int = 8, block_size: int = 512, vocabulary: int = VOCABULARY
) -> None:
    """A model folder with GPT-2's initialisation and a character vocabulary with 私 and は in it."""
    characters = "私は" + "".join(chr(0x4E00 + i) for i in range(vocabulary - 257 - 2 + 1) if chr(0x4E00 + i) != "私")
    tokenizer = train_characters([characters[: vocabulary - 257]], min_count=1)
    config = ModelConfig(
        n_layer=n_layer,
        n_head=n_head,
        n_embd=256,
        block_size=block_size,
        vocab_size=vocabulary,
        start_id=start_id_of(tokenizer),
    )
    random = np.random.default_rng(0)
    tensors = {
        name: np.ones(shape, np.float32)
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))
        else (random.normal(size=shape) * (0.02 if len(shape) > 1 else 0.0)).astype(np.float32)
        for name, shape in config.parameters().items()
    }
    write_checkpoint(folder, config, tensors, tokenizer)
