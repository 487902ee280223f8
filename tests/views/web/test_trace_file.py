"""N16, T26: the page reads a trace as Python does: the same numbers, and the same verdict on files that were changed.

The changes are of four kinds: bytes anywhere; and, with digests that fit, the header's JSON, a column's numbers, and
which columns there are, of what type and shape.
"""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import safetensors.numpy
from golden import golden_inside, golden_score, golden_trace, large_generation, large_inside, with_candidates

from manako.analysis.compact import compact
from manako.errors import LoadError
from manako.sampling import Sampling
from manako.trace.file import older_digest, to_bytes
from manako.trace.file import open as open_trace
from manako.trace.record import SelfCheck, Trace
from manako.trace.schema import CAPTURES, TRACE, step_columns

Ask = Callable[..., Any]
Meta = dict[str, Any]
Arrays = dict[str, np.ndarray]

NEWER = f"{TRACE.name}/{TRACE.version + 1}"
OLDER = [f"{TRACE.name}/{version}" for version in range(1, TRACE.version)]
UNUSUAL: dict[str, Any] = {
    "prompt": "あ\0</script>\u2028\ufeff😀\x7f",
    "sampling": Sampling(0, top_k=3, min_p=0.1, order=tuple(reversed(Sampling().order)), frequency_penalty=-0.5),
    "seed": 2**64 - 1,
    "stop": ("。", "\n", "]]>"),
    "model": replace(
        golden.MODEL,
        config={"eps": 1e-5, "x": None, "on": True, "😀": 1e22, "\uff5e": 1.0},
        dtype="constructor",  # which every object has in JavaScript
    ),
    "self_checks": (
        SelfCheck("a", 5e-324, 0.1),
        SelfCheck("b", float("inf"), 1e-5),
        SelfCheck("cached_equals_uncached", 1e-6, 1e-5),
    ),
}
RECORDS: dict[str, Trace] = {
    "golden": golden_trace(),
    "no steps": golden_trace(0),
    "score": golden_score(),
    "unusual": golden_trace(3, **UNUSUAL),
    "every stage": golden_trace(2, sampling=Sampling(0.9, 9, 0.99, 1e-6, 0.99, 1.1, 0.1, 0.1)),
    "inside": golden_inside(4, CAPTURES, (9, 2), ablate=("head:0.1",)),
    "a moving window": golden_inside(8, CAPTURES, (9, 2, 3, 4), context=6),
    "going on": compact(golden_inside(2, CAPTURES, (9, 2, 3), first_step=2)),
    "large": large_inside(16_400, 2, CAPTURES),
    "few candidates": with_candidates(large_inside(16_400, 2, CAPTURES), 12),
}
FILES = {name: to_bytes(trace) for name, trace in RECORDS.items()}
SMALL = [name for name, trace in RECORDS.items() if trace.exact]


def take_apart(data: bytes) -> tuple[Meta, Arrays]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["manako.trace"]), safetensors.numpy.load(data)


PARTS = {name: take_apart(data) for name, data in FILES.items()}


def put_together(meta: Meta, arrays: Arrays, wrong: Mapping[str, str] | None = None) -> bytes:
    """A file whose digests fit, whatever it says; but for those of its columns that are given."""
    digests = {
        name: hashlib.sha256(f"{name} {a.dtype} {list(a.shape)}\n".encode() + a.tobytes()).hexdigest()
        for name, a in arrays.items()
    }
    meta = meta | {"columns_sha256": digests | dict(wrong or {})}
    if meta.get("schema") in OLDER[:3]:  # which have it inside
        meta["sha256"] = older_digest(meta)
    return with_text(json.dumps(meta), {n: np.ascontiguousarray(a) for n, a in arrays.items()})


def with_text(text: str, arrays: Arrays | None = None, digest: str | None = None) -> bytes:
    """A file with this header, and the digest of its raw bytes unless another is given."""
    metadata = {"manako.trace": text, "manako.sha256": digest or hashlib.sha256(text.encode()).hexdigest()}
    return safetensors.numpy.save(arrays or {"a": np.zeros(1, np.float32)}, metadata)


