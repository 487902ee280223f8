"""A file of `torch.save` that is one whole checkpoint: whose it is, and the way from it to a model folder.

Special here: one door for all of them, since a `.pt` file does not say who wrote it; what it holds does. Kinds that are
known and cannot be read are named, with what to do.
"""

from pathlib import Path
from typing import Any

from manako.errors import LoadError
from manako.files import writable_folder
from manako.formats.imported import Imported
from manako.formats.legacy_pt import read_legacy
from manako.formats.model_folder import write_checkpoint
from manako.formats.nanogpt import COMPILED, is_nanogpt, read_nanogpt
from manako.formats.pickle_reader import MAX_BYTES, TensorRecord, read_pickle
from manako.formats.torch_zip import opened
from manako.messages import Phrase
from manako.tokenizer import Tokenizer

_OTHERS = {  # end of a tensor's name in the first layer -> whose checkpoint it is, and the catalog key of what to do
    "0.attn.c_q.weight": ("nanochat", "pt.own_shape"),
    "0.attn.qkv.weight": ("litgpt", "pt.litgpt"),
    "0.attn.attn.weight": ("litgpt", "pt.litgpt"),
    "0.attn.c_attn.weight": ("minGPT", "pt.no_shape"),
    "0.attention.wq.weight": ("Llama", "pt.llama"),
    "0.self_attn.q_proj.weight": ("transformers", "pt.folder"),
}


def import_pt(path: Path, folder: Path, tokenizer: Tokenizer | None = None) -> Imported:
    """Turn a checkpoint into a new model folder, whole or not at all.

    Raises ManakoError when the folder is there already (found before the file is opened), LoadError as `read_pt`.
    """
    writable_folder(folder)
    checkpoint = read_pt(path, tokenizer)
    write_checkpoint(folder, checkpoint.config, checkpoint.tensors, checkpoint.tokenizer)
    return checkpoint


def read_pt(path: Path, tokenizer: Tokenizer | None = None) -> Imported:
    """Read and check a checkpoint of the article or of nanoGPT; nothing in it is run.

    tokenizer: the vocabulary of a checkpoint that has none. No other file is opened but nanoGPT's `meta.pkl`.
    Raises LoadError naming the member, global, tensor or value that is missing, damaged, contradictory or unknown.
    """
    with opened(path) as archive:
        saved = read_pickle(archive.read("data.pkl", MAX_BYTES), path)
        if is_nanogpt(saved):
            return read_nanogpt(archive, saved, tokenizer)
        _refuse_others(path, saved)
        return read_legacy(archive, saved)


def _refuse_others(path: Path, saved: Any) -> None:
    """Raise LoadError for what other programs save: a table of tensors, alone or under "model" without the article's.

    The article's own names of tensors are none of these.
    """
    table = saved.get("model", saved) if isinstance(saved, dict) else None
    if not isinstance(table, dict) or not any(isinstance(record, TensorRecord) for record in table.values()):
        return
    names = [str(name).removeprefix(COMPILED) for name in table]
    for end, (program, what) in _OTHERS.items():
        if any(name.endswith(end) and "blocks." not in name for name in names):
            raise LoadError("pt_other", file=path, program=program, what=Phrase(what))
