"""A training that the page saved, as a run folder: `manako resume` takes its next step as the page would have.

Special here: the file holds the text, and the corpus is packed from it here, so that what the model was trained on is
what any run of this text is trained on; a vocabulary that comes out otherwise is refused. No torch is needed to import.
The file is described by schema.json ("run"); docs/training.md says what it is for.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from manako.checks import Misfit, check_properties
from manako.corpus.documents import Document
from manako.corpus.packing import pack
from manako.corpus.settings import CorpusSettings
from manako.errors import LoadError
from manako.families.gpt2 import ModelConfig
from manako.files import is_file, new_folder, write_file
from manako.formats import run_folder
from manako.formats.checkpoint import Tensors
from manako.formats.model_folder import check_tensors
from manako.tokenizer import Tokenizer
from manako.trace.file import Array, array_of, check_digests, read_bytes, read_header, read_parts
from manako.trace.schema import RUN
from manako.training.config import moved_by_muon, training_settings
from manako.training.recipe import SHARES, recipe
from manako.training.run import DEFAULTS, checked_shape, corpus_settings, keep_settings

WEIGHT, MOMENTS, MOMENTUM = "weight", ("exp_avg", "exp_avg_sq"), "momentum"  # what names of tensors begin with
CHOSEN = {"schedule": "linear", "dtype": "float32", "snapshots": 0}  # as the page trains


@dataclass(frozen=True)
class Imported:
    """What a file became."""

    config: ModelConfig
    step: int
    steps: int


def is_page_run(path: Path) -> bool:
    """Whether a file looks like a training of the page: its header names that format."""
    if not is_file(path):  # to open a FIFO would hang
        return False
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
            return start[8:] == b"{" and f'"{RUN.name}":'.encode() in stream.read(2**20)
    except (OSError, ValueError):
        return False


def import_run(file: Path, out: Path) -> Imported:
    """Write the run folder of a training that the page saved, whole or not at all.

    Raises LoadError for what is damaged or does not fit together, ManakoError when the folder is there already.
    """
    parts, metadata = read_parts(read_bytes(file), str(file))
    meta, version = read_header(RUN, metadata, str(file))
    arrays = {name: array_of(name, part, str(file)) for name, part in parts}
    try:
        check_properties(meta, RUN.rules(version), "header")
    except Misfit as error:
        raise LoadError("trace_damaged", file=file, part=error) from None
    check_digests(str(file), meta, arrays)
    meta = RUN.defaults(version) | meta
    told = DEFAULTS | CHOSEN | _optimizer(meta["muon_rate"]) | meta["settings"]
    training, step, steps = training_settings(told), meta["step"], meta["settings"]["steps"]
    text, losses = _text(file, arrays), arrays.get("loss", np.empty(0))
    if step > steps or losses.shape != (step,) or not np.isfinite(losses).all():
        raise LoadError("trace_damaged", file=file, part="step, loss")
    with new_folder(out) as run:
        chosen = CorpusSettings(format="text")
        document = Document(file.name, text, encoding="utf-8")
        how = {"validation_share": chosen.validation, "settings": chosen.on_record(), "sources": [file.name]}
        corpus = pack([document], run / run_folder.CORPUS, chosen.make_vocabulary(), **how)
        tokenizer = Tokenizer(corpus.tokenizer_source)
        if tokenizer.fingerprint != meta["tokenizer_sha256"]:
            raise LoadError("trace_damaged", file=file, part="tokenizer_sha256")
        start = corpus.start_id
        shape: dict[str, Any] = checked_shape(told)
        config = ModelConfig(**shape, vocab_size=corpus.vocab_size, start_id=start, end_ids=(start,))
        weights = _tensors(file, config, arrays, WEIGHT, {})
        hidden = {n for n, a in weights.items() if training.optimizer == "muon" and moved_by_muon(n, a.ndim)}
        state = {f"step/{n}": np.array(step, dtype=np.float32) for n in weights if n not in hidden}
        for kind in (*MOMENTS, MOMENTUM):
            others = {n: a for n, a in weights.items() if (n in hidden) != (kind == MOMENTUM)}
            state |= {f"{kind}/{n}": a for n, a in _tensors(file, config, arrays, kind, others).items()}
        kept = safetensors.numpy.save(state | {SHARES: np.arange(step) / steps})
        batch = training.batch_size
        where = {"step": step, "position": step * batch, "seconds": float(meta["seconds"]), "done": step / steps}
        progress = where | {"best_loss": None, "best_step": None, "ends_after": None, "evaluation_seconds": 0.0}
        made = recipe(progress, training, None, corpus.digest, hashlib.sha256(kept).hexdigest())
        files = {run_folder.STATE: made, run_folder.STATE_ARRAYS: kept}
        run_folder.save(run, step, config, weights, tokenizer, files)
        keep_settings(run, told | corpus_settings(corpus), [str(file)])
        write_file(run / run_folder.METRICS, _log(meta, losses, batch * config.block_size))
    return Imported(config, step, steps)


def _optimizer(muon_rate: float | None) -> dict[str, Any]:
    return {"optimizer": "adamw"} if muon_rate is None else {"optimizer": "muon", "muon_rate": muon_rate}


def _text(file: Path, arrays: Mapping[str, Array]) -> str:
    try:
        text = arrays["text"].astype(np.uint8, casting="no").tobytes().decode("utf-8")
    except (KeyError, TypeError, UnicodeDecodeError):
        raise LoadError("trace_damaged", file=file, part="text") from None
    if not text.strip():
        raise LoadError("corpus_empty_file", file=file)
    return text


def _tensors(file: Path, config: ModelConfig, arrays: Mapping[str, Array], kind: str, others: Tensors) -> Tensors:
    """The tensors of one kind by their names, of the right type, shape and size. others: weights that have none."""
    found = {n.removeprefix(f"{kind}/"): a for n, a in arrays.items() if n.startswith(f"{kind}/")}
    for name, array in found.items():
        if array.dtype != np.float32:
            raise LoadError("tensor_dtype", file=file, tensor=f"{kind}/{name}", dtype=array.dtype)
    check_tensors(str(file), config, {**others, **found})
    return {name: found[name] for name in config.parameters() if name not in others}


def _log(meta: Mapping[str, Any], losses: Array, tokens: int) -> bytes:
    """metrics.jsonl: the losses of all steps, what evaluations found, and sentences that were read besides."""
    bits = {each["step"]: each["bits"] for each in meta["evaluations"]}
    lines = [{"step": n, "tokens": n * tokens, "loss": float(loss)} for n, loss in enumerate(losses, 1)]
    for line in lines:
        if line["step"] in bits:
            found = bits[line["step"]]
            line |= {"bits_per_character": found, "validation_loss": found * math.log(2)}
    for read in meta["sentences"]:
        lines.append({"step": read["step"], "sentence": read["text"], "learning_rate": read["learning_rate"]})
    return "".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda line: line["step"])).encode()
