"""A trace as JSON, and other results: what scripts read. Full precision, never translated; bytes in base64."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from manako.analysis.tokens import Piece, Tokens
from manako.trace import SCHEMA, Candidate, Step, Trace


def trace_document(trace: Trace, top: int) -> dict[str, Any]:
    """The whole record as one object, with the `top` first candidates of each step."""
    header = trace.header.to_dict()
    return {
        "schema": SCHEMA,
        "kind": header["kind"],
        "model": header["model"],
        "prompt": {"text": header["prompt"], "ids": trace.columns.prompt_ids.tolist()},
        "sampling": header["sampling"],
        "seed": header["seed"],
        "steps": [step_record(step, top) for step in trace],
        "text": trace.text,
        "end": header["end"],
        "stop": list(header["stop"]),
        "self_checks": [{**check, "ok": check["error"] <= check["limit"]} for check in header["self_checks"]],
    }


def step_record(step: Step, top: int) -> dict[str, Any]:
    """One step: `rank` counts from 1, `index` from 0."""
    shown = step.candidates[:top]
    other = step.other(shown)
    chosen = _candidate(step.chosen)
    return {
        "index": step.index,
        "text_before": step.text_before,
        "window_start": step.window_start,
        "u": step.u,
        "entropy_bits": step.entropy,
        "chosen": {name: chosen[name] for name in ("id", "text", "bytes", "p", "p_model", "rank")},
        "candidates": [_candidate(c) for c in shown],
        "other": {"count": other.count, "p": other.p, "p_model": other.p_model},
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


def _piece(piece: Piece) -> dict[str, Any]:
    return {
        "id": piece.id,
        "text": piece.text,
        "bytes": _base64(piece.bytes),
        "special": piece.special,
        "parts": [asdict(part) for part in piece.parts],
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
