#!/usr/bin/env python3
"""Ship a checkpoint as an embedded model: int8 weights, and what its card says of them.

    python scripts/ship_demo.py demo runs/demo corpora/aozora
    python scripts/ship_demo.py demo-en runs/english corpora/english 4000

The name of the embedded model; the run, of which the best checkpoint is taken, or a model folder; the packed corpus it
was trained on; optionally how many characters of each held-out work to score, from its start (all by default).

The figures are those of the shipped file, every character scored once and each work by itself; the cost of int8 is
measured against the checkpoint's own numbers on the first 2,000 characters of each work. Samples are not chosen: seeds
0 to 9. The card (README.md) and the example trace of the model stay as they are: lesson_texts.py and
make_example.py make the latter anew, with the texts of the lessons.
"""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import manako
from manako.corpus.packed import open_packed
from manako.families.gpt2 import ModelConfig, only_gpt2
from manako.formats.checkpoint import Tensors
from manako.formats.model_folder import read_checkpoint, write_checkpoint
from manako.model import Model
from manako.refs import EMBEDDED, Ref

KEPT = ("README.md", "example.manako")
CLAIMS = (("私は私の顔", "を"), ("私は私の顔を見た。私", "は"))  # of the article
TRAINED_ON = {
    "demo": {"en": "Japanese fiction 1890–1950", "ja": "日本の小説など（1890〜1950 年）"},
    "demo-en": {"en": "English fiction 1813–1925", "ja": "英語の小説（1813〜1925 年）"},
}
PROMPTS = {"demo": ("私は", "吾輩は猫"), "demo-en": ("The old man", "It was a")}


def main(name: str, checkpoint: str, corpus: str, limit: str = "0") -> None:
    folder, ref = EMBEDDED[name], Ref.parse(checkpoint)
    source = read_checkpoint(ref.checkpoint())
    whole, packed = Model(checkpoint, source), open_packed(Path(corpus))
    decode = Ref.parse(corpus).tokenizer().decode
    held_out = [decode(ids.tolist()).decode() for ids in packed.validation.documents(packed.start_id)]
    config = replace(only_gpt2(source.config), trained_on=TRAINED_ON[name])
    tensors = source.tensors | centred_keys(whole, config, source.tensors, held_out[0][:400])
    kept = {file: (folder / file).read_bytes() for file in KEPT if (folder / file).exists()}
    shutil.rmtree(folder, ignore_errors=True)
    write_checkpoint(folder, config, tensors, source.tokenizer, kept, int8=True)

    model = manako.load(name)
    characters = int(limit) or None
    figures = scored(model, [text[:characters] for text in held_out])
    starts = [text[:2000] for text in held_out]
    cost = scored(model, starts)["bits_per_character"] - scored(whole, starts)["bits_per_character"]
    figures |= {
        "int8_costs_bits_per_character": cost,
        "parameters": sum(tensor.size for tensor in tensors.values()),
        "file_bytes": sum(file.stat().st_size for file in folder.iterdir()),
    }
    print(json.dumps(figures, indent=2))
    if name == "demo":
        for text, following in CLAIMS:
            found = model.trace(text, max_new_tokens=1, temperature=1, seed=0).steps[0]
            token = next(c for c in found.candidates if c.text == following)
            print(f"| {text} | {following} | {token.p_model:.1%} | rank {token.rank} |")
    prompts = PROMPTS[name]
    for t in (0.3, 0.8, 1.2):
        for prompt in prompts:
            print(f"| {t} | {sample(model, prompt, t, seed=0)} |")
    for seed in range(10):
        print(f"| {seed} | {sample(model, prompts[0], 0.8, seed)} |")


def centred_keys(model: Model, config: ModelConfig, tensors: Tensors, text: str) -> Tensors:
    """The biases of c_attn with which the mean key of a text is zero.

    What all keys have in common is in each score of a query, and softmax takes it out again: nothing changes but the
    rounding. No gradient holds that part, so a training may let it grow until float32 has few digits for the rest.
    """
    inside = model.score(text, capture=["residual"]).residual
    assert inside is not None
    found, width = Tensors(), config.n_embd
    for block in range(config.n_layer):
        at, x = f"h.{block}.", inside[:, block].astype(np.float64)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.layer_norm_epsilon)
        x = x * tensors[f"{at}ln_1.weight"] + tensors[f"{at}ln_1.bias"]
        bias = tensors[f"{at}attn.c_attn.bias"].copy()
        bias[width : 2 * width] = -(x @ tensors[f"{at}attn.c_attn.weight"][:, width : 2 * width]).mean(0)
        found[f"{at}attn.c_attn.bias"] = bias
    return found


def scored(model: Model, texts: list[str]) -> dict[str, float]:
    """What these texts take, all together."""
    results = [model.evaluate(text) for text in texts]
    characters = sum(r.characters for r in results)
    bits = sum(r.loss * r.tokens for r in results) / math.log(2)
    size = sum(len(text.encode()) for text in texts)
    counts: dict[str, float] = {"works": len(texts), "characters": characters}
    return counts | {"bits_per_character": bits / characters, "bits_per_byte": bits / size}


def sample(model: Model, prompt: str, temperature: float, seed: int) -> str:
    """A continuation as the card has it."""
    return model.trace(prompt, max_new_tokens=60, temperature=temperature, seed=seed).text.replace("\n", "⏎")


if __name__ == "__main__":
    main(*sys.argv[1:])
