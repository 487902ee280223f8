"""A trace as one file: safetensors, which NumPy reads without torch, with one JSON header. See docs/trace-format.md.

Special here: digests find what broke by accident; a file's author can make any digest fit, so every type, shape and
range is checked as well before a number is believed. The same record gives the same bytes.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from manako.errors import LoadError, ManakoError
from manako.files import read_regular, strict_json, write_file
from manako.sampling import Sampling, check_seed
from manako.trace.captures import CAPTURE_COLUMNS, CAPTURES, Attention
from manako.trace.record import (
    OLDER_SCHEMAS,
    PART,
    PART_COLUMNS,
    SCHEMA,
    Columns,
    Header,
    Ids,
    ModelInfo,
    SelfCheck,
    Trace,
    Vocabulary,
)

_METADATA_KEY = "manako.trace"
TREE_KEY = "manako.tree"  # of a file of several records: see tree_file.py
_ENDS = {"generation": ("length", "stop", "document_end", "interrupted"), "score": ("text",)}
Kind = TypeVar("Kind")
Parts = tuple[list[tuple[str, dict[str, Any]]], dict[str, str]]


def save(trace: Trace, path: Path, force: bool = False) -> None:
    """Write a record to one file, whole or not at all.

    force: whether a file that is there is replaced. Raises UsageError for one that is not to be, ManakoError for the
    rest.
    """
    write_file(path, to_bytes(trace), replace=force)


def open(path: str | Path) -> Trace:  # noqa: A001  `manako.open` is the public name
    """Read a record and check it whole.

    Raises LoadError naming the column or field that is damaged, or saying that a newer version made the file.
    """
    return trace_of(read_parts(read_bytes(Path(path)), str(path)), str(path))


def read_bytes(path: Path) -> bytes:
    """The content of a file, unless its first bytes say that it cannot be safetensors. Raises LoadError."""
    _check_start(path)
    return read_regular(path)


def read_parts(data: bytes, file: str) -> Parts:
    """The arrays and the metadata of a file of safetensors. Raises LoadError."""
    try:
        parts = safetensors.deserialize(data)
        outer = strict_json(data[8 : 8 + int.from_bytes(data[:8], "little")], file)
    except safetensors.SafetensorError as error:
        raise LoadError("trace_damaged", file=file, part=error) from None
    return parts, outer.get("__metadata__") or {}


def trace_of(read: Parts, file: str) -> Trace:
    """The record in the parts of a file, checked whole. Raises LoadError as `open` does."""
    parts, metadata = read
    text = metadata.get(_METADATA_KEY)
    if text is None and TREE_KEY in metadata:
        raise LoadError("tree_not_trace", file=file, count=len(parts))
    if text is None:
        raise LoadError("not_a_trace", file=file)
    meta = strict_json(text, file)
    if meta.get("schema") not in (SCHEMA, *OLDER_SCHEMAS):
        if str(meta.get("schema")).startswith(SCHEMA.split("/")[0] + "/"):
            raise LoadError("trace_newer", file=file, found=meta["schema"], known=SCHEMA)
        raise LoadError("trace_damaged", file=file, part="schema")
    arrays: dict[str, npt.NDArray[Any]] = {}
    names = {"F64": "float64", "F32": "float32", "I32": "int32", "I8": "int8", "U8": "uint8"}
    for name, part in parts:
        try:
            arrays[name] = np.frombuffer(part["data"], dtype=names[part["dtype"]]).reshape(part["shape"])
        except (KeyError, ValueError):  # a dtype that no column has; a shape that NumPy cannot hold
            raise LoadError("trace_damaged", file=file, part=name) from None
    _check_digests(file, meta, arrays)
    try:
        return _from_parts(meta, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, ManakoError) as error:
        part = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise LoadError("trace_damaged", file=file, part=part) from None


def _check_start(path: Path) -> None:
    """Refuse what cannot be safetensors by its first bytes, before a file of any size is read into memory."""
    try:
        if not path.is_file():
            return  # read_regular has the right words
        with path.open("rb") as stream:
            start, size = stream.read(9), os.fstat(stream.fileno()).st_size
    except (OSError, ValueError):
        return
    if size and start[8:] not in (b"", b"{"):
        raise LoadError("not_a_trace", file=path)
    if len(start) < 9 or int.from_bytes(start[:8], "little") > size - 8:
        raise LoadError("trace_damaged", file=path, part="the first 9 bytes")


def to_bytes(trace: Trace) -> bytes:
    """The file's content; the same record gives the same bytes."""
    arrays = {name: np.ascontiguousarray(a) for name, a in _arrays(trace).items()}
    checks = [asdict(c) | ({} if math.isfinite(c.error) else {"error": None}) for c in trace.header.self_checks]
    meta: dict[str, Any] = trace.header.to_dict() | {
        "self_checks": checks,  # an error that is not finite is null, for which JSON has no number; read as infinite
        "schema": SCHEMA,
        "vocab_size": trace.vocabulary.size,
        "columns_sha256": {name: _column_digest(name, a) for name, a in sorted(arrays.items())},
        "sha256": "",
    }
    meta["sha256"] = header_digest(meta)
    text = json.dumps(meta, ensure_ascii=False, sort_keys=True)
    return safetensors.numpy.save(arrays, metadata={_METADATA_KEY: text})


