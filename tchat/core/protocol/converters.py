"""Compose the functions that convert a record from and to a map, for each class of records.

To loop over the fields takes twice as long as the same steps written out, and each message is
decoded once and encoded twice. So the source is composed from the fields, and compiled when a class
is first used, as `dataclasses` does for constructors. For `Ok`, it is

    def read(item):
        get = item.get
        v0 = get('re')
        if type(v0) is not int or not 0 <= v0 < 9223372036854775808:
            raise malformed(item, 're')
        v1 = get('seq')
        if v1 is None:
            if 'seq' in item:
                raise malformed(item, 'seq')
        elif type(v1) is not int or not 0 <= v1 < 9223372036854775808:
            raise malformed(item, 'seq')
        return cls(v0, v1)

    def write(shape):
        item = {'type': 'ok', 're': shape.re}
        if (value := shape.seq) is not None:
            item['seq'] = value
        return item

Nothing that comes from outside is part of a source: only the names of fields and types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tchat.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Check = Callable[[object], bool]
    Read = Callable[[Mapping[str, Any]], Any]
    Write = Callable[[Any], dict[str, object]]

INT_LIMIT = 2**63


class Compound(NamedTuple):
    """The conversion of a value; `load` raises TypeError or ValueError if the value is invalid."""

    load: Callable[[Any], Any]
    dump: Callable[[Any], Any]


class Field(NamedTuple):
    """One key of a map: scalars have a `check`, a type or a function; others a `compound`.

    `by_name` says that the constructor takes it only by its name.
    """

    name: str
    check: Check | type
    optional: bool
    compound: Compound | None
    by_name: bool


def compose_read(
    cls: type,
    fields: Sequence[Field],
    malformed: Callable[[Mapping[str, Any], str], ProtocolError],
) -> Read:
    """Return a function that makes a record of a map, or raises what `malformed` returns."""
    names: dict[str, object] = {"cls": cls, "malformed": malformed, "ProtocolError": ProtocolError}
    for index, field in enumerate(fields):
        names[f"check{index}"] = field.check
        names[f"load{index}"] = field.compound.load if field.compound else None
    read: Read = _compiled("read", read_source(fields), names)
    return read


def compose_write(fields: Sequence[Field], word: str | None) -> Write:
    """Return a function that makes a map of a record; `word` is its type, if it is a frame."""
    compounds = ((index, field.compound) for index, field in enumerate(fields))
    names: dict[str, object] = {f"dump{index}": one.dump for index, one in compounds if one}
    write: Write = _compiled("write", write_source(fields, word), names)
    return write


def read_source(fields: Sequence[Field]) -> str:
    """Return the source of `read`; it uses `cls`, `malformed`, and `check1`, `load1` of field 1."""
    lines = ["def read(item):", "    get = item.get"]
    for index, field in enumerate(fields):
        value, key = f"v{index}", repr(field.name)
        refuse = f"raise malformed(item, {key})"
        lines.append(f"    {value} = get({key})")
        if field.optional:
            lines += [f"    if {value} is None:", f"        if {key} in item:"]
            lines.append(f"            {refuse}")
        if field.compound is None:
            condition = _wrong(field.check, value, f"check{index}")
            lines += [f"    {'elif' if field.optional else 'if'} {condition}:", f"        {refuse}"]
            continue
        lines += [] if field.optional else [f"    if {value} is None:", f"        {refuse}"]
        lines += [
            "    else:",
            "        try:",
            f"            {value} = load{index}({value})",
            # A nested record does not know its frame: name the key that holds it.
            "        except (TypeError, ValueError, ProtocolError) as error:",
            f"            {refuse} from error",
        ]
    by_place = [f"v{index}" for index, field in enumerate(fields) if not field.by_name]
    by_name = [f"{field.name}=v{index}" for index, field in enumerate(fields) if field.by_name]
    return "\n".join([*lines, f"    return cls({', '.join(by_place + by_name)})"])


def write_source(fields: Sequence[Field], word: str | None) -> str:
    """Return the source of `write`; it uses `dump1` for field 1."""
    first = [] if word is None else [f"'type': {word!r}"]
    lines: list[str] = []
    for index, field in enumerate(fields):
        key, value = repr(field.name), "value" if field.optional else f"shape.{field.name}"
        dumped = value if field.compound is None else f"dump{index}({value})"
        if field.optional:
            lines.append(f"    if (value := shape.{field.name}) is not None:")
            lines.append(f"        item[{key}] = {dumped}")
        elif lines:  # the order of the keys is that of the fields
            lines.append(f"    item[{key}] = {dumped}")
        else:
            first.append(f"{key}: {dumped}")
    head = ["def write(shape):", f"    item = {{{', '.join(first)}}}"]
    return "\n".join([*head, *lines, "    return item"])


def fits(value: object, check: Check | type) -> bool:
    """Return whether a scalar passes a check: exactly of its type, and integers in their range."""
    if check is int:
        return type(value) is int and 0 <= value < INT_LIMIT
    return type(value) is check if isinstance(check, type) else check(value)


def _wrong(check: Check | type, value: str, name: str) -> str:
    """Return the condition under which a scalar is refused; it says the same as `fits`."""
    if check is int:
        return f"type({value}) is not int or not 0 <= {value} < {INT_LIMIT}"
    return f"type({value}) is not {name}" if isinstance(check, type) else f"not {name}({value})"


def _compiled(name: str, source: str, names: dict[str, object]) -> Any:  # noqa: ANN401
    exec(source, names)  # noqa: S102  # the names of fields and types, nothing else
    return names[name]
