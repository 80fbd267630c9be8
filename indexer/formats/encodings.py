"""The encoding of a feed's text: by its byte order mark, else UTF-8, else detected; and all of it as UTF-8.

What cannot be decoded comes as the byte FF, which UTF-8 never has: its row is set aside by whoever decodes it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

UTF_8 = "utf-8"
_MARKS = {
    codecs.BOM_UTF8: UTF_8,
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAMPLE = 1 << 16
# What programs of shops export in, the likelier first: among encodings that suit a text equally, the first is taken.
_USUAL = ("cp1252", "cp1250", "cp1251", "gb18030", "cp932", "cp949", "big5", "cp1254", "cp1253", "cp1255", "cp1256")
_RARE = ("cp1257", "koi8_r", "euc_jp")
_MOST_CHAOS = 0.3
_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']""")
_ERRORS = "shelfwise.undecodable"


def marked_encoding(head: bytes) -> str:
    """The encoding that the byte order mark says, or that of ASCII with zeros between; empty without either."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    start = head[:64]
    if len(start) >= 4 and not len(start) % 2:
        for name, zeros, others in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
            if not any(zeros) and all(others):
                return name
    return ""


def declared_encoding(head: bytes) -> str:
    """The encoding that an XML declaration names; empty where there is none, or one that Python does not know."""
    match = _DECLARED.match(head.lstrip())
    return _known(match[1].decode()) if match else ""


def _known(name: str) -> str:
    try:
        return codecs.lookup(name).name if "".encode(name) == b"" else ""
    except (LookupError, ValueError, TypeError):  # a codec such as "hex" is none for text
        return ""


def detected_encoding(head: bytes) -> str:
    """UTF-8 where most lines with more than ASCII are UTF-8 (the others are broken lines), else the likeliest one."""
    whole = head[: head.rfind(b"\n") + 1] or head
    lines = [line for line in whole.split(b"\n") if not line.isascii()]
    if not lines or sum(map(_is_utf8, lines)) * 2 > len(lines):
        return UTF_8
    from charset_normalizer import from_bytes

    names = [*_USUAL, *_RARE]
    found = from_bytes(b"\n".join(lines)[:_SAMPLE], cp_isolation=names, threshold=_MOST_CHAOS)
    ranked = [
        (match.chaos, -match.coherence, names.index(name), name)
        for match in found
        for name in {match.encoding, *match.could_be_from_charset}
        if name in names
    ]
    return min(ranked)[-1] if ranked else _USUAL[0]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def as_utf8(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """The text in UTF-8, without a byte order mark."""
    if encoding == UTF_8:
        yield from _without_mark(chunks)
        return
    decoder = codecs.getincrementaldecoder(encoding)(_ERRORS)
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text.encode(UTF_8, "surrogateescape")
    if text := decoder.decode(b"", final=True):
        yield text.encode(UTF_8, "surrogateescape")


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= len(codecs.BOM_UTF8):
            break
    if start := start.removeprefix(codecs.BOM_UTF8):
        yield start
    yield from chunks


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error(_ERRORS, _undecodable)
