"""The pickle inside a checkpoint, read as data: opcodes become plain records, names stay names.

Special here: nothing is looked up, imported, called or evaluated, so there is nothing for a file to run. A closed list
of about thirty opcodes and a handful of names is understood: what `torch.save` writes at its default protocol 2, and
what a table of texts and numbers needs in protocols 3 to 5; all else is refused, since lists of *bad* names fail.
Nothing walks, hashes or compares a structure deeper than the flat tuples below, so nesting and sharing through the memo
cannot cost more than the bytes that ask for it.
Source of the opcodes: `pickletools` in CPython, which is not imported because it imports `pickle`.
"""

import re
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from manako.errors import LoadError

STORAGES = {  # torch class -> how its numbers lie in the file
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
CLASSES = ("GPTConfig", "BPETokenizer")  # by name alone: the article's scripts pickle them from `__main__` or a module
_U8, _U16, _U32, _I32, _U64, _F64 = (struct.Struct(layout) for layout in ("<B", "<H", "<I", "<i", "<Q", ">d"))
_FUNCTIONS = ("collections.OrderedDict", "_codecs.encode", "torch._utils._rebuild_tensor_v2")

MAX_BYTES = 8 << 20  # a vocabulary of 50,000 merges takes about 4 MB, 700,000 opcodes, 200,000 memo slots
MAX_OPCODES = 800_000
MAX_MEMO = 300_000
MAX_STACK = 10_000  # a pickler puts at most 1,000 pairs on the stack at a time
MAX_MARKS = 16  # open at once; a checkpoint needs five
MAX_TUPLE = 8
MAX_TEXT = 4_096  # bytes of one string
MAX_ENCODED = 16 << 20  # bytes that `_codecs.encode` may make in all


@dataclass(frozen=True, slots=True)
class Name:
    """A global, as the text that the file holds."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        """module.name"""
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Storage:
    """A torch storage: the numbers of a tensor, in the zip member data/`key`."""

    dtype: str
    """One of those of `STORAGES`."""
    key: str
    size: int
    """Count of numbers, as declared."""


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """What `torch._utils._rebuild_tensor_v2` would have been given."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(slots=True)
class Instance:
    """An object of one of `CLASSES`: the class name and the attributes that the file gives it."""

    class_name: str
    state: dict[Any, Any] | None = None


def read_pickle(data: bytes, file: Path) -> Any:
    """The value that a pickle describes, made of dict, list, tuple, str, bytes, numbers, None and the records above.

    data: at most MAX_BYTES, which the caller sees to before reading them. file: for messages. Raises LoadError naming
    the global, or what is not understood and where it stands.
    """
    return _Machine(data, file).run()


class _Machine:
    """A stack machine over the opcodes of `_UNDERSTOOD`."""

    def __init__(self, data: bytes, file: Path) -> None:
        self.data, self.file = data, file
        self.at = 0  # the next byte
        self.opcode_at = 0
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # the stacks below each open MARK
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.encoded = 0

    def run(self) -> Any:
        if self.take(1) != b"\x80" or self.take(1) not in b"\x02\x03\x04\x05":
            self.refuse("not pickle protocol 2 to 5")
        for _ in range(MAX_OPCODES):
            self.opcode_at = self.at
            opcode = self.take(1)
            if opcode == b".":
                return self.finish()
            step = _UNDERSTOOD.get(opcode)
            if step is None:
                self.refuse(f"opcode 0x{opcode[0]:02x}")
            step(self)
            if len(self.stack) > MAX_STACK:
                self.refuse(f"more than {MAX_STACK} values on the stack")
        self.refuse(f"more than {MAX_OPCODES} opcodes")

    def finish(self) -> Any:
        if self.outer or len(self.stack) != 1:
            self.refuse("STOP, but the stack does not hold one value")
        if self.at != len(self.data):
            self.refuse(f"{len(self.data) - self.at} bytes behind STOP")
        return self.stack.pop()

    def refuse(self, reason: str) -> NoReturn:
        raise LoadError("legacy_pickle", file=self.file, reason=reason, at=self.opcode_at)

    # ---- taking: bytes from the file, values from the stack

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            self.refuse("the data ends too early")
        return self.data[start : self.at]

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self.take(layout.size))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 200)
        if end < 0:
            self.refuse("a name without end")
        text = self.take(end - self.at).decode("ascii", "backslashreplace")
        self.at += 1
        return text

    def pop(self) -> Any:
        if not self.stack:
            self.refuse("the stack is empty")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.outer:
            self.refuse("no MARK is open")
        items, self.stack = self.stack, self.outer.pop()
        return items


