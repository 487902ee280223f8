"""A LoRA adapter: a folder with two small matrices for some products of a base model, merged into them at load.

Special here: W + scale * B A, summed in float64 and rounded once (the same weights on every machine), never stored;
from then on the model is as any other, and its fingerprint is that of base and adapter together. The adapter names its
base: a folder, or a model in the hub's cache; nothing is fetched. A setting of `adapter_config.json` that nothing here
knows changes the numbers until the opposite is known, so it is refused where it is set. Source: Hu et al. 2021,
arXiv:2106.09685; `peft` for the files.
"""

import hashlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from manako.errors import LoadError
from manako.families import family_of
from manako.files import exists, expanded, is_dir, is_file, read_regular, strict_json
from manako.formats import torch_zip
from manako.formats.checkpoint import Checkpoint
from manako.formats.model_folder import refuse_link_outside
from manako.formats.tensor_files import MAX_HEADER_BYTES, Stored, announced
from manako.messages.numbers import setting

CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
_MAX_CONFIG_BYTES = 2**20
_PREFIX = "base_model.model."
_HALVES = {".lora_A.weight": "A", ".lora_B.weight": "B"}
_KNOWN = {  # settings that are read below, that only training asks for, or that say where the base comes from
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias", "init_lora_weights"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out", "task_type"),
    *("base_model_name_or_path", "revision", "auto_mapping", "inference_mode", "peft_version", "lora_dropout"),
    *("megatron_core", "qalora_group_size", "eva_config"),
}
_BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")  # others change the base as training begins
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_PLAIN = re.compile(r"[\w.]+", re.ASCII)  # a name and no regular expression


def is_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter and no whole model."""
    whole = (path for kind in ("model*.safetensors", "pytorch_model*.bin") for path in folder.glob(kind))
    return exists(folder / CONFIG) and not any(whole)


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter belongs to. Raises LoadError where it is none, or not on this machine."""
    config = _config(folder)
    name, revision = config.get("base_model_name_or_path"), config.get("revision") or "main"
    found = None
    if isinstance(name, str) and name and "\0" not in name:
        if is_dir(Path(name)):
            found = Path(name)
        elif _HUB_NAME.fullmatch(name) and ".." not in name and isinstance(revision, str):
            found = _cached(name, revision)
    if found is None:
        raise LoadError("lora_base", file=folder / CONFIG, base=name)
    if is_adapter(found):
        raise LoadError("lora_on_adapter", file=folder / CONFIG, base=name)
    return found


def merged(folder: Path, base: Checkpoint) -> Checkpoint:
    """The base model with the adapter in its weights, changed in place. Raises LoadError naming what is wrong."""
    config, file = _config(folder), next((folder / n for n in WEIGHTS if exists(folder / n)), folder / WEIGHTS[0])
    refuse_link_outside(file)
    read = torch_zip.announced if file.suffix == ".bin" else announced
    _, stored = read(file, sum(tensor.nbytes for tensor in base.tensors.values()) + MAX_HEADER_BYTES)
    pairs = _pairs(file, stored, config, base)
    family, listing, scales = family_of(base.config.model_type), [base.fingerprint], set[tuple[int, float]]()
    for name, halves in sorted(pairs.items()):
        if halves.keys() != {"A", "B"}:
            raise LoadError("tensor_missing", file=file, tensor=f"{name}.lora_{'B' if 'A' in halves else 'A'}.weight")
        weight = base.tensors[name.removeprefix(family.prefix) + ".weight"]
        turned = family.gguf.transposed(name.removeprefix(family.prefix) + ".weight")  # it lies there as [in, out]
        rank, scale = _strength(folder, config, name)
        outputs, inputs = weight.shape[::-1] if turned else weight.shape
        for half, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
            if halves[half].shape != shape:
                found = list(halves[half].shape)
                raise LoadError("tensor_shape", file=file, tensor=halves[half].name, found=found, expected=list(shape))
        (a, a_digest), (b, b_digest) = halves["A"].widened(), halves["B"].widened()
        with np.errstate(over="ignore", invalid="ignore"):  # said below, by name
            change = b.astype(np.float64) @ a * scale  # [out, in]
            weight += change.T if turned else change
        if not np.isfinite(weight).all():
            raise LoadError("tensor_not_finite", file=file, tensor=name, count=1, index=())
        listing.append(f"{name} {scale!r} {a_digest} {b_digest}")
        scales.add((rank, scale))
    told: dict[str, object] = {"adapter": folder.absolute().name, "base": config["base_model_name_or_path"]}
    told |= {"count": len(pairs), "ranks": ", ".join(f"{rank} × {setting(scale)}" for rank, scale in sorted(scales))}
    return replace(
        base,
        fingerprint=hashlib.sha256("\n".join(listing).encode()).hexdigest(),
        notices=(*base.notices, ("notice.lora", told)),
    )


