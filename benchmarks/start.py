"""From the shell to the last line: `manako watch 私は -n 15`, `manako --help`, and the article's job as a torch script.

Targets: watch <= 1.0 s, --help <= 0.25 s on the reference machine; torch, transformers, starlette imported by neither.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import calibration, interleaved, ratio, report

ARTICLE_JOB = """
import sys, torch
from pathlib import Path
from manako.formats.model_folder import read_checkpoint
from manako.training.model import GPT
checkpoint = read_checkpoint(Path(sys.argv[1]))
model = GPT(checkpoint.config).eval()
model.load_state_dict({n: torch.from_numpy(t.copy()) for n, t in checkpoint.tensors.items()})
ids = torch.tensor([checkpoint.tokenizer.encode("私は")])
with torch.no_grad():
    for step in range(15):
        p = torch.softmax(model(ids)[0, -1] / 0.8, -1)
        for q, i in zip(*(t.tolist() for t in torch.topk(p, 10))):
            print(checkpoint.tokenizer.token_bytes[i], f"{q:.1%}", "#" * int(q * 50))
        ids = torch.cat([ids, torch.multinomial(p, 1)[None]], dim=1)
"""
IMPORTS = """
import sys
from manako.cli import main
sys.argv = ["manako", *{words}]
try:
    main()
except SystemExit:
    pass
print([m for m in ("torch", "transformers", "starlette", "uvicorn") if m in sys.modules], file=sys.stderr)
"""


def main() -> None:
    from manako.refs import DEMO

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, encoding="utf-8")

    manako = str(Path(sys.executable).with_name("manako"))

    def command(*words: str) -> None:
        with tempfile.TemporaryFile() as sink:
            subprocess.run([manako, *words], check=True, stdout=sink, env=os.environ | {"LANG": "ja_JP.UTF-8"})

    start = calibration()
    times = interleaved(
        {
            "manako watch": lambda: command("watch", "私は", "-n", "15"),
            "manako --help": lambda: command("--help"),
            "torch script": lambda: run("-c", ARTICLE_JOB, str(DEMO)),
        }
    )
    imported = {
        words[0]: run("-c", IMPORTS.format(words=repr(words))).stderr.strip().splitlines()[-1]
        for words in (["watch", "私は", "-n", "15"], ["--help"])
    }
    report(
        "start",
        "watch <= 1.0 s, --help <= 0.25 s",
        start,
        watch_seconds=sorted(times["manako watch"])[3],
        help_seconds=sorted(times["manako --help"])[3],
        torch_script_over_watch=ratio(times["torch script"], times["manako watch"]),
        heavy_imports=imported,
        seconds=times,
    )


if __name__ == "__main__":
    main()