def verdict(data: bytes, path: Path) -> str:
    path.write_bytes(data)
    try:
        open_trace(path)
    except LoadError as error:
        return error.key
    return "opens"


# The same numbers


def test_the_page_and_python_read_the_same_records(ask: Ask) -> None:
    for name, trace in RECORDS.items():
        assert_same(ask("trace", FILES[name]), trace)


def assert_same(found: Any, trace: Trace) -> None:
    header, columns = trace.header, trace.columns
    expected = json.loads(json.dumps(header.to_dict()))
    for check in expected["self_checks"]:
        check["ok"] = check["error"] is not None and check["error"] <= check["limit"]  # null is an infinite one
    assert found["header"] == expected | {"seed": None if header.seed is None else str(header.seed)}
    assert found["exact"] is trace.exact and found["specialIds"] == list(header.special_ids)
    names = {"u": "u", "windowStart": "window_start", "p": "p", "pModel": "p_model", "rank": "rank"}
    for ours, theirs in names.items():
        np.testing.assert_array_equal(found["columns"][ours], getattr(columns, theirs))
    assert found["columns"]["ids"].tolist() == trace.all_ids.tolist()
    assert [each.tobytes() for each in found["bytes"]] == [trace.vocabulary[i] for i in trace.all_ids.tolist()]
    assert found["text"].tobytes() == trace.vocabulary.join(trace.all_ids)
    assert len(found["steps"]) == len(trace)
    for i, step in enumerate(found["steps"]):
        assert step["history"].tolist() == trace.all_ids[: len(columns.prompt_ids) + i].tolist()
        assert_same_step(step, trace, i)


PART_NAMES = {"ids": "part_id", "logits": "part_logit", "p": "part_p", "pModel": "part_p_model", "cutBy": "part_cut_by"}
PART_NAMES |= {"logsumexp": "logsumexp", "restP": "rest_p", "restPModel": "rest_p_model", "entropy": "entropy"}
PART_NAMES |= {"restLogitMax": "rest_logit_max", "stageKept": "stage_kept", "stageRemovedMass": "stage_removed_mass"}
PART_NAMES |= {"chosenLogit": "chosen_logit"}
LENS_NAMES = {"ids": "id", "logits": "logit", "logsumexp": "logsumexp", "trackedIds": "tracked_id"}
LENS_NAMES |= {"trackedLogits": "tracked_logit", "trackedRanks": "tracked_rank"}


def assert_same_step(step: Any, trace: Trace, i: int) -> None:
    if trace.exact:
        np.testing.assert_array_equal(step["logits"], trace.logits[i])
        assert step["part"] is None
    else:
        assert step["logits"] is None and trace.columns.part is not None
        assert step["part"].keys() == PART_NAMES.keys() and sorted(PART_NAMES.values()) == sorted(step_columns("part"))
        for ours, theirs in PART_NAMES.items():
            np.testing.assert_array_equal(step["part"][ours], trace.columns.part[theirs][i])
    if not trace.header.capture:
        assert [step[name] for name in ("attention", "inView", "lens", "contributions")] == [None] * 4
        return
    np.testing.assert_array_equal(step["attention"]["data"], trace.attention[i].ravel())
    shape = [step["attention"][name] for name in ("layers", "heads", "keys")]
    assert shape == list(trace.attention[i].shape) and step["attention"]["start"] == trace.attention.start(i)
    whole = trace.attention.whole(i)
    assert (step["inView"] is None) == (whole is None)
    for q, row in enumerate(step["inView"] or ()):
        assert whole is not None
        np.testing.assert_array_equal(row["data"], whole[:, :, q, : q + 1].ravel())
    for ours, theirs in LENS_NAMES.items():
        np.testing.assert_array_equal(step["lens"][ours], getattr(trace.lens, theirs)[i].ravel())
    assert [step["lens"][name] for name in ("layers", "top")] == list(trace.lens.id.shape[1:])
    assert step["contributions"]["ids"].tolist() == trace.contributions.id[i].tolist()
    assert step["contributions"]["parts"] == list(trace.header.parts)
    np.testing.assert_array_equal(step["contributions"]["values"], trace.contributions.value[i].ravel())


