"""Pickles whose objects get their attributes one by one when they are loaded, as their constructors gave them.

CPython keeps the attributes of an object in the object itself until somebody asks for its ``__dict__``, which pickling
and unpickling both do; from then on each access takes a detour. A Hoeffding tree that was dumped learns a quarter
slower than before, for good. Loaded from these bytes it is as fast as a new one.
"""

import copyreg
import io
import pickle
from typing import Any

_HAS_DICT = 1 << 4
"""``Py_TPFLAGS_MANAGED_DICT``: instances keep their attributes inline."""

_NEW: Any = copyreg.__newobj__  # type: ignore[attr-defined]
_INHERITED = ("__reduce__", "__reduce_ex__", "__getstate__", "__setattr__", "__new__")
_ABSENT = ("__getnewargs__", "__getnewargs_ex__")

# What these do in __setstate__ is to complete pickles of older versions, which a learner refuses anyway.
_COMPLETES_OLD_PICKLES = "river.preprocessing.scale"


def dumps(value: Any) -> bytes:
    """The pickle of a value; `pickle.loads` reads it."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=5)
    pickler.dispatch_table = _REDUCERS
    pickler.dump(value)
    return buffer.getvalue()


def loads(data: bytes) -> Any:
    """The value of a pickle."""
    return pickle.loads(data)


class _Reducers(dict[type, Any]):
    """How objects of each class are pickled, found out when the first one is."""

    def __missing__(self, kind: type) -> Any:
        if issubclass(kind, type):
            raise KeyError(kind)
        if not _is_plain(kind):
            self[kind] = _as_usual
        elif kind.__module__ == _COMPLETES_OLD_PICKLES:
            self[kind] = _by_setter
        elif hasattr(kind, "__setstate__"):
            self[kind] = _as_usual
        else:
            self[kind] = _guarded(kind)
        return self[kind]


_REDUCERS = _Reducers()


def _is_plain(kind: type) -> bool:
    """Whether objects of a class are their attributes and nothing else."""
    bases = kind.__mro__[:-1]
    return (
        all(getattr(kind, name, None) is getattr(object, name, None) for name in _INHERITED)
        and not any(hasattr(kind, name) for name in _ABSENT)
        and bool(kind.__flags__ & _HAS_DICT)
        and all(base.__flags__ & 1 << 9 and not vars(base).get("__slots__") for base in bases)
    )


def _as_usual(value: Any) -> Any:
    return value.__reduce_ex__(5)


def _by_attribute(value: Any) -> Any:
    # A state of two parts is how slots are pickled: the second one is set attribute by attribute.
    return _NEW, (value.__class__,), (None, value.__dict__)


def _by_setter(value: Any) -> Any:
    return _NEW, (value.__class__,), value.__dict__, None, None, set_attributes


def set_attributes(value: Any, state: dict[str, Any]) -> None:
    """Give an object its attributes."""
    for name, attribute in state.items():
        setattr(value, name, attribute)


def _guarded(kind: type) -> Any:
    """How a class is pickled whose properties might bear the name of an attribute: those would not let it be set."""
    descriptors = frozenset(
        name for base in kind.__mro__[:-1] for name, item in vars(base).items() if hasattr(type(item), "__set__")
    ) - {"__dict__", "__weakref__"}
    if not descriptors:
        return _by_attribute

    def reduce(value: Any) -> Any:
        return _by_attribute(value) if descriptors.isdisjoint(value.__dict__) else _as_usual(value)

    return reduce
