"""`Model`, what a user holds, and `load`, the one way in."""

import numbers
import os
import platform
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manako import __version__, runs
from manako.checkpoint import Checkpoint, read_checkpoint
from manako.engines.generation import Generation, Recorder
from manako.engines.numpy_gpt2 import NumpyGPT2
from manako.engines.scoring import Evaluation, evaluate, scored_rows
from manako.errors import CapabilityError, LoadError, UsageError
from manako.sampling import Sampling, check_seed, distribution
from manako.trace import Header, ModelInfo, Trace, Vocabulary

DEMO = Path(__file__).parent.parent / "models" / "demo"
KINDS_TO_COME = ("hf:", "gguf:", "openai:")


def load(ref: str | Path) -> "Model":
    """Open a model: "demo", a model folder, a run (its best checkpoint), or run:NAME@STEP. Touches no network.

    NAME is the folder of a run, or its name below runs/; STEP is a number, "last" or "best".
    Raises LoadError naming the folder, file or tensor, and what to do.
    """
    text = str(ref)
    if not text:
        raise LoadError("ref_unknown", ref='""')
    if text == "demo":
        return Model(text, read_checkpoint(DEMO))
    if text.startswith(KINDS_TO_COME):
        raise CapabilityError("ref_not_yet", ref=text)
    if text.startswith("run:"):
        return Model(text, read_checkpoint(runs.located(text)))
    folder = Path(text)
    try:
        found = folder.exists()
    except OSError as error:  # a name that is too long, a parent folder without permission
        raise LoadError("file_unreadable", file=text, reason=error.strerror or error) from None
    if not found:
        looks_like_hub = text.count("/") == 1 and not text.startswith((".", "/", "~"))
        raise LoadError("ref_maybe_hub" if looks_like_hub else "ref_unknown", ref=text)
    if folder.is_file():
        raise LoadError("ref_is_pickle" if folder.suffix in (".pt", ".pth", ".bin") else "not_a_folder", file=text)
    return Model(text, read_checkpoint(runs.checkpoint(folder) if runs.is_run(folder) else folder))


