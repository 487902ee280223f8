"""The document of the API, made from what the server checks: settings, ranges, limits and names stand nowhere twice."""

from typing import Any

from manako.checks import Rule
from manako.server.requests import AFTER, COUNT, PROMPT, SETTING_RULES, TEXT
from manako.trace.schema import CAPTURES

SHAPE = ("n_layer", "n_head", "n_embd", "n_positions")
_ABOUT = (
    "Generations while they run, and traces. Every request needs the token of the address that `manako serve` prints, "
    "in the header X-Manako-Token, a Host header that names the server, and an Origin header of its own or none. Only "
    "the page itself (/, /train.html and /assets/...) needs no token; it holds no data. Messages come in the language "
    "of Accept-Language (en or ja)."
)
_READER = "Who asks, by any name: each sees his own traces beside those given at the start. Left out: all of them."
_BODY = (400, 408, 413, 415)  # what can be wrong with a body before anybody has read what it says
_NULL_TEXT: dict[str, Any] = {"type": ["string", "null"]}


def document() -> dict[str, Any]:
    """The whole document, OpenAPI 3.2."""
    return {
        "openapi": "3.2.0",
        "info": {"title": "manako serve", "version": "1", "description": _ABOUT},
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Manako-Token"}},
            "parameters": {"id": {"name": "id", "in": "path", "required": True, "schema": TEXT}},
            "schemas": {
                "Settings": _object(
                    SETTING_RULES, (), description="As for `Model.generate`; what is left out has its default."
                ),
                "Error": _object({"code": TEXT | {"pattern": "^E-[A-Z0-9-]+$"}, "message": TEXT}, more=True),
            },
            "responses": {
                "Error": _answer("What happened and what to do, with a stable code", _component("schemas", "Error")),
                "Events": _events(),
            },
        },
    }


def _paths() -> dict[str, Any]:
    by_id = [_component("parameters", "id")]
    reader: Rule = {"name": "X-Manako-Reader", "in": "header", "schema": TEXT, "description": _READER}
    event_place = {"name": "Last-Event-ID", "in": "header", "schema": COUNT}
    name: dict[str, Any] = {"name": "name", "in": "path", "required": True, "schema": TEXT}
    html = {"description": "HTML", "content": {"text/html": {"schema": TEXT}}}
    files = {kind: {"schema": TEXT} for kind in ("text/plain", "text/javascript", "text/css")}
    about_files = (
        "A script or the style of the page, with a digest of its content in its name, out of a table made at the "
        "start; offline.txt is the whole page as one file without a record"
    )
    about_generate = (
        "Waits for the model while it loads. The generation stops when nobody reads it any more. What was made until "
        "then is a trace with the id of the event start."
    )
    about_traces = "The traces that can be fetched: the files that the server was started with, then what was generated"
    asked = {"id": TEXT}
    stopping = _asks(_object(asked, more=True)) | {
        "responses": _answers(_answer("It will end", _object(asked, more=True)), 404, *_BODY)
    }
    stopping |= {"summary": "Let a generation end after the step in hand; its readers get the event end"}
    return {
        "/": _get("The page, without any data", html, security=[]),
        "/train.html": _get("The page that trains, as one file with its scripts inside", html, security=[]),
        "/assets/{name}": _get(
            about_files,
            {"description": "JavaScript, CSS or text", "content": files},
            404,
            security=[],
            parameters=[name],
        ),
        "/api/openapi.json": _get("This document", _answer("OpenAPI 3.2", {"type": "object"})),
        "/api/model": _get("The model; while it loads, only its reference", _answer(*_model())),
        **_of_models(by_id),
        "/api/traces": _get(about_traces, _answer("Oldest first", _traces()), parameters=[reader]),
        "/api/traces/{id}": _get(
            "One trace, as the bytes of its .manako file",
            {"description": "safetensors", "content": {"application/octet-stream": {}}},
            404,
            parameters=by_id,
        ),
        "/api/dynamics": _dynamics(),
        "/api/generate": {
            "post": {
                "summary": "Generate, and stream every step as it is made",
                "description": about_generate,
                "parameters": [reader],
                **_asks(_generate()),
                "responses": _answers(_component("responses", "Events"), 404, 422, 429, 503, *_BODY),
            }
        },
        "/api/runs/{id}": _get(
            "Read a generation that runs or waits along with others, from its start or after an event",
            _component("responses", "Events"),
            404,
            parameters=[*by_id, event_place],
        ),
        "/api/stop": {"post": stopping},
    }


def _of_models(by_id: list[dict[str, Any]]) -> dict[str, Any]:
    """What a page fetches of the models here, by their digests."""
    return {
        "/api/merges/{id}": _get(
            "The merges of a vocabulary by its SHA-256, and how often its training corpus has each where that is there",
            _answer("null where no model here has it, or it has none", {"type": ["object", "null"]}),
            503,
            parameters=by_id,
        ),
        "/api/models/{id}": _get(
            "A model for the page to run by itself, by its weights_sha256; only where in_page is true",
            {"description": "manako.model/1", "content": {"application/octet-stream": {}}},
            404,
            503,
            parameters=by_id,
        ),
    }


