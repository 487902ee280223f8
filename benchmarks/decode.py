"""Traced generation against `transformers.generate` without any recording: same weights, 256 new tokens, two threads.

Ours keeps the whole row of logits of every step, the draw and its rank, and ends with its self-checks. Target: >= 1.5
times the tokens/s. Correctness first: greedy ids must be equal and logits within 1e-4, or no time is taken.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import calibration, interleaved, ratio, report
from models import write_reference_model
from transformers import AutoModelForCausalLM

import manako

NEW = 256


def main() -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "reference"
        write_reference_model(folder)
        ours = manako.load(folder)
        theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
        theirs.generation_config.eos_token_id = None  # both sides make exactly 256 tokens
        ours.config = ours.config.__class__(**{**vars(ours.config), "start_id": None})
        prompt = ours.tokenizer.encode("私は")
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)

        greedy = ours.trace("私は", max_new_tokens=NEW, temperature=0)
        with torch.no_grad():
            reference = theirs.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False)[0]
            logits = theirs(reference[None, :-1]).logits[0, len(prompt) - 1 :].numpy()
        error = float(np.abs(greedy.logits - logits).max())
        assert reference.tolist() == greedy.all_ids.tolist(), "greedy ids differ"
        assert error <= 1e-4, f"logits differ by {error}"

        start = calibration()
        times = interleaved(
            {
                "manako.trace": lambda: ours.trace("私は", max_new_tokens=NEW, temperature=0.8, seed=0),
                "transformers.generate": lambda: theirs.generate(
                    ids, attention_mask=mask, max_new_tokens=NEW, do_sample=True, temperature=0.8, top_k=0
                ),
            }
        )
    report(
        "decode",
        ">= 1.5",
        start,
        **ratio(times["transformers.generate"], times["manako.trace"]),
        milliseconds_a_token={name: 1000 * float(np.median(t)) / NEW for name, t in times.items()},
        largest_logit_difference=error,
        seconds=times,
    )


if __name__ == "__main__":
    main()
