"""Turn the WebAssembly text of the page's kernels into the bytes that their scripts carry, and write them there.

Special here: the part of the text format that the two kernels use: functions with names, folded expressions or one
instruction a line, labels by name; anything else is an error. Source: WebAssembly Core Specification 2.0, sections 5
(binary format) and 6 (text format).
"""

import base64
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WEB = Path(__file__).parents[1] / "src" / "manako" / "views" / "web"
KERNELS = {WEB / "engine" / "kernel.js": "kernel.wat", WEB / "training" / "kernel.js": "kernel.wat"}
BYTES = re.compile(r'(?<=^const BYTES = ")[^"]*(?=";$)', re.MULTILINE)
TYPES = {"i32": 0x7F, "f32": 0x7D, "v128": 0x7B}
PLAIN = {
    **{"drop": 0x1A, "i32.eqz": 0x45, "i32.lt_u": 0x49, "i32.add": 0x6A, "i32.sub": 0x6B, "i32.mul": 0x6C},
    **{"i32.and": 0x71, "i32.shl": 0x74},
    **{"f32.max": 0x97, "f32.sqrt": 0x91, "f32.add": 0x92, "f32.sub": 0x93, "f32.mul": 0x94, "f32.div": 0x95},
}
SIMD = {
    **{"f32x4.splat": 0x13, "f32x4.gt": 0x44, "v128.and": 0x4E, "f32x4.nearest": 0x6A, "i32x4.shl": 0xAB},
    **{"i32x4.add": 0xAE, "f32x4.sqrt": 0xE3, "f32x4.add": 0xE4, "f32x4.sub": 0xE5, "f32x4.mul": 0xE6},
    **{"f32x4.div": 0xE7, "f32x4.min": 0xE8, "f32x4.max": 0xE9, "i32x4.trunc_sat_f32x4_s": 0xF8},
}
MEMORY = {
    **{"f32.load": b"\x2a", "f32.store": b"\x38", "v128.load": b"\xfd\x00"},
    **{"v128.load32_splat": b"\xfd\x09", "v128.store": b"\xfd\x0b"},
}
LOCAL = {"local.get": 0x20, "local.set": 0x21, "local.tee": 0x22}
BLOCK = {"block": b"\x02\x40", "loop": b"\x03\x40"}
ALIGN_4 = 2  # of loads and stores, as a power of 2: what every address here has

Node = Any  # a word, or a list of nodes


def assemble(text: str) -> bytes:
    """The module in its binary form."""
    (module,) = _parsed(text)
    (imported,) = [each for each in module[1:] if each[0] == "import"]
    functions = [_Function(each) for each in module[1:] if each[0] == "func"]
    names = [each.name for each in functions]
    signatures = sorted({each.signature for each in functions})
    exports = [(n, each.exported) for n, each in enumerate(functions) if each.exported]
    memory = _name(imported[1]) + _name(imported[2]) + b"\x02\x00" + _unsigned(int(imported[3][1]))
    return b"\0asm\1\0\0\0" + b"".join(
        [
            _section(1, signatures),
            _section(2, [memory]),
            _section(3, [_unsigned(signatures.index(each.signature)) for each in functions]),
            _section(7, [_name(name) + b"\x00" + _unsigned(n) for n, name in exports]),
            _section(10, [each.code(names) for each in functions]),
        ]
    )


def _parsed(text: str) -> list[Node]:
    """Words, and lists where there are parentheses; a string is its content."""
    stack: list[list[Node]] = [[]]
    for word in re.findall(r'[()]|"[^"]*"|[^\s()"]+', re.sub(r";;.*", "", text)):
        if word == "(":
            stack.append([])
        elif word == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word.strip('"'))
    (whole,) = stack
    return whole