# ---- opcodes: each pushes what it describes


def _mark(m: _Machine) -> None:
    if len(m.outer) == MAX_MARKS:
        m.refuse(f"nesting deeper than {MAX_MARKS}")
    m.outer.append(m.stack)
    m.stack = []


def _text(m: _Machine, layout: struct.Struct) -> None:
    size = m.number(layout)
    if size > MAX_TEXT:
        m.refuse(f"a string of {size} bytes")
    try:
        m.stack.append(m.take(size).decode("utf-8"))
    except UnicodeDecodeError:
        m.refuse("a string that is not UTF-8")


def _long(m: _Machine) -> None:
    size = m.number(_U8)
    if size > 8:
        m.refuse(f"an integer of {size} bytes")
    m.stack.append(int.from_bytes(m.take(size), "little", signed=True))


def _put(m: _Machine, slot: int) -> None:
    if slot in m.memo or len(m.memo) == MAX_MEMO:  # no pickler fills a slot twice
        m.refuse(f"memo slot {slot} is taken or one too many")
    if not m.stack:
        m.refuse("the stack is empty")
    m.memo[slot] = m.stack[-1]


def _get(m: _Machine, layout: struct.Struct) -> None:
    slot = m.number(layout)
    if slot not in m.memo:
        m.refuse(f"memo slot {slot} is empty")
    m.stack.append(m.memo[slot])


def _make_tuple(m: _Machine, items: list[Any]) -> None:
    if len(items) > MAX_TUPLE:
        m.refuse(f"a tuple of {len(items)}")
    # Two levels are all that a tensor needs. Deeper ones, doubled by the memo, would take 2^depth steps to hash.
    if any(type(part) is tuple for item in items if type(item) is tuple for part in item):
        m.refuse("tuples nested deeper than 2")
    m.stack.append(tuple(items))


def _append(m: _Machine, items: list[Any]) -> None:
    if not m.stack or type(m.stack[-1]) is not list:
        m.refuse("APPEND to what is no list")
    m.stack[-1].extend(items)


def _set_items(m: _Machine, items: list[Any]) -> None:
    if not m.stack or type(m.stack[-1]) not in (dict, OrderedDict) or len(items) % 2:
        m.refuse("SETITEM on what is no dict, or an odd count")
    target = m.stack[-1]
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int) and not is_integers(key):  # bool is out: True would be the key 1
            m.refuse(f"a dict key of type {type(key).__name__}")
        if key in target:
            m.refuse(f"the key {key!r} twice in one dict")
        target[key] = value