@pytest.mark.parametrize("version", range(1, TRACE.version))
def test_a_record_of_a_version_before_is_read(ask: Ask, tmp_path: Path, version: int) -> None:
    meta, arrays = PARTS["golden"]
    lacks, schema = TRACE.defaults(version), OLDER[version - 1]
    old = {name: value for name, value in meta.items() if name not in lacks} | {"schema": schema}
    data = put_together(old, arrays)
    assert ask("verdicts", [data]) == ["opens"]
    assert_same(ask("trace", data), RECORDS["golden"])
    files = {name: put_together(old | {name: value}, arrays) for name, value in lacks.items()}
    files["its digest is another"] = data.replace(b'sha256\\": \\"', b'sha256\\": \\"0')
    other = with_text(json.dumps(old), arrays) if version < 4 else put_together(old | {"sha256": ""}, arrays)
    files["its digest is of the other kind"] = other
    assert set(assert_same_verdicts(ask, files, tmp_path)) == {"trace_damaged"}


def test_the_stored_records_of_versions_before_are_read(ask: Ask) -> None:
    paths = sorted((Path(__file__).parents[2] / "fixtures").glob("trace-*.manako"))
    assert len(paths) == 8
    for path in paths:
        assert ask("checked", path.read_bytes(), True) is True
        assert_same(ask("trace", path.read_bytes()), open_trace(path))


# The same verdict


ODD_JSON = [None, True, False, 0, -1, 1, 12, 13, 2**31, 2**64 - 1, 2**64, 10**400, 0.5, 1.0, 5e-324, -0.0, 1e16, 1e308]
ODD_JSON += [
    "",
    "score",
    "text",
    "generation",
    "exact",
    "\ud800",
    "</script>",
    "lens",
    "embed",
    "temperature",
    "toString",
]
ODD_JSON += [
    "manako.trace/1",
    "manako.trace/2",
    NEWER,
    [],
    {},
    [1],
    ["a", "a"],
    {"a": 1},
    ["lens", "attention"],
    [0],
    [-1],
]
ODD_KEYS = ["", "__proto__", "constructor", "extra", "top_k", "min_p", "schema", "attention", "\ud800"]
ODD_NUMBERS = [0, 1, -1, 2, 11, 12, 127, 2**31 - 1, -(2**31), 0.5, 5e-324, 1e300, -1e300, 3e38, np.nan, np.inf, -np.inf]
ODD_NUMBERS += [1 + 1e-9, 1 + 2e-9, 1 + 1e-5, 1 - 2**-53, float(np.float32(3.4028235e38))]


