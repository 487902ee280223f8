"""Turn the WebAssembly text of the page's kernel into the bytes that kernel.js carries, and write them there.

Special here: the small part of the text format that kernel.wat uses, one instruction a line, labels and names; anything
else is an error. Source: WebAssembly Core Specification 2.0, section 5 (binary format).
"""

import base64
import re
from collections.abc import Iterable
from pathlib import Path

ENGINE = Path(__file__).parents[1] / "src" / "manako" / "views" / "web" / "engine"
BYTES = re.compile(r'(?<=^const BYTES = ")[^"]*(?=";$)', re.MULTILINE)
TYPES = {"i32": 0x7F, "v128": 0x7B}
PLAIN = {"i32.add": [0x6A], "i32.sub": [0x6B], "i32.lt_u": [0x49], "f32.add": [0x92], "end": [0x0B]}
SIMD = {"f32x4.add": 0xE4, "f32x4.mul": 0xE6}
ALIGN_4 = 2  # of loads and stores, as a power of 2: what every address here has


def assemble(text: str) -> bytes:
    """The module in its binary form."""
    text = re.sub(r";;.*", "", text)
    (module, name, pages) = re.findall(r'\(import "(\w+)" "(\w+)" \(memory (\d+)\)\)', text)[0]
    (exported,) = re.findall(r'\(func \(export "(\w+)"\)', text)
    params, locals_ = (re.findall(rf"\({kind} \$(\w+) (\w+)\)", text) for kind in ("param", "local"))
    names = [each for each, _ in params + locals_]
    code = _code(text[text.rindex("(local ") :].partition("\n")[2].split("\n  )")[0], names)
    groups = b"".join(_unsigned(1) + bytes([TYPES[kind]]) for _, kind in locals_)
    function = _unsigned(len(locals_)) + groups + code
    return b"\0asm\1\0\0\0" + b"".join(
        [
            _section(1, [b"\x60" + _vector(bytes([TYPES[kind]]) for _, kind in params) + _vector([])]),
            _section(2, [_name(module) + _name(name) + b"\x02\x00" + _unsigned(int(pages))]),
            _section(3, [_unsigned(0)]),
            _section(7, [_name(exported) + b"\x00\x00"]),
            _section(10, [_unsigned(len(function)) + function]),
        ]
    )


def _code(text: str, names: list[str]) -> bytes:
    """The instructions of the function, with the end of it."""
    code, labels = bytearray(), list[str]()
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "loop":
            labels.append(rest)
            code += b"\x03\x40"
        elif word == "br_if":
            code += b"\x0d" + _unsigned(labels[::-1].index(rest))
        elif word in ("local.get", "local.set", "local.tee"):
            code.append(0x20 + ("get", "set", "tee").index(word[6:]))
            code += _unsigned(names.index(rest.removeprefix("$")))
        elif word == "i32.const":
            code += b"\x41" + _signed(int(rest))
        elif word == "v128.const":  # of zeros
            code += b"\xfd\x0c" + bytes(16)
        elif word == "v128.load":
            code += b"\xfd\x00" + _unsigned(ALIGN_4) + _unsigned(int(rest.removeprefix("offset=")))
        elif word == "f32x4.extract_lane":
            code += b"\xfd\x1f" + bytes([int(rest)])
        elif word == "f32.store":
            code += b"\x38" + _unsigned(ALIGN_4) + _unsigned(0)
        elif word in SIMD:
            code += b"\xfd" + _unsigned(SIMD[word])
        else:
            code += bytes(PLAIN[word])
            labels = labels[: len(labels) - (word == "end")]
    return bytes(code) + b"\x0b"


def _unsigned(number: int) -> bytes:
    """LEB128."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _unsigned(rest) if rest else bytes([low])


def _signed(number: int) -> bytes:
    """LEB128 of a number that is not negative: one whose first byte would look negative gets another one."""
    return bytes([number | 0x80, 0]) if 0x40 <= number < 0x80 else _unsigned(number)


def _vector(items: Iterable[bytes]) -> bytes:
    listed = list(items)
    return _unsigned(len(listed)) + b"".join(listed)


def _section(kind: int, items: list[bytes]) -> bytes:
    content = _vector(items)
    return bytes([kind]) + _unsigned(len(content)) + content


def _name(text: str) -> bytes:
    return _unsigned(len(text)) + text.encode()


def written(script: str, text: str) -> str:
    """kernel.js with the bytes of this text in it."""
    return BYTES.sub(base64.b64encode(assemble(text)).decode(), script)


if __name__ == "__main__":
    target = ENGINE / "kernel.js"
    target.write_text(written(target.read_text(), (ENGINE / "kernel.wat").read_text()))