def _name(m: _Machine) -> None:
    found = Name(m.line(), m.line())
    known = found.dotted in STORAGES or found.dotted in _FUNCTIONS
    if not known and not (found.name in CLASSES and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", found.module)):
        raise LoadError("legacy_global", file=m.file, name=ascii(found.dotted)[1:-1])
    m.stack.append(found)


def _persistent_id(m: _Machine) -> None:
    match m.pop():
        case ("storage", Name() as kind, str() as key, str(), int() as size):
            pass
        case _:
            m.refuse("a persistent id that names no storage")
    if kind.dotted not in STORAGES or not re.fullmatch(r"0|[1-9][0-9]{0,8}", key) or type(size) is not int:
        m.refuse("a persistent id that names no storage")
    storage = Storage(STORAGES[kind.dotted], key, size)
    if m.storages.setdefault(key, storage) != storage:
        m.refuse(f"storage {key} declared in two ways")
    m.stack.append(storage)


def _reduce(m: _Machine) -> None:
    given, function = m.pop(), m.pop()
    called = function.name if isinstance(function, Name) else type(function).__name__
    match called, given:  # the last part will do: `_name` let only known ones in
        case "OrderedDict", ():
            m.stack.append(OrderedDict())
        case "encode", (str() as text, "latin1"):
            m.stack.append(_encode(m, text))
        case "_rebuild_tensor_v2", (Storage() as storage, int() as offset, shape, stride, bool(), hooks):
            if not (is_integers(shape) and is_integers(stride) and type(offset) is int and hooks == {}):
                m.refuse("a tensor with strange arguments")
            m.stack.append(TensorRecord(storage, offset, shape, stride))
        case _:
            m.refuse(f"REDUCE of {called} with strange arguments")


def _encode(m: _Machine, text: str) -> bytes:
    m.encoded += len(text)
    if m.encoded > MAX_ENCODED:
        m.refuse(f"more than {MAX_ENCODED} encoded bytes")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        m.refuse("bytes that are not Latin-1")


def _new_object(m: _Machine) -> None:
    given, cls = m.pop(), m.pop()
    if not isinstance(cls, Name) or cls.name not in CLASSES or given != ():
        m.refuse("NEWOBJ of an unknown class, or with arguments")
    m.stack.append(Instance(cls.name))


def _build(m: _Machine) -> None:
    state = m.pop()
    target = m.stack[-1] if m.stack else None
    if isinstance(target, Instance) and target.state is None and type(state) is dict:
        target.state = state
    elif not (type(target) is OrderedDict and type(state) is dict and state.keys() == {"_metadata"}):
        # _metadata holds module versions of a state_dict, none of which matters here
        m.refuse("BUILD of an unknown object, or for the second time")


def is_integers(value: object) -> bool:
    """Whether a value is a flat tuple of whole numbers, True and False not among them."""
    return type(value) is tuple and all(type(item) is int for item in value)


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(make(m))


_UNDERSTOOD: dict[bytes, Callable[[_Machine], None]] = {
    b"(": _mark,
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"K": _push(lambda m: m.number(_U8)),
    b"M": _push(lambda m: m.number(_U16)),
    b"J": _push(lambda m: m.number(_I32)),
    b"\x8a": _long,
    b"G": _push(lambda m: m.number(_F64)),
    b"X": lambda m: _text(m, _U32),
    b"\x8c": lambda m: _text(m, _U8),
    b"}": _push(lambda m: {}),
    b"]": _push(lambda m: []),
    b")": _push(lambda m: ()),
    b"t": lambda m: _make_tuple(m, m.pop_to_mark()),
    b"\x85": lambda m: _make_tuple(m, [m.pop()]),
    b"\x86": lambda m: _make_tuple(m, [m.pop(), m.pop()][::-1]),
    b"\x87": lambda m: _make_tuple(m, [m.pop(), m.pop(), m.pop()][::-1]),
    b"s": lambda m: _set_items(m, [m.pop(), m.pop()][::-1]),
    b"u": lambda m: _set_items(m, m.pop_to_mark()),
    b"a": lambda m: _append(m, [m.pop()]),
    b"e": lambda m: _append(m, m.pop_to_mark()),
    b"q": lambda m: _put(m, m.number(_U8)),
    b"r": lambda m: _put(m, m.number(_U32)),
    b"\x94": lambda m: _put(m, len(m.memo)),
    b"\x95": lambda m: m.number(_U64),  # a frame: how many bytes follow, which says nothing new
    b"h": lambda m: _get(m, _U8),
    b"j": lambda m: _get(m, _U32),
    b"c": _name,
    b"Q": _persistent_id,
    b"R": _reduce,
    b"\x81": _new_object,
    b"b": _build,
}
