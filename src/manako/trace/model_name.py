"""What a model is called where people see it: its reference without the folders on the way to it.

Special here: a path says who somebody is and what they work on, so it stays in the record on their machine and goes
into no view, picture or export. The name of a hub's model, `org/name`, is no path. tests/vectors/model-names.json holds
the page to the same names.
"""

import re

_PREFIX = re.compile(r"\A[a-z][a-z-]+:")  # of two letters at least: one is a drive
_HUB = re.compile(r"\Ahf:[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w.-]*", re.ASCII)  # the one kind whose slash is no folder's


def model_name(ref: str) -> str:
    """The name for a reference as `load` takes it.

    >>> model_name("/home/me/models/soseki/"), model_name("gguf:../a.gguf"), model_name("run:runs/mine@200")
    ('soseki', 'gguf:a.gguf', 'run:mine@200')
    >>> model_name("demo"), model_name("hf:org/name"), model_name("hf:./folder")
    ('demo', 'hf:org/name', 'hf:folder')
    """
    if _HUB.fullmatch(ref):
        return ref
    found = _PREFIX.match(ref)
    prefix = found[0] if found else ""
    rest = ref[len(prefix) :]
    parts = [part for part in re.split(r"[/\\]", rest) if part not in ("", ".", "..")]
    return prefix + (parts[-1] if parts else rest.strip("/\\"))
