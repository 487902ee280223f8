"""A trace as one file: safetensors, which NumPy reads without torch, with one JSON header. See docs/trace-format.md.

Special here: digests find what broke by accident; a file's author can make any digest fit, so every type, shape and
range is checked as well before a number is believed. The same record gives the same bytes, which is why the container
is written here: the library puts several metadata keys in a random order.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from manako.checks import check_properties
from manako.errors import LoadError, ManakoError
from manako.files import is_file, read_regular, strict_json, write_file
from manako.sampling import Sampling
from manako.trace.record import Columns, Header, Ids, ModelInfo, SelfCheck, Trace, Vocabulary
from manako.trace.schema import (
    CAPTURE_COLUMNS,
    CAPTURES,
    CHECKS,
    COLUMNS,
    DTYPES,
    DYNAMICS,
    ENDS,
    PART,
    TABLE,
    TRACE,
    TREE,
    Column,
    Format,
    check_limit,
    step_columns,
)

Array = npt.NDArray[Any]
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
    if TREE.name in metadata and TRACE.name not in metadata:
        raise LoadError("tree_not_trace", file=file, count=len(parts))
    if DYNAMICS.name in metadata and TRACE.name not in metadata:
        raise LoadError("dynamics_not_trace", file=file)
    meta, version = read_header(TRACE, metadata, file)
    arrays = {name: array_of(name, part, file) for name, part in parts}
    check_digests(file, meta, arrays)
    try:
        return _from_parts(meta, version, arrays)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, ManakoError) as error:
        part = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise LoadError("trace_damaged", file=file, part=part) from None


def array_of(name: str, part: Mapping[str, Any], file: str) -> Array:
    """An array of a file, nothing of it checked but that it is one. Raises LoadError naming it."""
    names = {short: name for name, short in DTYPES.items()}
    try:
        return np.frombuffer(part["data"], dtype=names[part["dtype"]]).reshape(part["shape"])
    except (KeyError, ValueError):  # a dtype that no column has; a shape that NumPy cannot hold
        raise LoadError("trace_damaged", file=file, part=name) from None


def read_header(form: Format, metadata: Mapping[str, str], file: str) -> tuple[dict[str, Any], int]:
    """(the header as its digest proves it, its version); what stands in it is not checked yet. Raises LoadError."""
    text = metadata.get(form.name)
    if text is None:
        raise LoadError("not_a_trace", file=file)
    meta = strict_json(text, file)
    known = {f"{form.name}/{version}": version for version in range(1, form.version + 1)}
    schema = meta.get("schema")
    if not isinstance(schema, str) or schema not in known:
        if str(schema).startswith(form.name + "/"):
            raise LoadError("trace_newer", file=file, found=schema, known=form.id)
        raise LoadError("trace_damaged", file=file, part="schema")
    inside = "sha256" in form.rules(known[schema])  # as older versions have it
    right = meta.get("sha256") == older_digest(meta) if inside else metadata.get(form.digest) == _sha256(text)
    if not right:
        raise LoadError("trace_damaged", file=file, part="__metadata__")
    return meta, known[schema]


def older_digest(meta: Mapping[str, Any]) -> str:
    """The digest inside a header of a trace of version 1 to 3 or a tree of version 1: its own field taken as empty."""
    return _sha256(json.dumps({**meta, "sha256": ""}, ensure_ascii=False, sort_keys=True))


def container(form: Format, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """A file of safetensors with this header, its digest, and these arrays; equal content gives equal bytes."""
    text = json.dumps({"schema": form.id, **meta}, ensure_ascii=False, sort_keys=True)
    head: dict[str, Any] = {"__metadata__": {form.name: text, form.digest: _sha256(text)}}
    order, end = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)), 0  # widest first: all are aligned
    for name in order:
        start, end = end, end + arrays[name].nbytes
        place = {"shape": list(arrays[name].shape), "data_offsets": [start, end]}
        head[name] = {"dtype": DTYPES[arrays[name].dtype.name], **place}
    start = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    start += b" " * (-len(start) % 8)
    return b"".join([len(start).to_bytes(8, "little"), start, *(_raw(arrays[name]) for name in order)])


def _check_start(path: Path) -> None:
    """Refuse what cannot be safetensors by its first bytes, before a file of any size is read into memory."""
    try:
        if not is_file(path):
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
    meta, arrays = _meta(trace), _arrays(trace)
    return container(TRACE, meta | {"columns_sha256": digests(arrays)}, arrays)


def content(trace: Trace) -> tuple[str, dict[str, Array]]:
    """What the file would hold: its header, as text, and its arrays."""
    return json.dumps(_meta(trace), sort_keys=True), _arrays(trace)


def _meta(trace: Trace) -> dict[str, Any]:
    return trace.header.to_dict() | {"vocab_size": trace.vocabulary.size}


def _arrays(trace: Trace) -> dict[str, Array]:
    columns = trace.columns
    if columns.part is None:
        ids = np.arange(trace.vocabulary.size, dtype=np.int32)
        arrays: dict[str, Array | None] = {"logits": columns.logits}
    else:
        ids = _ids_on_record(columns)
        arrays = {**columns.part, "vocab_id": ids}
    bytes_of = [trace.vocabulary[int(i)] for i in ids]
    arrays |= columns.captured
    arrays |= {name: getattr(columns, name) for name in COLUMNS["all"] if hasattr(columns, name)}
    arrays["vocab_bytes"] = np.frombuffer(b"".join(bytes_of), dtype=np.uint8)
    arrays["vocab_end"] = np.cumsum([len(b) for b in bytes_of], dtype=np.int32)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _from_parts(meta: dict[str, Any], version: int, arrays: dict[str, Array]) -> Trace:
    header, size = _header_of(meta, version)
    kept = "whole" if "logits" in arrays else "part"
    table = COLUMNS["all"] | COLUMNS[kept]
    for capture in header.capture:
        table |= CAPTURE_COLUMNS[capture]
    table = {n: column for n, column in table.items() if column.since == 1 or (column.since <= version and n in arrays)}
    if odd := sorted(arrays.keys() ^ table.keys()):
        raise ValueError(f"{', '.join(odd)}: missing or unknown")
    sizes = {"V": size, "A": len(header.sampling.active), "N": len(header.parts)}
    check_shapes(table, arrays, sizes | ({"W": size} if kept == "whole" else {}))
    _check_ranges(header, table, arrays, size)
    columns = Columns(
        **{name: arrays[name] for name in table if name in Columns.__dataclass_fields__},
        part={name: arrays[name] for name in step_columns("part")} if kept == "part" else None,
        captured={n: arrays[n] for capture in header.capture for n in CAPTURE_COLUMNS[capture] if n in arrays},
    )
    _check_columns(header, columns, size)
    trace = Trace(header, columns, Vocabulary(_token_bytes(columns, arrays), size, frozenset(header.special_ids)))
    for capture in header.capture:
        trace.captured(capture).fit()
    return trace


def check_shapes(table: Mapping[str, Column], arrays: Mapping[str, Array], sizes: dict[str, int]) -> None:
    """Raise ValueError unless each letter of the axes has one size. sizes: those known; the others are added."""
    for name, column in table.items():
        array = arrays[name]
        for axis, length in zip(column.axes, array.shape, strict=False):
            letter, _, more = str(axis).partition("+")
            sizes.setdefault(letter, length - int(more or 0))
        fits = array.dtype == column.dtype and array.ndim == len(column.axes) and array.shape == column.shape(sizes)
        if not fits or 0 in array.shape[1:]:
            wanted = f"{column.dtype}[{', '.join(map(str, column.axes))}]"
            raise ValueError(f"{name}: {array.dtype}{list(array.shape)}, not {wanted}")


def _check_ranges(header: Header, table: Mapping[str, Column], arrays: Mapping[str, Array], size: int) -> None:
    """Raise ValueError for a number out of range, or for a chosen token that does not stand first."""
    ends: dict[str, Any] = {
        "V-1": size - 1,
        "V": size,
        "A-1": len(header.sampling.active) - 1,
        "position": len(arrays["prompt_ids"]) + np.arange(len(arrays["token_id"])) - 1,
        "below 1": np.nextafter(1, 0),
        "log2 V": np.log2(size) + 1e-9,
    }
    drawn = {
        n: column for n, column in table.items() if n != "u" or header.kind != "score"
    }  # a score draws nothing: NaN
    check_ranges(drawn, arrays, ends)
    for name, column in table.items():
        if column.chosen_first and (arrays[name][:, 0] != arrays["token_id"]).any():
            raise ValueError(f"{name}: its first is not the chosen token")


def check_ranges(table: Mapping[str, Column], arrays: Mapping[str, Array], ends: Mapping[str, Any]) -> None:
    """Raise ValueError naming the first column with a number out of its range: an author can make any digest fit.

    ends: what the names of ends in `numbers` mean here, those of the dtype aside.
    """
    for name, column in table.items():
        values = arrays[name]
        if column.numbers is None:
            continue
        largest = np.finfo(values.dtype).max if values.dtype.kind == "f" else None
        named = {**ends, "max": largest, "-max": largest and -largest, "-inf": -np.inf}
        low, high = (named.get(end, end) for end in TABLE["numbers"][column.numbers])
        if not ((values >= low) & (values <= high)).all():  # NaN lies in none
            raise ValueError(f"{name}: a number out of range")


def _check_columns(header: Header, columns: Columns, size: int) -> None:
    """Raise ValueError for what the table of columns does not say."""
    steps, logits, part = len(columns.token_id), columns.logits, columns.part
    if header.kind == "score" and not np.isnan(columns.u).all():
        raise ValueError("u: a score draws nothing")
    if logits is not None and steps and not (logits.max(axis=1) > -np.inf).all():
        raise ValueError("logits: a row with nothing in it")
    if part is not None and part["part_id"].shape[1] > min(size, PART):
        raise ValueError("part_id: more candidates than can be")
    if part is not None and steps and not (np.diff(np.sort(part["part_id"], axis=1), axis=1) > 0).all():
        raise ValueError("part_id: an id occurs twice")
    if header.max_new_tokens < steps:
        raise ValueError("max_new_tokens")
    if header.first_step > len(columns.prompt_ids):
        raise ValueError("first_step")


def spelled(arrays: Mapping[str, Array]) -> dict[int, bytes]:
    """Token id -> bytes, of a file that says which ids it spells. Raises ValueError."""
    return dict(zip(arrays["vocab_id"].tolist(), _bytes_in_order(arrays), strict=True))


def _bytes_in_order(arrays: Mapping[str, Array]) -> list[bytes]:
    ends, blob = arrays["vocab_end"].tolist(), arrays["vocab_bytes"].tobytes()
    starts = [0, *ends[:-1]]
    if sorted([0, *ends, len(blob)]) != [0, *ends, len(blob)] or (ends or [0])[-1] != len(blob):
        raise ValueError("vocab_end")
    return [blob[a:b] for a, b in zip(starts, ends, strict=True)]


def _token_bytes(columns: Columns, arrays: Mapping[str, Array]) -> Mapping[int, bytes] | Sequence[bytes]:
    if columns.part is None:
        return _bytes_in_order(arrays)
    if not np.array_equal(arrays["vocab_id"], _ids_on_record(columns)):  # an id without its bytes would show as ""
        raise ValueError("vocab_id")
    return spelled(arrays)


def _ids_on_record(columns: Columns) -> Ids:
    assert columns.part is not None  # whole rows need every id
    named = [a.ravel() for name, a in columns.captured.items() if name.endswith("_id")]
    all_ids = (columns.prompt_ids, columns.token_id, columns.part["part_id"].ravel(), *named)
    return np.unique(np.concatenate(all_ids)).astype(np.int32)


def _header_of(meta: dict[str, Any], version: int) -> tuple[Header, int]:
    """(the header out of JSON that anyone may have written, V): every key known, of the right type, in range."""
    check_properties(meta, TRACE.rules(version), "")
    meta = meta | TRACE.defaults(version)
    values = {name: _frozen(meta[name]) for name in Header.__dataclass_fields__}
    values["model"] = ModelInfo(**{name: _frozen(value) for name, value in meta["model"].items()})
    values["sampling"] = Sampling.from_dict(meta["sampling"])
    values["self_checks"] = tuple(_self_check(check, meta) for check in meta["self_checks"])
    header, size = Header(**values), meta["vocab_size"]
    if header.end not in ENDS[header.kind]:
        raise ValueError("end")
    if (header.seed is None) != (header.kind == "score") or (header.kind == "score" and header.first_step):
        raise ValueError("seed or first_step")
    if any(i >= size for i in header.special_ids):
        raise ValueError("special_ids")
    if header.capture != tuple(name for name in CAPTURES if name in header.capture):
        raise ValueError("capture")
    if bool(header.parts) != ("contributions" in header.capture):
        raise ValueError("parts")
    may_be = {n for each in header.capture for n, column in CAPTURE_COLUMNS[each].items() if column.rounded}
    if not header.rounded.keys() <= may_be:
        raise ValueError("rounded")
    return header, size


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _self_check(values: dict[str, Any], meta: dict[str, Any]) -> SelfCheck:
    """The limit is the reader's own where it knows the check, for the type that the header says was computed in."""
    name, said = values["name"], float(values["limit"])
    error = math.inf if values["error"] is None else float(values["error"])
    own = check_limit(name, meta["model"]["dtype"], meta["rounded"]) if name in CHECKS else said
    return SelfCheck(name, error, float(own))


def check_digests(file: str, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Raise LoadError naming the columns that are not what the header says."""
    expected, actual = meta.get("columns_sha256"), digests(arrays)
    if not isinstance(expected, dict) or expected != actual:
        wrong = [n for n in sorted(actual) if not isinstance(expected, dict) or expected.get(n) != actual[n]]
        raise LoadError("trace_damaged", file=file, part=", ".join(wrong) or "columns_sha256")


def digests(arrays: Mapping[str, Array]) -> dict[str, str]:
    """The digest of each column."""
    return {name: column_digest(name, array) for name, array in arrays.items()}


def column_digest(name: str, array: Array) -> str:
    """SHA-256 of a column: what it is, and its numbers."""
    digest = hashlib.sha256(f"{name} {array.dtype} {list(array.shape)}\n".encode())
    digest.update(_raw(array))
    return digest.hexdigest()


def _raw(array: Array) -> memoryview:
    """Its bytes, not copied: a record may fill much of the memory."""
    return array.reshape(-1).view(np.uint8).data


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