def _arrays(trace: Trace) -> dict[str, npt.NDArray[Any]]:
    columns = trace.columns
    plain = ("prompt_ids", "token_id", "u", "window_start", "p", "p_model", "rank")
    arrays: dict[str, npt.NDArray[Any]] = {name: getattr(columns, name) for name in plain}
    if columns.logits is not None:
        arrays["logits"] = columns.logits
        ids = np.arange(trace.vocabulary.size, dtype=np.int32)
    else:
        assert columns.part is not None  # a record has either whole rows or parts
        arrays |= columns.part
        arrays["vocab_id"] = ids = _ids_on_record(columns)
    spelled = [trace.vocabulary[int(i)] for i in ids]
    arrays |= columns.captured
    arrays["vocab_bytes"] = np.frombuffer(b"".join(spelled), dtype=np.uint8)
    arrays["vocab_end"] = np.cumsum([len(b) for b in spelled], dtype=np.int32)
    return arrays


def _from_parts(meta: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Trace:
    size = _typed(meta, "vocab_size", int)
    if not 1 <= size < 2**31:
        raise ValueError("vocab_size")
    header = _header_from_dict(meta, size)
    partial, steps = "logits" not in arrays, len(arrays["token_id"])
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "token_id": ("int32", (steps,)),
        "u": ("float64", (steps,)),
        "window_start": ("int32", (steps,)),
        "p": ("float64", (steps,)),
        "p_model": ("float64", (steps,)),
        "rank": ("int32", (steps,)),
        "prompt_ids": ("int32", (len(arrays["prompt_ids"]),)),
        "vocab_bytes": ("uint8", (len(arrays["vocab_bytes"]),)),
        "vocab_end": ("int32", (len(arrays["vocab_id"]) if partial else size,)),
    }
    part: dict[str, npt.NDArray[Any]] | None = None
    if partial:
        width, stages = arrays["part_id"].shape[1], len(header.sampling.active)
        for name, (dtype, dimensions) in PART_COLUMNS.items():
            columns = stages if name.startswith("stage_") else width
            shapes[name] = (dtype, (steps, columns)[:dimensions])
        shapes["vocab_id"] = ("int32", (len(arrays["vocab_id"]),))
        part = {name: arrays[name] for name in PART_COLUMNS}
    else:
        shapes["logits"] = ("float32", (steps, size))
    shapes |= _capture_shapes(header, arrays, steps)
    if unknown := sorted(arrays.keys() - shapes):
        raise ValueError(f"{', '.join(unknown)}: no such column")
    for name, (dtype, shape) in shapes.items():
        if arrays[name].dtype != dtype or arrays[name].shape != shape:
            raise ValueError(f"{name}: {arrays[name].dtype}{list(arrays[name].shape)}, not {dtype}{list(shape)}")
    named = {name: arrays[name] for name in shapes if name in Columns.__dataclass_fields__}
    captured = {name: arrays[name] for capture in header.capture for name in CAPTURE_COLUMNS[capture]}
    columns = Columns(**named, part=part, captured=captured)
    _check_columns(header, columns, size)
    vocabulary = Vocabulary(_vocabulary_table(columns, arrays), size, frozenset(header.special_ids))
    return Trace(header, columns, vocabulary)


