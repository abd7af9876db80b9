r"""A regular expression of a rule's author, rewritten so that PCRE reads it alike as characters and as bytes.

Of bytes a dot, a negated class or ``\S`` takes one where a character beyond ASCII has several, a repetition
repeats the last of them, ``(?i)`` knows ASCII alone, and between characters it also makes ``s`` of ``ſ``. So
each of them is written as a whole character, which of bytes begins at its first byte alone; ``+`` is one of
these and then ``*``, unless a character must follow. Under ``*`` the atom stays as it is: wherever it stops
within a character, nothing that counts goes on there. Dialects that differ in more are refused before
(`patterns`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sigma.types import SigmaRegularExpression

from detection_pack.languages.regex.patterns import tokens, with_exact_end
from detection_pack.languages.spl.spl_characters import ASCII_FOLLOWS, BEYOND_ASCII, character_class, literal
from detection_pack.model.refused_value import RefusedValue

#: Characters that are written by their number in SPL; a bare ``$`` stays (those that are anchors of the whole
#: value have been written in another way, but for those of several lines).
_NAMED = {"\\": r"\x5c", '"': r"\x22", "`": r"\x60", "\n": r"\x0a", "\r": r"\x0d"}
_FLAGS = re.compile(r"\(\?([ims]*)(?:-([ims]+))?([:)])")
_ASCII = [chr(code) for code in range(0x80)]


@dataclass(frozen=True)
class _State:
    """The flags that hold at a place."""

    caseless: bool
    dots: bool


def author_regex(value: SigmaRegularExpression, field: str) -> str:
    """The expression with its flags in front, without a quote or a backtick in it."""
    flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
    atoms = list(_atoms(with_exact_end(value, r"\x0a?\z", r"\x24")))
    state, outer, out = _State("i" in flags, "s" in flags), list[_State](), [f"(?{flags})" if flags else ""]
    for position, atom in enumerate(atoms):
        if atom.startswith("("):
            if not (found := _FLAGS.fullmatch(atom)) or found[3] == ":":
                outer.append(state)
            if found:
                state = _changed(state, found[1], found[2] or "")
            out.append(atom)
        elif atom == ")":
            state = outer.pop() if outer else state
            out.append(atom)
        else:
            following = atoms[position + 1] if position + 1 < len(atoms) else ""
            one, endless = (_rewritten(atom, state, endless, field) for endless in (False, True))
            if following == "+" and one != endless and not _ends_whole(atoms, position + 2):
                out.append(one)
                atoms[position + 1] = "*"
            out.append(endless if following in ("*", "+") else one)
    return "".join(out)


def _ends_whole(atoms: list[str], position: int) -> bool:
    """Whether an endless repetition that is over at ``position`` must end at a whole character, for whatever
    way the expression goes on has a character next, or the end of the value."""
    position += atoms[position : position + 1] in (["?"], ["+"])
    while position < len(atoms):
        atom, following = atoms[position], atoms[position + 1 : position + 2]
        if atom == "|":
            position = _closing(atoms, position)
        elif atom == ")" and not (following and following[0][0] in "*+?{"):
            position += 1
        elif atom in ("$", r"\z", r"\Z"):
            return True
        elif _character(atom) is None or (following and following[0][0] == "{"):
            return False
        elif following not in (["?"], ["*"]):
            return True
        else:
            position += 2
    return True


def _closing(atoms: list[str], position: int) -> int:
    """Where the group ends that ``position`` is in; the end of the expression where it is in none."""
    depth = 0
    while position < len(atoms) and (depth or atoms[position] != ")"):
        depth += (atoms[position][0] == "(") - (atoms[position] == ")")
        position += 1
    return position


def _changed(state: _State, on: str, off: str) -> _State:
    caseless = ("i" in on or state.caseless) and "i" not in off
    return replace(state, caseless=caseless, dots=("s" in on or state.dots) and "s" not in off)


def _atoms(regex: str) -> Iterator[str]:
    """The tokens of an expression, a class as one."""
    inside = ""
    for token, in_class in tokens(regex):
        if not in_class and token != "]" and inside:
            yield inside
            inside = ""
        if in_class or (token[0] == "[" and not inside):
            inside += token
        elif inside and token == "]":
            yield inside + token
            inside = ""
        else:
            yield token
    if inside:
        yield inside


def _rewritten(atom: str, state: _State, endless: bool, field: str) -> str:
    if atom[0] == "[" and len(atom) > 1:
        return _class(atom, state, endless, field)
    if atom == "." or atom in (r"\S", r"\W", r"\D"):
        return atom if endless else f"(?:{ASCII_FOLLOWS}{atom}|{BEYOND_ASCII})"
    character = _character(atom)
    if character is None:
        return atom
    if not character.isascii():
        return f"(?:{literal(character, not state.caseless)})"
    if state.caseless and character in "kKsS":
        return literal(character, cased=False)
    return _written(atom)


def _character(atom: str) -> str | None:
    """The one character that an atom means; None for what means something else."""
    if re.fullmatch(r"\\x[0-9A-Fa-f]{2}", atom):
        return chr(int(atom[2:], 16))
    if len(atom) == 2 and atom[0] == "\\":
        return None if atom[1].isalnum() else atom[1]
    return atom if len(atom) == 1 and atom not in ".^$|*+?{}()" else None


def _written(atom: str) -> str:
    """An atom of ASCII as it may stand in an SPL string."""
    if len(atom) == 2 and atom[0] == "\\":
        named = r"\x24" if atom[1] == "$" else _NAMED.get(atom[1], atom)
        return named if named.isprintable() else f"\\x{ord(atom[1]):02x}"
    if len(atom) == 1:
        return _NAMED.get(atom) or (atom if atom.isprintable() else f"\\x{ord(atom):02x}")
    return atom


def _class(atom: str, state: _State, endless: bool, field: str) -> str:
    """A class as it is where that is read alike, else its ASCII characters and those beyond as alternatives.

    Raises `RefusedValue` for a range of characters beyond ASCII, and for a class of all but some of them.
    """
    plain = re.sub(r"\\x([89A-Fa-f][0-9A-Fa-f])", lambda found: chr(int(found[1], 16)), atom)
    beyond = sorted({c for c in plain if not c.isascii()})
    compiled = re.compile(atom, re.ASCII | (re.IGNORECASE if state.caseless else re.NOFLAG))
    open_ended = compiled.search("\ufffe") is not None
    folds = state.caseless and any((compiled.search(c) is not None) is not open_ended for c in "ks")
    if beyond and open_ended:
        raise RefusedValue("a class of all but a character beyond ASCII is another one of bytes", field)
    if re.search(r"[^\x00-\x7f]-|-[^\x00-\x7f]", plain):
        raise RefusedValue("a range of characters beyond ASCII is another one of bytes", field)
    if not (beyond or folds) and (endless or not open_ended):
        return "".join(_written(token) for token, _ in tokens(atom))
    if open_ended and endless:
        return _sensitive(character_class([c for c in _ASCII if not compiled.search(c)], negated=True))
    listed = [c for c in _ASCII if compiled.search(c)]
    parts = [_sensitive(character_class(listed))] if listed else []
    parts += [BEYOND_ASCII] if open_ended else [literal(c, not state.caseless) for c in beyond]
    return f"(?:{'|'.join(parts)})"


def _sensitive(shown: str) -> str:
    return f"(?-i:{shown})"
