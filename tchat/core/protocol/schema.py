"""Frames as dataclasses: the fields of the class are the keys of the CBOR map.

A field's annotation is its check: `int` (0 to 2**63-1, never a bool), `str`, `bytes`, `bool`, a
`tuple` of any number of one of these, a `Literal` of strings, and any of these `| None` for a key
that may be absent.
Keys that no field claims are ignored, so that frames may grow; a missing or mistyped key makes
the frame malformed. `protocol.cddl` says the same to programs in other languages.
"""

from __future__ import annotations

import dataclasses
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    Check = Callable[[object], bool]
    Fields = tuple[tuple[str, Check | type, bool], ...]

T = TypeVar("T")

INT_LIMIT = 2**63


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a dataclass whose objects nobody changes: the type checker sees to that.

    At run time nothing does. That would cost each object, of which every message makes several,
    four times as long to be made.
    """
    return dataclasses.dataclass(slots=True, unsafe_hash=True)(cls)


class Shape:
    """A map with a known shape: what frames and the bodies of events have in common."""

    __slots__ = ()

    def to_map(self) -> dict[str, object]:
        """Return the keys and values that go on the wire; absent optional fields are left out."""
        return {
            name: value
            for name, _, _ in _KNOWN[type(self)]
            if (value := getattr(self, name)) is not None
        }

    @classmethod
    def from_map(cls, item: Mapping[str, Any]) -> Self:
        """Return the object that `item` describes, or raise `ProtocolError` (malformed)."""
        values: list[Any] = []
        for name, check, optional in _KNOWN[cls]:
            value = item.get(name)
            if value is None:
                if name in item or not optional:
                    raise _malformed(item, name)
            elif type(value) is not check and (isinstance(check, type) or not check(value)):
                raise _malformed(item, name)
            values.append(tuple(value) if isinstance(value, list) else value)
        return cls(*values)


class Frame(Shape):
    """One message between client and server; `type` is its word on the wire."""

    __slots__ = ()
    type: ClassVar[str]

    def to_map(self) -> dict[str, object]:
        """Return the whole map of the frame, its type first."""
        return {"type": self.type, **super().to_map()}


def _malformed(item: Mapping[str, Any], key: str) -> ProtocolError:
    kind = item.get("type")
    name = kind if isinstance(kind, str) and kind.isidentifier() and len(kind) < 32 else "frame"
    return ProtocolError(Code.MALFORMED, f"In {name}, the key {key!r} is missing or mistyped.")


class _Known(dict[Any, "Fields"]):
    """What is known of classes, which are looked at when they are first met."""

    def __missing__(self, cls: Any) -> Fields:  # noqa: ANN401  # a dataclass, whichever
        hints = get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cls)]
        return self.setdefault(cls, tuple((name, *_check_of(hints[name])) for name in names))


_KNOWN = _Known()


def _check_of(hint: object) -> tuple[Check | type, bool]:
    """Return the check for an annotation, a type if that is all, and if the key may be absent."""
    if get_origin(hint) is UnionType:
        inner = [part for part in get_args(hint) if part is not NoneType]
        return _check_of(inner[0])[0], True
    if get_origin(hint) is Literal:
        allowed = frozenset(get_args(hint))
        return lambda value: isinstance(value, str) and value in allowed, False
    if get_origin(hint) is tuple:
        return _list_of(_CHECKS[get_args(hint)[0]]), False
    return _CHECKS[hint], False


def _is_integer(value: object) -> bool:
    return type(value) is int and 0 <= value < INT_LIMIT


def _list_of(check: Check | type) -> Check:
    if isinstance(check, type):
        return lambda value: isinstance(value, list) and all(type(one) is check for one in value)
    return lambda value: isinstance(value, list) and all(map(check, value))


_CHECKS: dict[object, Check | type] = {int: _is_integer, str: str, bytes: bytes, bool: bool}