def _capture_shapes(
    header: Header, arrays: Mapping[str, npt.NDArray[Any]], steps: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of each captured column; layers, candidates and width are taken from one of them."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for capture in header.capture:
        columns = CAPTURE_COLUMNS[capture]
        free = {name: arrays[name].shape for name in columns}
        if any(len(free[name]) != dimensions for name, (_, dimensions) in columns.items()):
            raise ValueError(f"{capture}: a column of another dimension")
        if capture == "attention":
            shapes = {"attention": free["attention"], "attention_shape": (3,)}
        elif capture == "lens":
            layers, top = free["lens_id"][1:]
            tracked = (steps, layers, layers + 1)
            shapes = {name: (steps, layers, top) for name in ("lens_id", "lens_logit")}
            shapes |= {"lens_logsumexp": (steps, layers), "lens_tracked_id": (steps, layers + 1)}
            shapes |= {"lens_tracked_logit": tracked, "lens_tracked_rank": tracked}
        elif capture == "contributions":
            tokens = free["contribution_id"][1]
            shapes = {"contribution_id": (steps, tokens), "contribution": (steps, len(header.parts), tokens)}
        else:
            shapes = {"residual": (steps, *free["residual"][1:])}
        for name, shape in shapes.items():
            if 0 in shape[1:]:
                raise ValueError(f"{name}: nothing in it")
            found[name] = (columns[name][0], shape)
    return found


def _check_columns(header: Header, columns: Columns, size: int) -> None:
    """Raise ValueError naming the first column whose numbers cannot be: a file's author can make any digest fit."""
    steps, share = len(columns.token_id), 1 + 1e-9  # a sum of probabilities may round above 1
    position = len(columns.prompt_ids) + np.arange(steps)
    ranges: dict[str, tuple[npt.NDArray[Any], Any, Any]] = {  # inclusive; NaN lies in none
        "token_id": (columns.token_id, 0, size - 1),
        "prompt_ids": (columns.prompt_ids, 0, size - 1),
        "rank": (columns.rank, 1, size),
        "window_start": (columns.window_start, 0, position),
        "p": (columns.p, 0, share),
        "p_model": (columns.p_model, 0, share),
    }
    if header.kind == "generation":
        ranges["u"] = (columns.u, 0, np.nextafter(1, 0))
    elif not np.isnan(columns.u).all():
        raise ValueError("u: a score draws nothing")
    largest, lowest = np.finfo(np.float32).max, -np.inf
    if columns.logits is not None:
        ranges["logits"] = (columns.logits, lowest, largest)
        if steps and not (columns.logits.max(axis=1) > -np.inf).all():
            raise ValueError("logits: a row with nothing in it")
    if (part := columns.part) is not None:
        for name in ("part_logit", "rest_logit_max", "chosen_logit"):
            ranges[name] = (part[name], lowest, largest)
        for name in ("part_p", "part_p_model", "rest_p", "rest_p_model", "stage_removed_mass"):
            ranges[name] = (part[name], 0, share)
        ranges["part_id"] = (part["part_id"], 0, size - 1)
        ranges["part_cut_by"] = (part["part_cut_by"], -1, len(header.sampling.active) - 1)
        ranges["logsumexp"] = (part["logsumexp"], -np.finfo(np.float64).max, np.finfo(np.float64).max)
        ranges["entropy"] = (part["entropy"], 0, np.log2(size) + 1e-9)
        ranges["stage_kept"] = (part["stage_kept"], 1, size)
        if not 1 <= part["part_id"].shape[1] <= min(size, PART):
            raise ValueError("part_id: more candidates than can be")
        if steps and not (np.diff(np.sort(part["part_id"], axis=1), axis=1) > 0).all():
            raise ValueError("part_id: an id occurs twice")
    for capture in header.capture:
        for name, (dtype, _) in CAPTURE_COLUMNS[capture].items():  # finite; ids and ranks within the vocabulary
            values, largest = columns.captured[name], np.finfo(np.float64 if dtype == "float64" else np.float32).max
            low, high = {"id": (0, size - 1), "rank": (1, size), "attention": (0, 1 + 1e-5)}.get(
                name.rpartition("_")[2], (-largest, largest)
            )
            ranges[name] = (values, low, high)
    if "lens" in header.capture:  # no logit is larger than the logarithm of the sum that it is part of
        for name in ("lens_logit", "lens_tracked_logit"):
            ranges[name] = (*ranges[name][:2], columns.captured["lens_logsumexp"][:, :, None] + 1e-9)
    for name, (values, low, high) in ranges.items():
        if not ((values >= low) & (values <= high)).all():
            raise ValueError(f"{name}: a number out of range")
    for name in ("contribution_id", "lens_tracked_id"):  # where the chosen token stands first
        if name in columns.captured and (columns.captured[name][:, 0] != columns.token_id).any():
            raise ValueError(name)
    if "attention" in header.capture:
        shape = columns.captured["attention_shape"].tolist()
        Attention.of(columns.captured["attention"], shape, len(columns.prompt_ids), columns.window_start)
    if header.max_new_tokens < steps:
        raise ValueError("max_new_tokens")
    if header.first_step > len(columns.prompt_ids):
        raise ValueError("first_step")


def _vocabulary_table(
    columns: Columns, arrays: Mapping[str, npt.NDArray[Any]]
) -> Mapping[int, bytes] | Sequence[bytes]:
    ends, blob = arrays["vocab_end"].tolist(), arrays["vocab_bytes"].tobytes()
    starts = [0, *ends[:-1]]
    if sorted([0, *ends, len(blob)]) != [0, *ends, len(blob)] or (ends or [0])[-1] != len(blob):
        raise ValueError("vocab_end")
    spelled = [blob[a:b] for a, b in zip(starts, ends, strict=True)]
    if columns.part is None:
        return spelled
    ids = arrays["vocab_id"]
    if not np.array_equal(ids, _ids_on_record(columns)):  # an id without its bytes would show as the empty token
        raise ValueError("vocab_id")
    return dict(zip(ids.tolist(), spelled, strict=True))


def _ids_on_record(columns: Columns) -> Ids:
    assert columns.part is not None  # whole rows need every id
    named = [a.ravel() for name, a in columns.captured.items() if name.endswith("_id")]
    all_ids = (columns.prompt_ids, columns.token_id, columns.part["part_id"].ravel(), *named)
    return np.unique(np.concatenate(all_ids)).astype(np.int32)


def _header_from_dict(meta: dict[str, Any], size: int) -> Header:
    """The header out of JSON that anyone may have written: every key known, of the right type, in range."""
    lacks = OLDER_SCHEMAS.get(meta["schema"], {})
    expected = {*Header.__dataclass_fields__, "schema", "vocab_size", "columns_sha256", "sha256"} - lacks.keys()
    if odd := sorted(meta.keys() ^ expected):
        raise ValueError(f"{', '.join(odd)}: missing or unknown")
    meta = {**meta, **lacks}
    kind, end, seed = _typed(meta, "kind", str), _typed(meta, "end", str), meta["seed"]
    if kind not in _ENDS or end not in _ENDS[kind]:
        raise ValueError("kind or end")
    if (seed is None) != (kind == "score") or _typed(meta, "window", str) != "exact":
        raise ValueError("seed or window")
    max_new_tokens, special_ids = _typed(meta, "max_new_tokens", int), _all_typed(meta, "special_ids", int)
    if max_new_tokens < 0 or any(not 0 <= i < size for i in special_ids):
        raise ValueError("max_new_tokens or special_ids")
    first_step, rounded = _typed(meta, "first_step", int), _object(meta, "rounded")
    if first_step < 0 or (kind == "score" and first_step):
        raise ValueError("first_step")
    known: dict[str, Any] = {  # of type and range just checked
        "kind": kind,
        "seed": None if seed is None else check_seed(seed),
        "end": end,
        "max_new_tokens": max_new_tokens,
        "special_ids": special_ids,
    }
    checks = cast("tuple[dict[str, Any], ...]", _all_typed(meta, "self_checks", dict))
    capture = _all_typed(meta, "capture", str)
    if capture != tuple(name for name in CAPTURES if name in capture):
        raise ValueError("capture")
    parts = _all_typed(meta, "parts", str)
    if len(set(parts)) != len(parts) or bool(parts) != ("contributions" in capture):
        raise ValueError("parts")
    if not rounded.keys() <= {"attention"} & {*capture}:
        raise ValueError("rounded")
    if any(not 0 < _typed(rounded, name, float) < 1 for name in rounded):
        raise ValueError("rounded")
    return Header(
        model=_model_from_dict(_object(meta, "model")),
        prompt=_typed(meta, "prompt", str),
        sampling=Sampling.from_dict(_object(meta, "sampling")),
        stop=_all_typed(meta, "stop", str),
        window="exact",
        self_checks=tuple(map(_self_check, checks)),
        capture=capture,
        parts=parts,
        ablate=_all_typed(meta, "ablate", str),
        first_step=first_step,
        rounded=rounded,
        **known,
    )


def _model_from_dict(values: dict[str, Any]) -> ModelInfo:
    for name in (
        "ref",
        "model_type",
        "weights_sha256",
        "tokenizer_sha256",
        "engine",
        "device",
        "dtype",
        "stored_dtype",
    ):
        _typed(values, name, str)
    _object(values, "config")
    versions = _object(values, "versions")
    for name in versions:
        _typed(versions, name, str)
    if values["threads"] is not None and _typed(values, "threads", int) < 0:
        raise ValueError("threads")
    checked: dict[str, Any] = values | {"switches": _all_typed(values, "switches", str)}
    return ModelInfo(**checked)


def _self_check(values: dict[str, Any]) -> SelfCheck:
    error = math.inf if values["error"] is None else values["error"]
    if type(error) not in (int, float) or type(values["limit"]) not in (int, float) or len(values) != 3:
        raise ValueError("self_checks")
    return SelfCheck(_typed(values, "name", str), float(error), float(values["limit"]))


def _typed(values: Mapping[str, Any], name: str, kind: type[Kind]) -> Kind:
    value = values[name]
    if type(value) is not kind:  # not isinstance: True is an int
        raise ValueError(f"{name}: not of type {kind.__name__}")
    return value


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", _typed(values, name, dict))


def _all_typed(values: Mapping[str, Any], name: str, kind: type[Kind]) -> tuple[Kind, ...]:
    listed = cast("list[Any]", _typed(values, name, list))
    if any(type(value) is not kind for value in listed):
        raise ValueError(f"{name}: not all of type {kind.__name__}")
    return tuple(listed)


def _check_digests(file: str, meta: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    if meta.get("sha256") != header_digest(meta):
        raise LoadError("trace_damaged", file=file, part="__metadata__")
    expected = meta.get("columns_sha256")
    actual = {name: _column_digest(name, a) for name, a in arrays.items()}
    if not isinstance(expected, dict) or expected != actual:
        wrong = [n for n in sorted(actual) if not isinstance(expected, dict) or expected.get(n) != actual[n]]
        raise LoadError("trace_damaged", file=file, part=", ".join(wrong) or "columns_sha256")


def _column_digest(name: str, array: npt.NDArray[Any]) -> str:
    described = f"{name} {array.dtype} {list(array.shape)}\n".encode()
    digest = hashlib.sha256(described)
    digest.update(array.reshape(-1).view(np.uint8).data)  # no copy: a record may fill much of the memory
    return digest.hexdigest()


def header_digest(meta: Mapping[str, Any]) -> str:
    """SHA-256 of a header, its own field "sha256" taken as empty."""
    text = json.dumps({**meta, "sha256": ""}, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