class _Function:
    """One `(func ...)`: what it is called, what it takes, and its instructions."""

    def __init__(self, node: list[Node]) -> None:
        rest = node[1:]
        self.name = rest.pop(0) if isinstance(rest[0], str) else ""
        self.exported = rest.pop(0)[1] if rest[0][0] == "export" else ""
        self._names, kinds = [], {"param": [], "result": [], "local": []}
        while rest and isinstance(rest[0], list) and rest[0][0] in kinds:
            kind, *words = rest.pop(0)
            if kind != "result":
                self._names.append(words[0])
            kinds[kind].append(bytes([TYPES[words[-1]]]))
        self.signature = b"\x60" + _vector(kinds["param"]) + _vector(kinds["result"])
        self._locals = _vector(_unsigned(1) + each for each in kinds["local"])
        self._body = rest

    def code(self, functions: list[str]) -> bytes:
        """Its entry in the section of code."""
        self._functions, self._labels = functions, list[str]()
        whole = self._locals + self._all(self._body) + b"\x0b"
        return _unsigned(len(whole)) + whole

    def _all(self, nodes: list[Node]) -> bytes:
        """Instructions behind each other, folded or not."""
        nodes, made = [*nodes], b""
        while nodes:
            node = nodes.pop(0)
            if isinstance(node, list):
                made += self._folded(node)
            elif node == "end":
                self._labels.pop()
                made += b"\x0b"
            elif node in BLOCK:
                self._labels.append(nodes.pop(0))
                made += BLOCK[node]
            else:
                made += self._one(node, nodes)
        return made

    def _folded(self, node: list[Node]) -> bytes:
        word, rest = node[0], node[1:]
        if word in BLOCK:
            self._labels.append(rest.pop(0))
            made = BLOCK[word] + self._all(rest) + b"\x0b"
            self._labels.pop()
            return made
        own = self._one(word, rest)  # takes what is not an operand
        return self._all(rest) + own

    def _one(self, word: str, rest: list[Node]) -> bytes:
        """One instruction; what belongs to it is taken from `rest`."""
        if word in LOCAL:
            return bytes([LOCAL[word]]) + _unsigned(self._names.index(rest.pop(0)))
        if word == "br_if":
            return b"\x0d" + _unsigned(self._labels[::-1].index(rest.pop(0)))
        if word == "call":
            return b"\x10" + _unsigned(self._functions.index(rest.pop(0)))
        if word == "i32.const":
            return b"\x41" + _signed(int(rest.pop(0)))
        if word == "f32.const":
            return b"\x43" + struct.pack("<f", float(rest.pop(0)))
        if word == "v128.const":
            return b"\xfd\x0c" + _splat(rest)
        if word in MEMORY:
            has_offset = rest and isinstance(rest[0], str) and rest[0].startswith("offset=")
            offset = int(rest.pop(0).removeprefix("offset=")) if has_offset else 0
            return MEMORY[word] + _unsigned(ALIGN_4) + _unsigned(offset)
        if word == "f32x4.extract_lane":
            return b"\xfd\x1f" + bytes([int(rest.pop(0))])
        return b"\xfd" + _unsigned(SIMD[word]) if word in SIMD else bytes([PLAIN[word]])


def _splat(rest: list[Node]) -> bytes:
    """`f32x4 x` or `i32x4 n`: four times the same number; `0` for all zeros."""
    kind = rest.pop(0)
    if kind == "0":
        return bytes(16)
    number = rest.pop(0)
    return 4 * (struct.pack("<f", float(number)) if kind == "f32x4" else struct.pack("<i", int(number)))


def _unsigned(number: int) -> bytes:
    """LEB128."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _unsigned(rest) if rest else bytes([low])


def _signed(number: int) -> bytes:
    """LEB128 of a number that may be negative."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low]) if rest == -(low >> 6) else bytes([low | 0x80]) + _signed(rest)


def _vector(items: Iterable[bytes]) -> bytes:
    listed = list(items)
    return _unsigned(len(listed)) + b"".join(listed)


def _section(kind: int, items: list[bytes]) -> bytes:
    content = _vector(items)
    return bytes([kind]) + _unsigned(len(content)) + content


def _name(text: str) -> bytes:
    return _unsigned(len(text)) + text.encode()


def written(script: str, text: str) -> str:
    """The script with the bytes of this text in it."""
    return BYTES.sub(base64.b64encode(assemble(text)).decode(), script)


if __name__ == "__main__":
    for target, text in KERNELS.items():
        target.write_text(written(target.read_text(), target.with_name(text).read_text()))
