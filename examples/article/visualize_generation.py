#!/usr/bin/env python3
"""The article's command, with the article's flags, on manako.

    python visualize_generation.py --load model_large.pt --prompt '好きな文章' --max_tokens 15 \\
        --temperature 0.8 --data data.txt

Differences, all of them corrections: the arrow stands on the token that was drawn, the probability shown is the one it
was drawn with, a character that the model does not know is refused instead of becoming a newline, the checkpoint is
read without running anything in it, and its shape comes from the file (--n_layer and the like are accepted and not
needed, as is --data).
"""

import argparse
import sys
import tempfile
from pathlib import Path

from manako.cli.output import Screen
from manako.errors import ManakoError
from manako.formats.model_folder import read_checkpoint
from manako.formats.pt_file import import_pt
from manako.model import Model, load
from manako.sampling import Sampling
from manako.views.terminal.steps import final_lines, header_lines, step_lines

ARTICLE_MODEL = "model_large.pt"  # the name in the article; not part of this project


def main() -> int:
    arguments = parse()
    try:
        watch(arguments)
    except ManakoError as error:
        print(f"visualize_generation.py: {error.text('ja')}", file=sys.stderr)
        return error.exit_code
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="GPT-2 mini の生成過程の可視化（manako 版）", allow_abbrev=False)
    parser.add_argument("--load", required=True, help="チェックポイント（.pt）、モデルのフォルダー、または demo")
    parser.add_argument("--prompt", default="吾輩は", help="開始プロンプト")
    parser.add_argument("--max_tokens", type=int, default=30, help="生成トークン数")
    parser.add_argument("--temperature", type=float, default=0.8, help="サンプリング温度")
    parser.add_argument("--top_k", type=int, default=10, help="抽選に残す数と、表示する数")
    parser.add_argument("--seed", type=int, default=None, help="くじの種（記事にはない追加）")
    for name in ("--data", "--n_layer", "--n_head", "--n_embd", "--block_size"):
        parser.add_argument(name, help="記事との互換のため。チェックポイントにすべて入っているので使いません")
    return parser.parse_args()


def watch(arguments: argparse.Namespace) -> None:
    sampling = Sampling(temperature=arguments.temperature, top_k=arguments.top_k)
    model = open_model(arguments.load)
    settings = {"max_new_tokens": arguments.max_tokens, "seed": arguments.seed}
    generation = model.generate(arguments.prompt, sampling=sampling, **settings)
    screen = Screen(top=arguments.top_k, plain=False, color="auto", lang="ja")
    screen.lines(header_lines(generation.record().header, screen.look))
    for step in generation:
        screen.lines(step_lines(step, screen.look))
    screen.lines(final_lines(generation.trace(), screen.look))


def open_model(name: str) -> Model:
    """A checkpoint of the article, or whatever `manako.load` opens."""
    path = Path(name)
    if name == ARTICLE_MODEL and not path.exists():
        print(f"{ARTICLE_MODEL} がここにないので、内蔵モデル demo を使います", file=sys.stderr)
        return load("demo")
    if path.suffix != ".pt":
        return load(name)
    with tempfile.TemporaryDirectory() as folder:
        import_pt(path, Path(folder) / path.stem)
        return Model(name, read_checkpoint(Path(folder) / path.stem))


if __name__ == "__main__":
    sys.exit(main())
