"""Files as an attacker or a bad disk would have them: bytes changed anywhere, JSON changed in its structure."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -1.5, 1e308, "", "a", "\x00", "\x7f", "../x",
    "猫" * 300, [], [1], [[]], ["a", "a"], {}, {"a": 1}, {"type": "Sequence"},
)  # fmt: skip
Seal = Callable[[Any], Any]


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, dropped, doubled or put in, or the end gone."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 30))):
        at = rng.randrange(len(made) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            del made[at:]
        elif kind == 1:
            del made[at : at + rng.randrange(1, 9)]
        elif kind == 2:
            made[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            made[at:at] = made[at : at + rng.randrange(1, 99)]
        elif at < len(made):
            made[at] = rng.randrange(256) if kind == 4 else made[at] ^ 1 << rng.randrange(8)
    return bytes(made)


def changed_json(
    data: bytes, rng: random.Random, seal: Seal = lambda parsed: parsed, values: Sequence[Any] = VALUES
) -> bytes:
    """One value or key of a JSON text made something else, or a few. seal: puts digests right again."""
    parsed = json.loads(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(parsed))
        holder, key = rng.choice(places) if places else ([parsed], 0)
        kind = rng.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(("odd", "猫", "", "type", key + "x"))] = holder.pop(key)
        elif kind == 2 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = rng.choice(
                (
                    -holder[key],
                    holder[key] + 1,
                    holder[key] * 2,
                    holder[key] // 2 * 0.5 if abs(holder[key]) < 2**60 else 0.5,
                    str(holder[key]),
                )
            )
        else:
            holder[key] = json.loads(json.dumps(rng.choice(values)))
    return json.dumps(seal(parsed), ensure_ascii=False).encode("utf-8", "surrogatepass")


def _places(parsed: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a parsed JSON text; of a long list or object, some."""
    keys = list(parsed) if isinstance(parsed, dict) else range(len(parsed)) if isinstance(parsed, list) else ()
    found = []
    for key in keys if len(keys) < 50 else [*list(keys)[:5], *list(keys)[-5:]]:
        found += [(parsed, key), *_places(parsed[key])]
    return found
