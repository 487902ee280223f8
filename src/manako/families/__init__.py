"""Families of models, one file each: shape, `config.json` both ways, tensor and GGUF names, forward pass in NumPy."""

from typing import Any

from manako.errors import LoadError
from manako.families import gpt2, llama
from manako.families.family import Family

FAMILIES: tuple[Family[Any], ...] = (gpt2.FAMILY, llama.FAMILY)


def family_of(model_type: object) -> Family[Any]:
    """The family of a `model_type` in config.json. Raises LoadError for one that no family here has."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise LoadError("model_type_unknown", value=model_type, known=known)
