"""What may be called a function, and how names are shown. Bytes on the wire; text only at the edge that shows them."""

from __future__ import annotations

from farm.errors import PacketRefused
from farm.protocol.limits import FUNCTION_NAME_MAX

# Blanks and control characters would break a line of the admin protocol, which has no quoting. TAB alone is let
# through: Perl's Gearman clients join their `prefix` to the function with it. It is escaped wherever it is shown.
_FORBIDDEN = bytes(byte for byte in range(0x21) if byte != 0x09) + b"\x7f"


def refuse_bad_function(name: bytes) -> None:
    """Raises PacketRefused unless `name` can be a function's name on this server."""
    if not name:
        raise PacketRefused(b"INVALID_FUNCTION_NAME", b"Empty function name")
    if len(name) > FUNCTION_NAME_MAX:
        raise PacketRefused(b"INVALID_FUNCTION_NAME", b"Function name longer than %d bytes" % FUNCTION_NAME_MAX)
    if name.translate(None, _FORBIDDEN) != name:
        raise PacketRefused(b"INVALID_FUNCTION_NAME", b"Blank or control character in function name")


def function_name_fault(name: str) -> str:
    """What is wrong with a name that a person gave, or "" when nothing is. Stricter than the server: no TAB either."""
    if not name:
        return "is empty"
    if any(ord(letter) <= 0x20 or ord(letter) == 0x7F for letter in name) or name.split() != [name]:
        return "contains a blank or a control character"
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > FUNCTION_NAME_MAX:
        return f"is {size} bytes long (at most {FUNCTION_NAME_MAX})"
    return ""


def shown(name: bytes) -> str:
    """A name as text on one line and as one word: blanks and control characters escaped."""
    text = name.decode("utf-8", "replace")
    if text.isprintable() and " " not in text:
        return text
    return "".join(letter if letter.isprintable() and letter != " " else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    """Not only ASCII has blanks, ends of lines and control characters: U+009B begins a terminal's escape sequence."""
    if letter == "\t":
        return "\\t"
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def words_of(text: bytes) -> str:
    """A peer's words on one line: control characters escaped, blanks kept."""
    return " ".join(shown(word) for word in text.split(b" "))


_BREAKING = _FORBIDDEN + b"\t"


def one_word(name: bytes) -> bytes:
    """A name as it may stand in an admin listing: the bytes themselves, but for those that could break the line. Others
    that are no text stay as they are, or two functions would look like one."""
    if name.translate(None, _BREAKING) == name:
        return name
    return b"".join(_escaped(chr(byte)).encode() if byte in _BREAKING else bytes((byte,)) for byte in name)
