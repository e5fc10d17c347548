"""Frame schema: dataclasses whose annotations check and convert the values of a CBOR map.

The fields of a record are the keys of its map, and a field's annotation is its check:

- `int` (0 to 2**63-1, never a bool), `str`, `bytes`, `bool`, and a `Literal` of strings;
- another record: a map inside the map;
- `tuple[X, ...]`: an array of any number of these;
- `dict[K, V]`: a map; `Annotated[dict[K, V], Keyed(key_of)]`: an array of its values, and `key_of`
  computes the keys from the values;
- any of these `| None`: a key that may be absent.

`Annotated[str, Clean(...)]` marks a text that the server sanitizes with the given function, and
`Annotated[X, LOCAL]` keeps a field out of the map.

Unknown keys are ignored, so that newer versions can add some. A missing key or a value of the wrong
type makes the frame malformed. `protocol.cddl` is the same schema for other languages.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from tchat.core.protocol.converters import (
    Compound,
    Field,
    compose_read,
    compose_write,
    fits,
)
from tchat.errors import Code, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from tchat.core.protocol.converters import Check, Read, Write

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clean:
    """Mark a text field that a person has typed: `clean` returns the text sanitized.

    `clean` raises `Refused` for a text that is not valid.
    """

    clean: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Keyed:
    """Mark a dict that is encoded as an array of its values: `key_of` returns a value's key."""

    key_of: Callable[[Any], object]


LOCAL = object()
"""Mark a field that is not part of the map."""


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[T]) -> type[T]:
    """Make a dataclass that is immutable for the type checker, but not at run time.

    `frozen=True` would make the constructor four times as slow, and every message constructs
    several records.
    """
    return dataclasses.dataclass(slots=True, unsafe_hash=True)(cls)


class Shape:
    """A map with a known shape: the base of frames, event bodies and nested records."""

    __slots__ = ()

    def to_map(self) -> dict[str, object]:
        """Return the keys and values for the wire; absent optional fields are left out.

        The map of a frame begins with its type.
        """
        return _SCHEMAS[type(self)].write(self)

    @classmethod
    def from_map(cls, item: Mapping[str, Any]) -> Self:
        """Return the record that `item` describes. Raises `ProtocolError` (malformed)."""
        made: Self = _SCHEMAS[cls].read(item)
        return made


class Frame(Shape):
    """One message between client and server; `type` is its type on the wire."""

    __slots__ = ()
    type: ClassVar[str]


def clean(shape: S) -> S:
    """Return a record with its `Clean` fields sanitized. Raises `Refused`."""
    for name, marker in _SCHEMAS[type(shape)].cleaners:
        text = getattr(shape, name)
        if text is not None and (cleaned := marker.clean(text)) != text:
            shape = dataclasses.replace(shape, **{name: cleaned})  # type: ignore[type-var]
    return shape


S = TypeVar("S", bound=Shape)


def _malformed(item: Mapping[str, Any], key: str) -> ProtocolError:
    kind = item.get("type")
    name = kind if isinstance(kind, str) and kind.isidentifier() and len(kind) < 32 else "frame"
    return ProtocolError(
        Code.MALFORMED, f"In {name}, the key {key!r} is missing or has the wrong type."
    )


# ------------------------------------------------------------------ annotations


@dataclass(frozen=True, slots=True)
class _Schema:
    """How a record is read from and written to a map, and its fields that are sanitized."""

    read: Read
    write: Write
    cleaners: tuple[tuple[str, Clean], ...]


class _Schemas(dict[Any, "_Schema"]):
    """The schema of each class, read from its annotations when it is first needed."""

    def __missing__(self, cls: Any) -> _Schema:  # noqa: ANN401  # any dataclass
        hints = get_type_hints(cls, include_extras=True)
        every = [field.name for field in dataclasses.fields(cls)]
        named = {field.name for field in dataclasses.fields(cls) if field.kw_only}
        names = [name for name in every if LOCAL not in _markers_of(hints[name])]
        # Behind a field that is not in the map, the constructor cannot take others by position.
        named |= set(names) if names != every else set()
        fields = [_field(name, hints[name], by_name=name in named) for name in names]
        cleaners = tuple(
            (name, marker)
            for name in names
            for marker in _markers_of(hints[name])
            if isinstance(marker, Clean)
        )
        word = cls.type if issubclass(cls, Frame) else None
        schema = _Schema(
            compose_read(cls, fields, _malformed), compose_write(fields, word), cleaners
        )
        return self.setdefault(cls, schema)


_SCHEMAS = _Schemas()


def _field(name: str, hint: object, *, by_name: bool) -> Field:
    required = _required(hint)
    compound = _compound(required)
    check = bool if compound is not None else _scalar(required)
    return Field(name, check, required is not hint and _is_optional(hint), compound, by_name)


def _is_optional(hint: object) -> bool:
    return get_origin(hint) in (UnionType, Union) and NoneType in get_args(hint)


def _required(hint: object) -> object:
    """Return an annotation without its `| None`."""
    if _is_optional(hint):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def _markers_of(hint: object) -> tuple[object, ...]:
    """Return the markers inside `Annotated[...]`."""
    hint = _required(hint)
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _plain(hint: object) -> object:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _compound(hint: object) -> Compound | None:
    """Return the conversion of a nested record, an array or a dict; None for a scalar."""
    plain = _plain(hint)
    origin = get_origin(plain)
    if origin is tuple:
        return _array(get_args(plain)[0])
    if origin is dict:
        keyed = next((marker for marker in _markers_of(hint) if isinstance(marker, Keyed)), None)
        key, value = get_args(plain)
        return _map(key, value) if keyed is None else _values(value, keyed.key_of)
    if isinstance(plain, type) and issubclass(plain, Shape):
        return Compound(_loader(plain), Shape.to_map)
    return None


def _array(of: object) -> Compound:
    one = _converter(of)
    return Compound(
        lambda value: tuple(map(one.load, _list(value))),
        lambda value: list(map(one.dump, value)),
    )


def _map(key_hint: object, value_hint: object) -> Compound:
    key, value = _converter(key_hint), _converter(value_hint)

    def load(items: object) -> dict[Any, Any]:
        if not isinstance(items, dict):
            raise TypeError("a map is missing")
        return {key.load(k): value.load(v) for k, v in items.items()}

    return Compound(load, lambda items: {key.dump(k): value.dump(v) for k, v in items.items()})


def _values(value_hint: object, key_of: Callable[[Any], object]) -> Compound:
    array = _array(value_hint)
    return Compound(
        lambda item: {key_of(value): value for value in array.load(item)},
        lambda items: array.dump(items.values()),
    )


def _loader(shape: type[Shape]) -> Callable[[Any], Shape]:
    def load(value: object) -> Shape:
        if not isinstance(value, dict):
            raise TypeError("a map is missing")
        return shape.from_map(value)

    return load


def _converter(hint: object) -> Compound:
    """Return the conversion of an element; a scalar is checked and kept."""
    compound = _compound(hint)
    if compound is not None:
        return compound
    check = _scalar(hint)

    def load(value: object) -> object:
        if not fits(value, check):
            raise TypeError("an element has the wrong type")
        return value

    return Compound(load, lambda value: value)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("an array is missing")
    return value


def _scalar(hint: object) -> Check | type:
    plain = _plain(hint)
    if get_origin(plain) is Literal:
        allowed = frozenset(get_args(plain))
        return lambda value: isinstance(value, str) and value in allowed
    return _CHECKS[plain]


_CHECKS: dict[object, Check | type] = {one: one for one in (int, str, bytes, bool)}
