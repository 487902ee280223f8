"""What a request to generate may say, in the words of JSON Schema: checked here, described by the API document.

Special here: the ranges of settings are those of `Stage` and `RunSettings`, which also check them, so that an error has
the same code everywhere. Null leaves a setting out, as None does in Python.
"""

from collections.abc import Mapping
from typing import Any

from manako.checks import Rule, fits
from manako.errors import Names, UsageError
from manako.sampling import DEFAULT_ORDER, STAGES
from manako.server.generations import After
from manako.settings import SETTINGS
from manako.trace.schema import CAPTURES

MOST_STEPS = 2_000  # of one generation
LONGEST_PROMPT = 8_192  # characters; every event of a step has the text before it

TEXT: dict[str, Any] = {"type": "string"}
PROMPT: dict[str, Any] = TEXT | {"maxLength": LONGEST_PROMPT}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
AFTER: Mapping[str, Rule] = {
    "id": TEXT | {"description": "Of the trace"},
    "steps": COUNT | {"description": "How many of its own steps stay in front"},
    "token": COUNT | {"type": ["integer", "null"], "description": "A token that is put next, with an empty prompt"},
}


def _list_of(**words: Any) -> dict[str, Any]:
    return {"type": "array", "items": TEXT | words}


_RULES: Mapping[str, dict[str, Any]] = {
    "max_new_tokens": COUNT | {"maximum": MOST_STEPS},
    "seed": COUNT | {"maximum": 2**64 - 1},
    "stop": _list_of(minLength=1),
    "capture": _list_of(enum=list(CAPTURES)),
    "ablate": _list_of(),
    "special": {"type": "boolean"},
    "chat": {"type": "boolean"},
    "system": PROMPT,
    **{stage.name: stage.rule for stage in STAGES},
    "order": _list_of(enum=list(DEFAULT_ORDER)),
}
SETTING_RULES: Mapping[str, dict[str, Any]] = {
    name: rule | {"type": [rule["type"], "null"]} for name, rule in _RULES.items()
}


def checked(body: Mapping[str, Any]) -> tuple[str, dict[str, Any], After | None]:
    """(prompt, settings, what to go on from) for `Model.generate` or `fork`. Raises UsageError naming the field."""
    given: dict[str, Any] = {"settings": {}, "after": None, **body}
    prompt: str = _field(given, "prompt", TEXT)
    settings: dict[str, Any] = _field(given, "settings", {"type": "object"})
    after: dict[str, Any] | None = _field(given, "after", {"type": ["object", "null"]})
    unknown = [*sorted(given.keys() - {"prompt", "settings", "after"}), *sorted(settings.keys() - SETTINGS)]
    if unknown := [*unknown, *sorted(f"after.{name}" for name in (after or {}).keys() - AFTER)]:
        raise UsageError("serve_no_field", name=", ".join(unknown), known=Names(sorted(SETTINGS)))
    for name, rule in SETTING_RULES.items():
        if "items" in rule:
            _field(settings, name, {"type": rule["type"], "items": TEXT})
    for name, text in (("prompt", prompt), ("system", settings.get("system"))):
        if isinstance(text, str) and len(text) > LONGEST_PROMPT:
            raise UsageError("serve_prompt", name=name, got=len(text), most=LONGEST_PROMPT)
    count = settings.get("max_new_tokens")
    if isinstance(count, int) and count > MOST_STEPS:
        raise UsageError("serve_steps", got=count, most=MOST_STEPS)
    if after is None:
        return prompt, settings, None
    return (
        prompt,
        settings,
        After(**{name: _field(after, name, {"type": rule["type"]}) for name, rule in AFTER.items()}),
    )


def _field(values: Mapping[str, Any], name: str, rule: Rule) -> Any:
    value = values.get(name)
    if not fits(value, rule):
        kind = rule["type"] if isinstance(rule["type"], str) else rule["type"][0]
        raise UsageError("serve_field", name=name, kind="array of strings" if "items" in rule else kind)
    return value
