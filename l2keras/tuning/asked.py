"""The strengths by name that `build_model` is given."""

from collections.abc import Iterator, Mapping
from typing import Any

from l2keras.strengths.tuned import Cell, NoValueError, TunedStrength


class AskedStrengths(Mapping[str, TunedStrength]):
    """Has a strength under every key, and notes which are asked for."""

    def __init__(self) -> None:
        self._asked: dict[str, TunedStrength] = {}

    def __getitem__(self, key: str) -> TunedStrength:
        if not isinstance(key, str):
            raise TypeError(
                "`build_model` must ask for its strengths by strings, as in "
                f"`strengths['output']`. Received: strengths[{key!r}]"
            )
        if key not in self._asked:
            self._asked[key] = TunedStrength(Cell(key))
        return self._asked[key]

    @property
    def keys_asked_for(self) -> tuple[str, ...]:
        """The keys in the order in which they were asked for first."""
        return tuple(self._asked)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str)

    def _refuse(self) -> Any:
        raise NoValueError(
            "The keys of `strengths` are those that `build_model` asks for, so "
            "they cannot be listed or counted. Ask for each by its name, as in "
            "`strengths['output']`."
        )

    def __iter__(self) -> Iterator[str]:
        return self._refuse()

    def __len__(self) -> int:
        return self._refuse()


class NamedStrengths(dict[str, Any]):
    """A dictionary of strengths that says what it has."""

    def __missing__(self, key: Any) -> Any:
        raise KeyError(
            f"There is no strength {key!r}. `build_model` must ask for the "
            f"same each time. At first it asked for {list(self)}."
        )