def _model() -> tuple[str, Rule]:
    shape = {"type": "object", "required": list(SHAPE), "additionalProperties": COUNT}
    each: dict[str, Rule] = {
        "captures": {"type": "array", "items": {"enum": list(CAPTURES)}},
        "weights_sha256": TEXT,
        "tokenizer_sha256": TEXT,
        "in_page": {"type": "boolean", "description": "Whether the page can run it by itself"},
    }
    texts = TEXT | {"description": "Which prompts it is for: a pattern of JavaScript"}
    known: dict[str, Rule] = {
        "ready": {"type": "boolean"},
        "ref": TEXT,
        "shape": shape,
        "vocab_size": {"type": "integer", "minimum": 1},
        **each,
        "beside": {
            "type": "array",
            "items": _object({"ref": TEXT, "reads": texts, **each}),
            "description": "Other embedded models, which write where a prompt is in their language",
        },
    }
    return "The fields after ref are there once ready is true", _object(known, ("ready", "ref"))


def _traces() -> Rule:
    parent = "The trace that it goes on from; null where there is none, or none any more"
    trace: dict[str, Rule] = {
        "id": TEXT,
        "title": TEXT,
        "bytes": COUNT,
        "parent": _NULL_TEXT | {"description": parent},
        "keep": COUNT | {"description": "How many of the parent's own steps it goes on behind"},
    }
    listed: dict[str, Rule] = {
        "traces": {"type": "array", "items": _object(trace)},
        "current": _NULL_TEXT | {"description": "The one to show first, if any"},
    }
    return _object(listed, more=True)


def _generate() -> Rule:
    prompt = "With after: text that is put behind its steps, or the empty one"
    after = (
        "Go on from a trace of this model instead of starting anew, with the same luck; settings left out are then the "
        "trace's own, max_new_tokens aside"
    )
    asked: dict[str, Rule] = {
        "prompt": PROMPT | {"description": prompt},
        "after": _object(AFTER, ("id", "steps"), description=after) | {"type": ["object", "null"]},
        "settings": _component("schemas", "Settings"),
    }
    return _object(asked, ("prompt",))


def _events() -> Rule:
    about = (
        "Server-sent events, numbered from 1: start; step, as in `manako watch --jsonl`; error; end, where id is the "
        "trace's. Comments keep the connection alive."
    )
    start = ("id", "parent", "first_step", "schema", "kind", "model", "prompt", "sampling", "seed", "ablate", "capture")
    step = ("index", "text_before", "window_start", "u", "entropy_bits")
    parent = _object({"id": TEXT, "keep": COUNT}, more=True) | {"type": ["object", "null"]}
    data: dict[str, Rule] = {
        "start": _object({"id": TEXT, "parent": parent, "first_step": COUNT}, start, more=True),
        "step": {"type": "object", "required": [*step, "chosen", "candidates", "other", "stages"]},
        "error": _component("schemas", "Error"),
        "end": {"type": "object", "required": ["id", "text", "end", "self_checks"]},
    }
    each = [{"properties": {"event": {"const": n}, "data": {"contentSchema": rule}}} for n, rule in data.items()]
    fields = {"id": TEXT | {"pattern": "^[1-9][0-9]*$"}, "data": TEXT | {"contentMediaType": "application/json"}}
    item = _object(fields, ("id", "event", "data"), more=True) | {"oneOf": each}
    return {"description": about, "content": {"text/event-stream": {"itemSchema": item}}}


def _object(
    properties: Any, required: tuple[str, ...] | None = None, more: bool = False, **words: Any
) -> dict[str, Any]:
    """An object. required: by default all properties; more: whether it may have others."""
    needed = list(properties if required is None else required)
    rule = {"type": "object", **words} | ({"required": needed} if needed else {})
    return rule | ({} if more else {"additionalProperties": False}) | {"properties": dict(properties)}


def _component(kind: str, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _asks(rule: Rule) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": rule}}}}


def _answer(about: str, rule: Rule) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": rule}}}


def _answers(good: Rule, *errors: int) -> dict[str, Any]:
    """What comes back, by status; every request can be refused with 403."""
    return {"200": good} | {str(status): _component("responses", "Error") for status in sorted({403, *errors})}


def _dynamics() -> dict[str, Any]:
    known = {"name": "known", "in": "query", "schema": TEXT, "description": "The ETag of the record that a reader has"}
    file: Rule = {"description": "manako.dynamics/2", "content": {"application/octet-stream": {}}}
    asked = _get("The record of the training that is served, if one is", file, 404, parameters=[known])
    asked["get"]["responses"] |= {"204": {"description": "It is that one still"}}
    return asked


def _get(summary: str, good: Rule, *errors: int, **words: Any) -> dict[str, Any]:
    return {"get": {"summary": summary, **words, "responses": _answers(good, *errors)}}
