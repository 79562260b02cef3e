"""The layers in a layer, and their variables and tracked state."""

from typing import Any

import keras

from l2keras._keras.tracked_state import State


def layers_by_path(
    model: keras.layers.Layer,
) -> list[tuple[str, keras.layers.Layer]]:
    """The model and all layers in it, at any depth, each once.

    With each comes its path: the names of the layers on the way to it, each
    with a slash behind, as in `inner/dense/`. The model's own is empty.
    `model.layers` has the first level only, and of a custom layer or an RNN
    nothing below it.
    """
    found: list[tuple[str, keras.layers.Layer]] = []
    seen: set[int] = set()

    def visit(path: str, layer: keras.layers.Layer) -> None:
        if id(layer) not in seen:
            seen.add(id(layer))
            found.append((path, layer))
            for child in layer._layers:
                visit(f"{path}{child.name}/", child)

    visit("", model)
    return found


def contains(model: keras.layers.Layer, layer: keras.layers.Layer) -> bool:
    """Tells whether a layer is a model, or anywhere in it."""
    return layer is model or any(
        inner is layer for _, inner in layers_by_path(model)
    )


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The variables that the layer itself made, frozen ones too.

    `layer.weights` has those of the layers inside it as well.
    """
    return layer._trainable_variables + layer._non_trainable_variables


class BuildHook:
    """Mixed into the class of a layer: `on_build` is called after `build`.

    Keras replaces `build` on each instance, so a class derived later cannot
    override it for layers that there are.
    """

    def _post_build(self) -> None:
        super()._post_build()  # type: ignore[misc]
        self.on_build()

    def on_build(self) -> None:
        """Called when the layer has been built, and has its variables."""


def is_of_keras(layer: keras.layers.Layer) -> bool:
    """Tells whether the class of a layer is one of Keras's own."""
    return type(layer).__module__.partition(".")[0] == "keras"


def saves_layers_one_by_one(layer: keras.layers.Layer) -> bool:
    """Tells whether the config of a layer has those of its layers.

    Sequential and functional models, but not all classes derived from them.
    """
    if not isinstance(layer, keras.Sequential | keras.Function):
        return False
    if is_of_keras(layer):
        return True
    try:
        return "layers" in layer.get_config()
    except NotImplementedError:
        return False


def is_trained(layer: keras.layers.Layer, variable: keras.Variable) -> bool:
    """Tells whether a layer made a variable to be trained, be it frozen now.

    `variable.trainable` is false for those of a frozen layer too.
    """
    return any(own is variable for own in layer._trainable_variables)


def variable_of(
    model: keras.layers.Layer, weights: Any
) -> keras.Variable | None:
    """The variable that a regularizer of a model was called with.

    Its value, in stateless scopes. `None` for the outputs of a layer.
    """
    if isinstance(weights, keras.Variable):
        return weights
    return next(
        (own for own in model.trainable_variables if own.value is weights),
        None,
    )


def track(layer: keras.layers.Layer, state: State) -> bool:
    """Has Keras track a state with the layer, through compiled steps.

    Setting an attribute does it for a layer under construction, but a built
    layer refuses that. Returns whether the state was untracked before.
    """
    if any(tracked is state for tracked in layer._seed_generators):
        return False
    layer._seed_generators.append(state)
    return True


def tracked_states(layer: keras.layers.Layer) -> list[State]:
    """The states that `track` was called with."""
    return [
        state for state in layer._seed_generators if isinstance(state, State)
    ]


def untrack(layer: keras.layers.Layer, state: State) -> None:
    """Undoes `track`."""
    for index, tracked in enumerate(layer._seed_generators):
        if tracked is state:
            del layer._seed_generators[index]
            return


def is_regularizers_module(module: dict[str, Any]) -> bool:
    """Tells whether these are the globals of Keras's own regularizers."""
    return keras.regularizers.L2.__module__ == module.get("__name__")


def draws_random_numbers(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer has a random state of its own, and uses it.

    Recurrent layers have one for their dropout, whether they drop or not.
    """
    rates = [
        getattr(layer, name)
        for name in ("dropout", "recurrent_dropout")
        if isinstance(getattr(layer, name, None), int | float)
    ]
    if rates and not any(rates):
        return False
    generators = layer._seed_generators
    return any(not isinstance(own, State) for own in generators)