def pick(rng: np.random.Generator, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def with_bytes_changed(rng: np.random.Generator) -> bytes:
    data = bytearray(FILES[pick(rng, SMALL)])
    length = int.from_bytes(data[:8], "little") + 8
    start = int(rng.integers(pick(rng, [9, length, len(data)])))  # often in the header, which is the smaller part
    match rng.integers(5):
        case 0:
            data[start] ^= 1 << int(rng.integers(8))
        case 1:
            data[start] = int(rng.integers(256))
        case 2:
            del data[start : start + int(rng.integers(1, 9))]
        case 3:
            data[start:start] = rng.bytes(int(rng.integers(1, 9)))
        case _:
            del data[start:]
    return bytes(data)


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON tree."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [p for key, item in inner for p in spots(item, (*path, key))]


def with_header_changed(rng: np.random.Generator) -> bytes:
    meta, arrays = PARTS[pick(rng, SMALL)]
    meta = copy.deepcopy(meta)
    for _ in range(int(rng.integers(1, 3))):
        *path, last = pick(rng, spots({name: value for name, value in meta.items() if "sha256" not in name}))
        owner = meta
        for key in path:
            owner = owner[key]
        match rng.integers(4):
            case 0:
                del owner[last]
            case 1 if isinstance(owner, dict):
                owner[pick(rng, ODD_KEYS)] = pick(rng, ODD_JSON)
            case _:
                owner[last] = pick(rng, ODD_JSON)
    return put_together(meta, arrays)


def fitting(array: np.ndarray, value: Any) -> Any:
    """A number as a column of that type can hold it."""
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        return int(np.clip(np.nan_to_num(value), limits.min, limits.max))
    return value


def with_numbers_changed(rng: np.random.Generator) -> bytes:
    meta, arrays = PARTS[pick(rng, list(PARTS))]
    name = pick(rng, sorted(n for n, a in arrays.items() if a.size))
    array = arrays[name].copy()
    for _ in range(int(rng.integers(1, 4))):
        with np.errstate(over="ignore"):
            array.reshape(-1)[int(rng.integers(array.size))] = fitting(array, pick(rng, ODD_NUMBERS))
    return put_together(meta, arrays | {name: array})


def with_columns_changed(rng: np.random.Generator) -> bytes:
    meta, arrays = PARTS[pick(rng, list(PARTS))]
    name = pick(rng, sorted(arrays))
    array, others = arrays[name], {n: a for n, a in arrays.items() if n != name}
    match rng.integers(7):
        case 0:
            return put_together(meta, others)
        case 1:
            return put_together(meta, others | {pick(rng, ["extra", "residual", "logits", name.upper()]): array})
        case 2:
            return put_together(
                meta, arrays | {name: array.astype(pick(rng, ["f2", "f4", "f8", "i1", "i4", "i8", "u1"]))}
            )
        case 3:
            return put_together(meta, arrays | {name: array[None]})
        case 4:
            return put_together(meta, arrays | {name: array.reshape(-1)})
        case 5:
            return put_together(meta, arrays | {name: array[: int(rng.integers(len(array) + 1))]})
        case _:
            other = pick(rng, sorted(arrays))
            return put_together(meta, arrays | {name: arrays[other], other: array})


CHANGES = (with_bytes_changed, with_header_changed, with_numbers_changed, with_columns_changed)


def assert_same_verdicts(ask: Ask, files: Mapping[str, bytes], folder: Path) -> Counter[str]:
    expected = {name: verdict(data, folder / "changed.manako") for name, data in files.items()}
    found = dict(zip(files, ask("verdicts", list(files.values())), strict=True))
    assert {name: (expected[name], found[name]) for name in files if expected[name] != found[name]} == {}
    return Counter(expected.values())


def changed_files(count: int, seed: int) -> dict[str, bytes]:
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore"):  # of NaN cast to a whole number
        return {f"{i} {CHANGES[i % 4].__name__}": CHANGES[i % 4](rng) for i in range(count)}


def test_the_same_verdict_on_changed_files(ask: Ask, tmp_path: Path) -> None:
    verdicts = assert_same_verdicts(ask, changed_files(400, 0), tmp_path)
    assert verdicts["opens"] > 20 and verdicts["trace_damaged"] > 200 and len(verdicts) >= 4


@pytest.mark.slow
def test_the_same_verdict_on_ten_thousand_changed_files(ask: Ask, tmp_path: Path) -> None:
    for seed in range(1, 11):
        assert_same_verdicts(ask, changed_files(1000, seed), tmp_path)


def with_odd_numbers(name: str) -> dict[str, bytes]:
    """Each odd number at either end of each column."""
    meta, arrays = PARTS[name]
    files: dict[str, bytes] = {}
    for column, array in arrays.items():
        for value in ODD_NUMBERS if array.size else ():
            for place in (0, -1):
                other = array.copy()
                with np.errstate(over="ignore"):
                    other.reshape(-1)[place] = fitting(array, value)
                files[f"{column}[{place}] = {value}"] = put_together(meta, arrays | {column: other})
    return files


@pytest.mark.parametrize(
    "name", ["score", *(pytest.param(name, marks=pytest.mark.slow) for name in ("inside", "large"))]
)
def test_the_same_verdict_on_every_odd_number(ask: Ask, tmp_path: Path, name: str) -> None:
    verdicts = assert_same_verdicts(ask, with_odd_numbers(name), tmp_path)
    assert verdicts["opens"] > 30 and verdicts["trace_damaged"] > 100


def with_odd_fields(name: str, values: list[Any]) -> dict[str, bytes]:
    """Each of some values in the place of each value of the header."""
    meta, arrays = PARTS[name]
    files: dict[str, bytes] = {}
    for path in spots({name: value for name, value in meta.items() if "sha256" not in name}):
        for n, value in enumerate(values):
            owner = other = copy.deepcopy(meta)
            for key in path[:-1]:
                owner = owner[key]
            owner[path[-1]] = value
            files[f"{path} = {n}"] = put_together(other, arrays)
    return files


@pytest.mark.parametrize("name", ["golden", pytest.param("inside", marks=pytest.mark.slow)])
def test_the_same_verdict_on_every_odd_field(ask: Ask, tmp_path: Path, name: str) -> None:
    few = [None, True, 0, -1, 2**64, 1.5, "a", ["a", "a"], {"a": 1}]
    verdicts = assert_same_verdicts(ask, with_odd_fields(name, few if name == "golden" else ODD_JSON), tmp_path)
    assert verdicts["opens"] > 30 and verdicts["trace_damaged"] > 300


def misfits() -> dict[str, bytes]:
    """Columns and fields of which each alone could be, but not together."""
    meta, arrays = PARTS["inside"]
    steps, layers, parts = len(arrays["token_id"]), arrays["lens_id"].shape[1], len(meta["parts"])
    ids, f32 = np.zeros((steps, layers, 0), np.int32), np.zeros((steps, layers, 0), np.float32)
    nothing = np.zeros((steps, 0), np.int32)
    large, many = PARTS["large"]
    twice = many["part_id"].copy()
    twice[0, 1] = twice[0, 0]
    cut = PARTS["golden"][1]["logits"].copy()
    cut[3] = -np.inf
    ends = arrays["vocab_end"].copy()
    ends[1], ends[2] = ends[2], ends[1]
    moved = arrays["window_start"].copy()
    moved[-1] = len(arrays["prompt_ids"]) + steps - 1
    last = 4 * int(moved[-1] - arrays["window_start"][-1])  # numbers of the last row of 2 layers with 2 heads
    changes: dict[str, tuple[Meta, Arrays]] = {
        "fewer tokens than steps": (meta | {"max_new_tokens": steps - 1}, arrays),
        "as many tokens as steps": (meta | {"max_new_tokens": steps}, arrays),
        "a column more": (meta, arrays | {"extra": nothing}),
        "a part beside whole rows": (meta, arrays | {"part_id": many["part_id"]}),
        "a row with nothing in it": (PARTS["golden"][0], PARTS["golden"][1] | {"logits": cut}),
        "a lens of no candidates": (meta, arrays | {"lens_id": ids, "lens_logit": f32}),
        "contributions to nothing": (
            meta,
            arrays | {"contribution_id": nothing, "contribution": np.zeros((steps, parts, 0), np.float32)},
        ),
        "a stream of no width": (meta, arrays | {"residual": f32}),
        "a part named twice": (meta | {"parts": [*meta["parts"][:-1], meta["parts"][0]]}, arrays),
        "parts of nothing": (PARTS["golden"][0] | {"parts": ["embed"]}, PARTS["golden"][1]),
        "a part fewer": (meta | {"parts": meta["parts"][:-1]}, arrays),
        "another dimension": (meta, arrays | {"lens_logsumexp": arrays["lens_logsumexp"][:, :, None]}),
        "a column of another length": (meta, arrays | {"u": arrays["u"][:-1]}),
        "a capture less": (meta | {"capture": [n for n in meta["capture"] if n != "residual"]}, arrays),
        "a candidate twice": (large, many | {"part_id": twice}),
        "more candidates than tokens": (large | {"vocab_size": 255}, many),
        "an id that is not spelled": (
            large,
            many | {"vocab_id": many["vocab_id"][:-1], "vocab_end": many["vocab_end"][:-1]},
        ),
        "an id beyond the vocabulary": (large, many | beyond(many, large["vocab_size"])),
        "a part without candidates": of_width(0),
        "a part of one candidate": of_width(1),
        "a part of as many as are kept": of_width(256),
        "a part of more candidates than are kept": of_width(257),
        "columns of a part that do not agree": (large, many | {"part_p": many["part_p"][:, :-1]}),
        "as many steps before as tokens": (meta | {"first_step": len(arrays["prompt_ids"])}, arrays),
        "more steps before than tokens": (meta | {"first_step": len(arrays["prompt_ids"]) + 1}, arrays),
        "steps before a score": (PARTS["score"][0] | {"first_step": 1}, PARTS["score"][1]),
        "attention rounded": (meta | {"rounded": {"attention": 0.5}}, arrays),
        "attention rounded by nothing": (meta | {"rounded": {"attention": 0.0}}, arrays),
        "attention rounded by all of it": (meta | {"rounded": {"attention": 1.0}}, arrays),
        "attention rounded by 1, whole": (meta | {"rounded": {"attention": 1}}, arrays),
        "a lens rounded": (meta | {"rounded": {"lens": 0.5}}, arrays),
        "attention rounded, and more": (meta | {"rounded": {"attention": 0.5, "constructor": 0.5}}, arrays),
        "attention rounded that nobody captured": (
            PARTS["golden"][0] | {"rounded": {"attention": 0.5}},
            PARTS["golden"][1],
        ),
        "an end of another kind": (PARTS["golden"][0] | {"end": "text"}, PARTS["golden"][1]),
        "another token first": (meta, arrays | {"contribution_id": np.roll(arrays["contribution_id"], 1, axis=1)}),
        "ids out of order": (large, many | {"vocab_id": many["vocab_id"][::-1]}),
        "spelled tokens out of order": (meta, arrays | {"vocab_end": ends}),
        "bytes of no token": (meta, arrays | {"vocab_bytes": np.append(arrays["vocab_bytes"], np.uint8(65))}),
        "a step before any token": (
            PARTS["golden"][0],
            PARTS["golden"][1] | {"prompt_ids": PARTS["golden"][1]["prompt_ids"][:0]},
        ),
        "a row that sees nothing": (meta, arrays | {"window_start": moved, "attention": arrays["attention"][:-last]}),
        "top_k as no whole number": (PARTS["golden"][0] | {"sampling": {"top_k": 8.0}}, PARTS["golden"][1]),
        "attention of no layer": (meta, arrays | {"attention_shape": np.array([0, 2, 0], np.int32)}),
        "attention of no head": (meta, arrays | {"attention_shape": np.array([2, 0, 0], np.int32)}),
        "attention of a longer prompt": (meta, arrays | {"attention_shape": np.array([2, 2, 2], np.int32)}),
        "attention whose product wraps": (
            meta,
            arrays | {"attention_shape": np.array([2**31 - 1] * 2 + [0], np.int32)},
        ),
        "a number of attention more": (meta, arrays | {"attention": np.append(arrays["attention"], np.float32(0))}),
        "captures named twice": (meta | {"capture": [*meta["capture"], "residual"]}, arrays),
        "a capture of no name": (PARTS["golden"][0] | {"capture": [""]}, PARTS["golden"][1]),
    }
    files = {name: put_together(*each) for name, each in changes.items()}
    return files | {"a digest of no column": put_together(meta, arrays, {"extra": "0" * 64})}


def beyond(arrays: Arrays, size: int) -> Arrays:
    """A candidate with an id that no row of logits has, spelled like any other."""
    ids, spelled, end = arrays["part_id"].copy(), arrays["vocab_id"], arrays["vocab_end"]
    ids[-1, np.flatnonzero(np.isin(ids[-1], ids[0]))[0]] = size  # the one that stood there is in another row too
    return {"part_id": ids, "vocab_id": np.append(spelled, np.int32(size)), "vocab_end": np.append(end, end[-1])}


def of_width(width: int) -> tuple[Meta, Arrays]:
    """A partial record without steps, whose rows, if it had any, would have so many candidates."""
    meta, arrays = take_apart(to_bytes(large_generation(16_400, 0).trace()))
    wide = [name for name, column in step_columns("part").items() if column.axes == ("S", "K")]
    return meta, arrays | {name: np.zeros((0, width), arrays[name].dtype) for name in wide}


def test_the_same_verdict_on_what_does_not_fit_together(ask: Ask, tmp_path: Path) -> None:
    verdicts = assert_same_verdicts(ask, misfits(), tmp_path)
    assert verdicts == {"trace_damaged": len(misfits()) - 5, "opens": 5}


def outer(header: str, data: bytes = b"") -> bytes:
    raw = header.encode("utf-8", "surrogatepass")
    return len(raw).to_bytes(8, "little") + raw + data


def hostile_files() -> dict[str, bytes]:
    """Files that no random change comes upon."""
    meta, arrays = PARTS["golden"]
    text = json.dumps(meta)
    good = put_together(meta, arrays)
    tensor = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return {
        "empty": b"",
        "8 bytes": bytes(8),
        "9 bytes": bytes(9),
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "a huge header": (2**63).to_bytes(8, "little") + b"{}",
        "an empty header": outer("{}"),
        "no metadata": outer(f'{{"a":{tensor}}}'),
        "null metadata": outer(f'{{"a":{tensor},"__metadata__":null}}'),
        "metadata of no text": outer(f'{{"a":{tensor},"__metadata__":{{"manako.trace":1}}}}'),
        "two of one name": outer(f'{{"a":{tensor},"a":{tensor},"__metadata__":{{"manako.trace":"{{}}"}}}}'),
        "a tensor that is none": outer('{"a":1}'),
        "a shape that is none": outer('{"a":{"dtype":"F32","shape":0,"data_offsets":[0,0]}}'),
        "not JSON": outer("{"),
        "a mark before it": outer("\ufeff{}"),
        "a lone surrogate": outer(f'{{"\\ud800":{tensor}}}'),
        "NaN": outer('{"a":NaN}'),
        "a number too large": outer('{"a":1e999}'),
        "deep": outer('{"a":' * 100_000),
        "a negative side": outer('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}'),
        "a side of no whole number": outer('{"a":{"dtype":"F32","shape":[0.0],"data_offsets":[0,0]}}'),
        "three offsets": outer('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0,0]}}'),
        "offsets backwards": outer('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', bytes(4)),
        "a gap": outer('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)),
        "sides whose product wraps": outer(
            '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'
        ),
        "something behind": good + b"\0",
        "another's": with_text("", arrays),
        **{f"text {t[:9]!r}": with_text(t) for t in ("", "[]", "null", "{", "NaN", '{"a":1,"a":1}', '{"a":"\\ud800"}')},
        **{
            f"schema {s!r}": with_text(json.dumps(meta | {"schema": s}), arrays)
            for s in (None, 1, "x/1", ["manako.trace/1"])
        },
        "newer": with_text(f'{{"schema":"{NEWER}"}}'),
        "newer, with types of its own": with_text(f'{{"schema":"{NEWER}"}}', {"a": np.zeros(3, np.float16)}),
        "deep text": with_text('{"a":' * 80 + "1" + "}" * 80),
        "64 deep": with_text(text[:-1] + ',"a":' + "[" * 62 + "]" * 62 + "}", arrays),
        "4,301 digits": with_text(text.replace('"seed": 7', '"seed": 1' + "0" * 4300), arrays),
        "other spaces": with_text(json.dumps(meta, separators=(",", ":")), arrays),
        "other escapes": with_text(json.dumps(meta, ensure_ascii=True, indent=1), arrays),
        "another order": with_text(json.dumps(dict(reversed(meta.items()))), arrays),
        "another digest": with_text(text, arrays, "0" * 64),
        "a digest in the header": with_text(json.dumps(meta | {"sha256": older_digest(meta)}), arrays),
        "digests of no column": put_together(meta, arrays).replace(b"columns_sha256", b"columns_sha257"),
        "arrays not aligned": not_aligned(good),
    }


def not_aligned(data: bytes) -> bytes:
    """The same file with one space more in its header, so that no array begins at a multiple of 8."""
    length = int.from_bytes(data[:8], "little")
    return (length + 1).to_bytes(8, "little") + data[8 : 8 + length] + b" " + data[8 + length :]


def test_the_same_verdict_on_hostile_files(ask: Ask, tmp_path: Path) -> None:
    files = hostile_files()
    assert len(assert_same_verdicts(ask, files, tmp_path)) == 5
    same = ("other spaces", "other escapes", "another order", "arrays not aligned")
    assert ask("verdicts", [files[name] for name in same]) == ["opens"] * 4


def test_truncated_at_every_byte(ask: Ask, tmp_path: Path) -> None:
    data = to_bytes(golden_trace(1))
    assert set(ask("verdicts", [data[:n] for n in range(len(data))])) == {"trace_damaged"}
    assert verdict(data[:100], tmp_path / "cut.manako") == "trace_damaged"


# What is said of a file


def test_the_damaged_column_is_named(ask: Ask) -> None:
    for name in ("golden", "large", "inside"):
        meta, arrays = PARTS[name]
        files = [put_together(meta, arrays, {column: "0" * 64}) for column in arrays]
        assert [error["part"] for error in ask("errors", files)] == list(arrays)


def test_errors_have_the_values_of_their_sentences(ask: Ask) -> None:
    newer, broken = with_text(f'{{"schema":"{NEWER}"}}'), with_text('{"a":1,"a":2}')
    assert ask("errors", [newer, broken, bytes(20), FILES["golden"]]) == [
        {"key": "trace_newer", "found": NEWER, "known": TRACE.id},
        {"key": "json_invalid", "reason": "a key occurs twice"},
        {"key": "not_a_trace"},
        None,
    ]


def test_a_browser_that_cannot_compute_digests_says_so(ask: Ask) -> None:
    assert ask("checked", FILES["golden"], True) is True
    assert ask("checked", FILES["golden"], False) is False


# Until version 3 the header's digest is that of Python's text


def test_floats_are_written_as_python_writes_them(ask: Ask) -> None:
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 2**64, 3000, dtype=np.uint64).view(np.float64)
    few = [0.0, -0.0, 1.0, 0.1, 1e-4, 1e-5, 9.999e-5, 1e15, 1e16, 123456789012345680.0, 1e21, 1e22, 5e-324, 1.5e300]
    row = np.concatenate([few, bits[np.isfinite(bits)], np.float64(10.0) ** np.arange(-30, 31)])
    assert ask("floats", row) == [repr(float(value)) for value in row]


def test_json_is_written_as_python_writes_it(ask: Ask) -> None:
    texts = [json.dumps(meta, indent=n) for n, (meta, _) in enumerate(PARTS.values())]
    texts += ['{"\\uff5e": 1, "\\ud83d\\ude00": -0, "a": -0.0, "": [1.0, 1E2, 1, [], {}]}']
    texts += [
        '"\\u0000\\u001f\\u007f\\u2028\\/\\b\\f\\n\\r\\t\\"\\\\"',
        " [true, false, null, 10000000000000000000001]\n",
    ]
    expected = [json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True) for text in texts]
    assert ask("canonical", texts) == expected


def test_the_settings_of_a_header_without_some_are_neutral(ask: Ask) -> None:
    meta, arrays = PARTS["golden"]
    found = ask("trace", put_together(meta | {"sampling": {"temperature": 0.5}}, arrays))
    assert found["header"]["sampling"] == json.loads(json.dumps(asdict(Sampling(temperature=0.5))))
