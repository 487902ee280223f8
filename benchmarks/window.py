"""600 tokens on a context of 512, whole command: cache and exact window against the full window at each step.

Three peers re-run the window at each step with no cache: the article's way (torch, attention written out, logits of all
positions), the same with torch's fused attention as in nanoGPT, and our own engine made to do so. Target: >= 4 times
faster. With a context of 512 and 600 tokens the peers compute 176 k rows where we compute 45 k and 512 single ones, so
3.9 is the ceiling against our own engine.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import calibration, interleaved, ratio, report
from models import write_reference_model

TORCH_PEER = """
import math, sys, torch
from pathlib import Path
from manako.formats.model_folder import read_checkpoint
from manako.training.model import GPT
torch.set_num_threads(2)
torch.manual_seed(0)
if sys.argv[2] == "written out":
    mask = torch.tril(torch.ones(512, 512)).view(1, 1, 512, 512)
    def attend(q, k, v, is_causal):
        T = q.shape[2]
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(q.shape[3]))
        att = att.masked_fill(mask[:, :, :T, :T] == 0, float("-inf"))
        return torch.softmax(att, dim=-1) @ v
    torch.nn.functional.scaled_dot_product_attention = attend
checkpoint = read_checkpoint(Path(sys.argv[1]))
model = GPT(checkpoint.config).eval()
model.load_state_dict({n: torch.from_numpy(t.copy()) for n, t in checkpoint.tensors.items()})
ids = torch.tensor([checkpoint.tokenizer.encode("私は")])
with torch.no_grad():
    for _ in range(600):
        logits = model(ids[:, -512:])[:, -1] / 0.8
        ids = torch.cat([ids, torch.multinomial(torch.softmax(logits, -1), 1)], dim=1)
print(ids.shape[1])
"""
OWN_PEER = """
import sys
from manako.engines.session import Session
from manako.model import load
Session.next_logits = lambda self, ids: (self.uncached_logits(ids), max(0, len(ids) - 512))
print(len(load(sys.argv[1]).trace("私は", max_new_tokens=600, seed=0)))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "reference")
        write_reference_model(Path(folder))

        def command(*words: str) -> None:
            env = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
            subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=env)

        start = calibration()
        times = interleaved(
            {
                "manako watch": lambda: command(
                    "-m", "manako", "watch", "私は", "-m", folder, "-n", "600", "--seed", "0"
                ),
                "the article's way": lambda: command("-c", TORCH_PEER, folder, "written out"),
                "torch, no cache": lambda: command("-c", TORCH_PEER, folder, "fused"),
                "own engine, no cache": lambda: command("-c", OWN_PEER, folder),
            },
            rounds=3,
        )
    ours = times["manako watch"]
    report(
        "window",
        ">= 4",
        start,
        against_the_article=ratio(times["the article's way"], ours),
        against_torch=ratio(times["torch, no cache"], ours),
        against_own_engine=ratio(times["own engine, no cache"], ours),
        seconds=times,
    )


if __name__ == "__main__":
    main()
