"""A trace as JSON, and other results: what scripts read. Full precision, never translated; bytes in base64."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from manako.analysis.aligned import Aligned
from manako.analysis.attention import StepAttention
from manako.analysis.compare import Comparison
from manako.analysis.contributions import Contributed, Why
from manako.analysis.dynamics import TokenLife, lives, nearest, passed, strongest_heads
from manako.analysis.evidence import Evidence, Occurrences, SearchedText
from manako.analysis.lens import LensStep, LensToken
from manako.analysis.merges import Replay
from manako.analysis.tokens import Piece, Tokens
from manako.analysis.training_step import TokenChange, TrainingStep
from manako.trace.captures import LENS_TOP
from manako.trace.dynamics import Dynamics
from manako.trace.model_name import model_name
from manako.trace.record import Candidate, ModelInfo, Step, Trace, bytes_to_text
from manako.trace.schema import CAPTURES

SCHEMA = "manako.steps/1"  # of this JSON; the file's own is another


def trace_document(trace: Trace, top: int) -> dict[str, Any]:
    """The whole record as one object, with the `top` first candidates of each step."""
    header = trace.header.to_dict()
    header["model"]["ref"] = model_name(header["model"]["ref"])
    return {
        "schema": SCHEMA,
        "kind": header["kind"],
        "model": header["model"],
        "prompt": {"text": header["prompt"], "ids": trace.columns.prompt_ids.tolist()},
        "sampling": header["sampling"],
        "seed": header["seed"],
        "first_step": header["first_step"],
        "ablate": list(header["ablate"]),
        "capture": list(header["capture"]),
        "rounded": header["rounded"],
        "steps": [step_record(step, top) for step in trace],
        "text": trace.text,
        "end": header["end"],
        "stop": list(header["stop"]),
        "self_checks": [check.to_dict() | {"ok": check.ok} for check in trace.header.self_checks],
    }


def info_document(
    info: ModelInfo,
    parameters: int,
    tokens: Mapping[str, Sequence[bytes]],
    lacks: Mapping[str, str],
    template: str | None,
) -> dict[str, Any]:
    """What a model is. tokens: what starts and ends a text. lacks: capture -> why the model cannot give it."""
    return {
        "schema": "manako.info/1",
        **vars(info),
        "parameters": parameters,
        **{name: [bytes_to_text(token) for token in found] for name, found in tokens.items()},
        "captures": [name for name in CAPTURES if name not in lacks],
        "lacks": lacks,
        "chat_template": template,
    }


def comparison_document(comparison: Comparison, top: int) -> dict[str, Any]:
    """Runs of one prompt. `left` of a run: with whom it agrees longest, and its step where they part, from 0."""
    every = range(len(comparison.traces))
    near = [comparison.nearest(run, [other for other in every if other != run]) for run in every]
    left = [{"run": other, "step": comparison.parts(run, other)} for run, other in enumerate(near)]
    return {
        "schema": "manako.comparison/1",
        "diverged_at": comparison.diverged_at,
        "left": left,
        "runs": [trace_document(trace, top) for trace in comparison.traces],
    }


def step_record(step: Step, top: int) -> dict[str, Any]:
    """One step: `rank` counts from 1, `index` from 0."""
    shown = step.candidates[:top]
    chosen = _candidate(step.chosen)
    return {
        "index": step.number - 1,
        "text_before": step.text_before,
        "window_start": step.window_start,
        "u": step.u,
        "entropy_bits": step.entropy,
        "chosen": {name: chosen[name] for name in ("id", "text", "bytes", "p", "p_model", "rank")},
        "candidates": [_candidate(c) for c in shown],
        "other": asdict(step.other(shown)),
        "stages": [{"name": s.name, "kept": s.kept, "removed_mass": s.removed_mass} for s in step.stages],
    }


def _candidate(c: Candidate) -> dict[str, Any]:
    return {
        "id": c.id,
        "text": c.text,
        "bytes": _base64(c.bytes),
        "logit": c.logit if c.logit > float("-inf") else None,
        "p": c.p,
        "p_model": c.p_model,
        "rank": c.rank,
        "cut_by": c.cut_by,
    }


def tokens_document(found: Sequence[Tokens]) -> dict[str, Any]:
    """One text as each of one or more tokenizers cuts it; `number` of a part counts from 1."""
    text = found[0].given
    return {
        "schema": "manako.tokens/1",
        "text": text,
        "characters": len(text),
        "bytes": len(text.encode("utf-8")),
        "tokenizers": [
            {
                "ref": tokens.ref,
                "sha256": tokens.fingerprint,
                "vocab_size": tokens.vocab_size,
                "count": len(tokens.pieces),
                "characters_per_token": tokens.characters_per_token,
                "bytes_per_token": tokens.bytes_per_token,
                "as_given": tokens.as_given,
                "tokens": [_piece(piece) for piece in tokens.pieces],
            }
            for tokens in found
        ],
    }


def merges_document(found: Sequence[Replay]) -> list[dict[str, Any]]:
    """How each of one or more BPE vocabularies put one text together; places are bytes of what it read."""
    return [
        {
            "ref": replay.ref,
            "begin": replay.begin,
            "merges": [
                {
                    "rank": merge.rank,
                    "left": _base64(merge.left),
                    "right": _base64(merge.right),
                    "places": merge.places,
                    "count": merge.count,
                }
                for merge in replay.merges
            ],
        }
        for replay in found
    ]


def _piece(piece: Piece) -> dict[str, Any]:
    return {
        "id": piece.id,
        "text": piece.text,
        "bytes": _base64(piece.bytes),
        "special": piece.special,
        "parts": [asdict(part) for part in piece.parts],
    }


def evidence_document(trace: Trace, corpus: SearchedText, found: Sequence[Evidence], top: int) -> dict[str, Any]:
    """Steps of a record beside the training side of a corpus; in each context the `top` most frequent followers."""
    document = {name: value for name, value in trace_document(trace, top).items() if name != "steps"}
    return document | {
        "schema": "manako.evidence/1",
        "corpus": asdict(corpus),
        "steps": [_evidence_record(each, top) for each in found],
    }


def _evidence_record(found: Evidence, top: int) -> dict[str, Any]:
    """One step as in a trace, and `contexts`: of the last token, of the last two ... as long as they occur."""
    shown = found.candidates(top)
    return step_record(found.step, top) | {
        "candidates": [_candidate(c) for c in shown],
        "other": asdict(found.step.other(shown)),
        "looked_for": {"ids": list(found.context), "more": found.more},
        "contexts": [_context(found, o, top) for o in found.occurrences],
    }


def _context(found: Evidence, o: Occurrences, top: int) -> dict[str, Any]:
    ids = found.context[-o.length :]
    return {
        "length": o.length,
        "bytes": _base64(found.step.vocabulary.join(ids)),
        "count": o.count,
        "different_followers": len(o.followers),
        "followers": [
            {"id": f.id, "text": f.text, "bytes": _base64(f.bytes), "count": f.count} for f in found.followers(o, top)
        ],
        "chosen_count": o.followers.get(found.step.token_id, 0),
        "candidate_counts": [o.followers.get(c.id, 0) for c in found.candidates(top)],
    }


def attention_document(trace: Trace, found: StepAttention) -> dict[str, Any]:
    """One step's attention: every list over keys is in the order of `keys`; `sinks` are places in that order."""
    return _inside(trace, found.step, "manako.attention/1") | {
        "keys": [{"position": k.position, "id": k.id, "text": k.text, "bytes": _base64(k.bytes)} for k in found.keys],
        "mean": found.mean.tolist(),
        "per_layer": found.per_layer.tolist(),
        "per_head": found.per_head.tolist(),
        "rollout": None if found.rollout is None else found.rollout.tolist(),
        "rollout_lacks": found.rollout_lacks,
        "entropy_bits": found.entropy.tolist(),
        "sinks": list(found.sink_heads),
    }