class Model:
    """A model and its tokenizer, ready to generate and to score."""

    def __init__(self, ref: str, checkpoint: Checkpoint) -> None:
        self.ref = ref
        self.config = checkpoint.config
        self.tokenizer = checkpoint.tokenizer
        self.notices = checkpoint.notices
        """(catalog key, values) of what a user should know about the file."""
        self.engine = NumpyGPT2(checkpoint.config, checkpoint.tensors)
        self.info = _model_info(ref, checkpoint, self.engine)
        self._vocabulary = Vocabulary(self.tokenizer.token_bytes, self.config.vocab_size, self.tokenizer.special_ids)

    def __repr__(self) -> str:
        c = self.config
        return f"<Model {self.ref!r} {c.n_layer} layers, {c.n_head} heads, width {c.n_embd}, context {c.block_size}>"

    def trace(self, prompt: str, **settings: Any) -> Trace:
        """Generate, and return the whole record. Settings as for `generate`."""
        generation = self.generate(prompt, **settings)
        while generation.advance():
            pass
        return generation.trace()

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 15,
        temperature: float = 0.8,
        seed: int | None = None,
        stop: Sequence[str] = (),
        capture: Sequence[str] = (),
        sampling: Sampling | None = None,
        **stages: Any,
    ) -> Generation:
        """Start to generate: iterate over the result for one step after another.

        prompt: any text; the empty one starts a document where the vocabulary has a token for that.
        max_new_tokens: how many tokens to draw at most. temperature and `stages` (top_k, top_p, min_p, typical_p,
        repetition_penalty, presence_penalty, frequency_penalty, order) make a `Sampling`; `sampling` gives one whole.
        seed: 0 to 2^64 - 1; a fresh one when left out. stop: texts that end the run once generated.
        capture: what else to record; this engine has nothing yet, so only () is accepted.
        Raises UsageError before anything is computed.
        """
        if capture:
            raise CapabilityError("capture", got=", ".join(capture), can="logits")
        if sampling is None:
            sampling = Sampling(temperature=temperature, **known_stages(stages))
        elif stages:
            raise UsageError("sampling_twice", got=", ".join(stages))
        header = Header(
            kind="generation",
            model=self.info,
            prompt=prompt,
            sampling=sampling,
            seed=secrets.randbelow(2**32) if seed is None else check_seed(seed),
            stop=check_stop(stop),
            end="interrupted",
            max_new_tokens=check_count(max_new_tokens),
            window="exact",
            special_ids=tuple(sorted(self.tokenizer.special_ids)),
            self_checks=(),
        )
        ids = self.tokenizer.encode(prompt) or self._start()
        return Generation(_Session(self.engine), header, ids, self._vocabulary, self.config.start_id)

    def score(self, text: str) -> Trace:
        """The same record for a given text: each token's probability, rank and surprisal, nothing drawn.

        Raises UsageError for a text with no token to score.
        """
        ids, _ = self._scored_ids(text)
        recorder = Recorder.start(self.config.vocab_size, len(Sampling().active), len(ids) - 1)
        for part in scored_rows(self, ids, self.config.block_size):
            for target, row in zip(part.targets.tolist(), part.rows, strict=True):
                recorder.add(distribution(row, Sampling()), target, float("nan"), part.window_start)
        header = Header(
            kind="score",
            model=self.info,
            prompt="" if ids[0] == self.config.start_id else self.tokenizer.decode(ids[:1]).decode("utf-8", "ignore"),
            sampling=Sampling(),
            seed=None,
            stop=(),
            end="text",
            max_new_tokens=len(ids) - 1,
            window="exact",
            special_ids=tuple(sorted(self.tokenizer.special_ids)),
            self_checks=(),
        )
        return Trace(header, recorder.finish(ids[:1]), self._vocabulary)

    def evaluate(self, text: str) -> Evaluation:
        """Loss, perplexity and bits of a text, every character scored once."""
        ids, skipped = self._scored_ids(text)
        return evaluate(self, ids, self.config.block_size, text, skipped)

    def rows(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """[T, V]: the row of logits after each of `ids`, with no more than the context of them."""
        return self.engine.forward(ids, self.engine.new_cache(), last_only=False).astype(np.float32, copy=False)

    def _start(self) -> list[int]:
        if self.config.start_id is None:
            raise UsageError("prompt_empty")
        return [self.config.start_id]

    def _scored_ids(self, text: str) -> tuple[list[int], str]:
        """(ids with their context token in front, the part of the text which that token is)."""
        ids = self.tokenizer.encode(text)
        if self.config.start_id is not None and ids:
            return [self.config.start_id, *ids], ""
        if len(ids) < 2:
            raise UsageError("score_too_short")
        first = self.tokenizer.decode(ids[:1]).decode("utf-8", "ignore")
        return ids, first if text.startswith(first) else ""  # some tokenizers put a space of their own in front


class _Session:
    """One text in the NumPy engine: a cache while the text fits the context, the exact window after that."""

    def __init__(self, engine: NumpyGPT2) -> None:
        self._engine, self._cache = engine, engine.new_cache()

    def next_logits(self, ids: Sequence[int]) -> tuple[npt.NDArray[np.float32], int]:
        context = self._engine.config.block_size
        if len(ids) > context:
            return self.uncached_logits(ids), len(ids) - context
        return self._last(ids[self._cache.length :]), 0

    def uncached_logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        self._cache.length = 0  # the next call in the context would start over too
        return self._last(ids[-self._engine.config.block_size :])

    def first_bad_layer(self, ids: Sequence[int]) -> int:
        return self._engine.first_bad_layer(ids[-self._engine.config.block_size :])

    def _last(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return self._engine.forward(ids, self._cache)[0].astype(np.float32, copy=False)


def check_count(max_new_tokens: object) -> int:
    """A number of tokens to draw: a whole number of at least 0. Raises UsageError."""
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, numbers.Integral) or max_new_tokens < 0:
        raise UsageError("max_new_tokens", got=max_new_tokens)
    return int(max_new_tokens)


def check_stop(stop: Sequence[str]) -> tuple[str, ...]:
    """Texts to stop at, none of them empty, all of them Unicode. Raises UsageError."""
    if isinstance(stop, str) or not isinstance(stop, Iterable):
        raise UsageError("stop", got=repr(stop))
    texts = tuple(stop)
    for text in texts:
        if not isinstance(text, str) or not text or any("\ud800" <= ch <= "\udfff" for ch in text):
            raise UsageError("stop", got=ascii(text))
    return texts


def known_stages(stages: dict[str, Any]) -> dict[str, Any]:
    """The settings, if Sampling knows all of them; UsageError naming the others."""
    return {name: value for name, value in Sampling.from_dict(stages).to_dict().items() if name in stages}


def _model_info(ref: str, checkpoint: Checkpoint, engine: NumpyGPT2) -> ModelInfo:
    shape = asdict(checkpoint.config)
    model_type = "manako_gpt2_ablated" if checkpoint.config.switches else "gpt2"
    return ModelInfo(
        ref=ref,
        model_type=model_type,
        config={("n_positions" if k == "block_size" else k): v for k, v in shape.items()},
        switches=checkpoint.config.switches,
        weights_sha256=checkpoint.fingerprint,
        tokenizer_sha256=checkpoint.tokenizer.fingerprint,
        engine=engine.name,
        device=engine.device,
        dtype=str(engine.dtype),
        stored_dtype=checkpoint.stored_dtype,
        threads=_blas_threads(),
        versions={"manako": __version__, "numpy": np.__version__, "python": platform.python_version()},
    )


def _blas_threads() -> int | None:
    """How many threads OpenBLAS takes, by its own rule: its variable, OpenMP's, else the cores it may use."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdigit():
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
