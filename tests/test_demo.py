"""The embedded model: it opens whole, says what its card says, and is a plain GPT-2 to other programs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import manako
from manako.model import export
from manako.refs import DEMO

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def demo() -> manako.Model:
    return manako.load("demo")


def test_it_opens_with_its_checksums(demo: manako.Model) -> None:
    assert demo.notices == () and demo.info.dtype == "float32"
    assert demo.info.stored_dtype == "float32/int8"


def test_the_shape_is_that_of_the_card(demo: manako.Model) -> None:
    c, card = demo.config, (DEMO / "README.md").read_text(encoding="utf-8")
    assert f"{c.n_layer} layers, {c.n_head} heads, width {c.n_embd}, context {c.block_size}" in card
    assert f"{sum(t.size for t in demo.engine.weights.values()):,} parameters" in card
    assert f"{c.vocab_size:,} tokens" in card


@pytest.mark.slow
def test_the_samples_of_the_card_come_out_again(demo: manako.Model) -> None:
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    for prompt in ("私は", "吾輩は猫"):
        for t in (0.3, 0.8, 1.2):
            text = demo.trace(prompt, max_new_tokens=60, temperature=t, seed=0).text
            assert f"| {t} | {text.replace(chr(10), '⏎')} |" in card


@pytest.mark.slow
def test_a_run_of_the_demo_verifies(demo: manako.Model, tmp_path: Path) -> None:
    trace = demo.trace("私は猫だ。" * 100, max_new_tokens=30, seed=0)  # past its context
    trace.save(tmp_path / "run.manako")
    assert all(check.ok for check in trace.header.self_checks) and trace.columns.window_start[-1] > 0
    assert manako.verify(manako.open(tmp_path / "run.manako")).rederived == len(trace)


@pytest.mark.slow
def test_other_programs_open_its_export_as_a_gpt2(demo: manako.Model, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    export("demo", tmp_path / "demo")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "demo", dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "demo")
    ids = demo.tokenizer.encode("吾輩は猫である。名前はまだ無い。😀")
    assert tokenizer("吾輩は猫である。名前はまだ無い。😀")["input_ids"] == ids
    with torch.no_grad():
        theirs = model(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(demo.rows(ids) - theirs).max() <= 1e-4


@pytest.mark.parametrize(
    "command",
    [
        "--load model_large.pt --prompt 好きな文章 --max_tokens 15 --temperature 0.8 --data data.txt",
        "--load model_large.pt --prompt 私は --temperature 0.3 --data data.txt",
        "--load model_large.pt --prompt 私は --temperature 1.2 --data data.txt",
    ],
)
@pytest.mark.slow
def test_the_commands_of_the_article_run_as_they_stand(command: str) -> None:
    words = [sys.executable, "visualize_generation.py", *command.split()]
    found = subprocess.run(words, cwd=ROOT / "examples" / "article", capture_output=True, text=True, encoding="utf-8")
    assert found.returncode == 0 and "demo" in found.stderr
    assert (
        "--- Step 1 ---" in found.stdout
        and "現在のテキスト: 「" in found.stdout
        and "選択されたトークン: " in found.stdout
    )


@pytest.mark.slow
def test_the_script_of_the_article_opens_a_checkpoint_of_the_article() -> None:
    checkpoint = ROOT / "tests" / "fixtures" / "legacy_gpt2mini_char.pt"
    if not checkpoint.exists():
        pytest.skip("the sdist leaves out this file of 6 MB")
    words = ["visualize_generation.py", "--load", str(checkpoint), "--prompt", "吾輩", "--max_tokens", "2"]
    folder = ROOT / "examples" / "article"
    found = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert found.returncode == 0 and found.stdout.count("--- Step") == 2
    unknown = subprocess.run(
        [sys.executable, *words[:4], "吾輩😀", *words[5:]], cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )
    assert unknown.returncode == 2 and "U+1F600" in unknown.stderr and unknown.stdout == ""


def test_config_is_json(demo: manako.Model) -> None:
    assert json.loads((DEMO / "config.json").read_text())["n_positions"] == demo.config.block_size