def lens_document(trace: Trace, found: LensStep) -> dict[str, Any]:
    """One step through the logit lens; `appears` and `wins` are names out of `layers`, None where it never does."""

    def name(place: int | None) -> str | None:
        return None if place is None else found.layers[place]

    rows = zip(found.layers, found.chosen, found.first, strict=True)
    return _inside(trace, found.step, "manako.lens/1") | {
        "appears": name(found.appears),
        "wins": name(found.wins),
        "layers": [
            {"layer": layer, "p": chosen.p, "rank": chosen.rank, "candidates": [_reading(r) for r in first]}
            for layer, chosen, first in rows
        ],
        "tracked": [_token(row[0]) | {"p": [r.p for r in row], "rank": [r.rank for r in row]} for row in found.tracked],
    }


def dynamics_document(found: Dynamics) -> dict[str, Any]:
    """One text under the snapshots of a training: a list has a number for each snapshot, in the order of `steps`."""
    columns = found.columns
    groups = [
        name for name in ("ngram_kl", "guess_bits", "held_out_bits", "head_score", "head_chance") if name in columns
    ]
    return {
        "schema": "manako.dynamics_summary/1",
        "run": model_name(found.header.run),
        "text": found.header.text,
        "steps": list(found.steps),
        "damaged": list(found.header.damaged),
        "bits_per_character": found.bits_per_character.tolist(),
        "tokens": [
            _token(life)
            | {"p_model": life.p.tolist(), "rank": rank, "lens_layer": layer, "first_place": life.first_place}
            for life, rank, layer in zip(lives(found), found.rank.T.tolist(), found.lens_layer.T.tolist(), strict=True)
        ],
        "passed": [asdict(each) for each in passed(found)],
        "nearest": [asdict(each) for each in nearest(found)],
        "strongest_heads": [asdict(each) for each in strongest_heads(found)],
        "continuations": [bytes_to_text(t.vocabulary.join(t.columns.token_id.tolist())) for t in found.continuations],
    } | {name: columns[name].tolist() for name in groups}