def _config(folder: Path) -> dict[str, Any]:
    """What adapter_config.json says, if it is of the kind that is merged here."""
    refuse_link_outside(folder / CONFIG)
    config = strict_json(read_regular(folder / CONFIG, _MAX_CONFIG_BYTES), str(folder / CONFIG))
    fits = {
        "peft_type": config.get("peft_type") == "LORA",
        "bias": config.get("bias", "none") == "none",
        "init_lora_weights": config.get("init_lora_weights") in _BEGINNINGS,
        **{name: not config[name] for name in sorted(config.keys() - _KNOWN)},
    }
    for name in (name for name, good in fits.items() if not good):
        raise LoadError("lora_unsupported", file=folder / CONFIG, name=name, value=config.get(name))
    return config


def _pairs(
    file: Path, stored: list[Stored], config: Mapping[str, Any], base: Checkpoint
) -> dict[str, dict[str, Stored]]:
    """Product -> its two matrices. Raises LoadError for a tensor that belongs to no product of the base."""
    prefix, found = family_of(base.config.model_type).prefix, dict[str, dict[str, Stored]]()
    targets = config.get("target_modules")
    for tensor in stored:
        end = next((end for end in _HALVES if tensor.name.endswith(end)), "")
        name = tensor.name.removeprefix(_PREFIX).removesuffix(end)
        weight = name.removeprefix(prefix) + ".weight"
        there = weight in base.tensors and base.tensors[weight].ndim == 2 and "embed" not in name and "wte" not in name
        aimed = not isinstance(targets, list) or any(name == t or name.endswith(f".{t}") for t in targets)
        if not end or not tensor.name.startswith(_PREFIX) or not there or not aimed or not tensor.is_float:
            raise LoadError("lora_tensor", file=file, tensor=tensor.name)
        found.setdefault(name, {})[_HALVES[end]] = tensor
    if not found:
        raise LoadError("tensor_missing", file=file, tensor="lora_A.weight")
    return found


def _strength(folder: Path, config: Mapping[str, Any], name: str) -> tuple[int, float]:
    """(rank, what the product of the two matrices is multiplied by) for one product."""
    values: dict[str, Any] = {}
    for key, pattern in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        own = config.get(pattern) or {}
        if not isinstance(own, dict) or not all(map(_PLAIN.fullmatch, own)):
            raise LoadError("lora_unsupported", file=folder / CONFIG, name=pattern, value=own)
        named = next((own[n] for n in own if name == n or name.endswith(f".{n}")), config.get(key, 8))
        if type(named) not in (int, float) or not 0 < named < 1e6 or (key == "r" and type(named) is not int):
            raise LoadError("lora_unsupported", file=folder / CONFIG, name=key, value=named)
        values[key] = named
    root = config.get("use_rslora", False)
    if type(root) is not bool:
        raise LoadError("lora_unsupported", file=folder / CONFIG, name="use_rslora", value=root)
    rank = values["r"]
    return rank, values["lora_alpha"] / (math.sqrt(rank) if root else rank)


def _cached(name: str, revision: str) -> Path | None:
    """The folder of a hub model in the hub's cache, as `huggingface_hub` lays it out; None where it is not there."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    place = expanded(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{name.replace('/', '--')}"
    if not _HUB_NAME.fullmatch(revision) or ".." in revision:
        return None
    named = place / "refs" / revision
    commit = read_regular(named, 100).decode("ascii", "ignore").strip() if is_file(named) else revision
    found = place / "snapshots" / commit
    return found if found.parent.name == "snapshots" and is_dir(found) else None