def aligned_document(found: Aligned) -> dict[str, Any]:
    """One text under two models: each list has the first model's number and the second's, null where it is infinite."""

    def known(*bits: float) -> list[float | None]:
        return [b if math.isfinite(b) else None for b in bits]

    return {
        "schema": "manako.aligned/1",
        "models": [model_name(ref) for ref in found.refs],
        "given": found.given,
        "characters": found.characters,
        "tokens": [found.tokens(0), found.tokens(1)],
        "bits_per_character": known(found.bits_per_character(0), found.bits_per_character(1)),
        "stretches": [
            asdict(s) | {"bits": known(*s.bits), "difference": known(s.difference)[0]} for s in found.stretches
        ],
    }


def training_step_document(found: TrainingStep) -> dict[str, Any]:
    """One step of training: all of its numbers in bits, but for `loss`, which is in nats as in the log of a run."""
    return {
        "schema": "manako.training_step/1",
        **vars(found),
        "run": model_name(found.run),
        "tokens": [_token(t) | {"before": t.before, "after": t.after, "change": t.change} for t in found.tokens],
        "parts": [asdict(part) | {"relative": part.relative} for part in found.parts],
        "before": found.before,
        "after": found.after,
        "change": found.change,
        "predicted": found.predicted,
    }


def why_document(trace: Trace, on_record: Contributed, found: Why) -> dict[str, Any]:
    """What every part added to one token, or to `token` rather than `rather_than`; they sum to `logit`."""
    return _inside(trace, on_record.step, "manako.why/1") | {
        "token": _candidate(found.token),
        "rather_than": None if found.rival is None else _candidate(found.rival),
        "logit": found.logit,
        "sum": found.total,
        "remainder": found.remainder,
        "groups": found.groups,
        "layers": [asdict(layer) for layer in found.layers],
        "parts": [asdict(part) for part in found.parts],
        "on_record": [_token(c) for c in on_record.tokens],
    }


def _inside(trace: Trace, step: Step, schema: str) -> dict[str, Any]:
    """What every look inside one step begins with: the run, and the step as in a trace."""
    document = {name: value for name, value in trace_document(trace, 0).items() if name != "steps"}
    return document | {"schema": schema, "step": step_record(step, LENS_TOP)}


def _reading(reading: LensToken) -> dict[str, Any]:
    return _token(reading) | {"p": reading.p, "rank": reading.rank}


def _token(token: LensToken | Candidate | TokenLife | TokenChange) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "bytes": _base64(token.bytes)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
