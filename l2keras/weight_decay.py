"""Weight decay: what it has to do with L2, and decay by path.

Two things bear the name. *Coupled* weight decay adds `weight_decay * w` to the
gradient: it is L2 under another name, and PyTorch's `weight_decay` of `SGD` and
`Adam`. *Decoupled* weight decay takes `learning_rate * weight_decay * w` off
the weight, past all that an optimizer does to a gradient: that of `AdamW`, and
of every optimizer of Keras.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
from keras import ops

from l2keras import (
    _backend,
    _keras_private,
    _kinds,
    _paths,
    _strength,
    _validation,
)
from l2keras._types import Strength, Tensor

# Optimizers of PyTorch whose `weight_decay` is added to the gradient, as they
# are unless `decoupled_weight_decay=True`.
_COUPLED = (
    "sgd",
    "adam",
    "adadelta",
    "adagrad",
    "adamax",
    "nadam",
    "radam",
    "rmsprop",
)


def l2_from_weight_decay(weight_decay: float, optimizer: str = "sgd") -> float:
    """Returns the L2 strength that does what a coupled weight decay does.

    PyTorch adds `weight_decay * w` to the gradient, and the gradient of
    `l2 * sum w**2` is `2 * l2 * w`, so

        l2 = weight_decay / 2

    This holds whatever the optimizer makes of the gradient: with momentum, and
    under the coupled decay of `Adam` too. Under plain SGD, and there only, it
    holds for decoupled decay as well.

    Reference:
        Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
        propositions 1 and 2: there is no such number for `AdamW`.

    Args:
        weight_decay: Finite number >= 0, PyTorch's argument.
        optimizer: Name of PyTorch's optimizer: one of `"sgd"`, `"adam"`,
            `"adadelta"`, `"adagrad"`, `"adamax"`, `"nadam"`, `"radam"` and
            `"rmsprop"`. Defaults to `"sgd"`.

    Raises:
        TypeError: If `weight_decay` is not a number.
        ValueError: If it is negative or not finite, or the optimizer's decay is
            decoupled, or not known.

    Example:

    >>> l2_from_weight_decay(0.02)
    0.01
    """
    _check_coupled(optimizer)
    return _validation.check_number(weight_decay, "weight_decay") / 2


def weight_decay_from_l2(l2: float, optimizer: str = "sgd") -> float:
    """Returns the coupled weight decay that does what an L2 strength does.

    The inverse of `l2_from_weight_decay`, and valid where that is:

        weight_decay = 2 * l2

    Reference:
        Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
        propositions 1 and 2: there is no such number for `AdamW`.

    Args:
        l2: Finite number >= 0, the argument of `keras.regularizers.L2` and
            `l2keras.L2`.
        optimizer: Name of PyTorch's optimizer: one of `"sgd"`, `"adam"`,
            `"adadelta"`, `"adagrad"`, `"adamax"`, `"nadam"`, `"radam"` and
            `"rmsprop"`. Defaults to `"sgd"`.

    Raises:
        TypeError: If `l2` is not a number.
        ValueError: If it is negative or not finite, or the optimizer's decay is
            decoupled, or not known.

    Example:

    >>> weight_decay_from_l2(0.01)
    0.02
    """
    _check_coupled(optimizer)
    return 2 * _validation.check_number(l2, "l2")


def weight_decay_from_timescale(
    timescale: float, learning_rate: float
) -> float:
    """Returns the decoupled weight decay that forgets in so many steps.

    Under AdamW the weights are an exponential moving average of the updates,
    over a timescale, in steps of the optimizer, of

        timescale = 1 / (learning_rate * weight_decay)

    The timescale, in epochs, is what keeps its best value when the model or the
    data grow; the weight decay is not. For 10 epochs give `10 *
    steps_per_epoch`. With a learning rate that changes, give its peak.

    Reference:
        Wang & Aitchison, *How to set AdamW's weight decay as you scale model
        and dataset size*, ICML 2025.

    Args:
        timescale: Finite number > 0, in steps of the optimizer.
        learning_rate: Finite number > 0.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If one is not finite or not positive.

    Example:

    >>> weight_decay_from_timescale(timescale=5_000, learning_rate=0.001)
    0.2
    """
    return 1 / (
        _check_positive(learning_rate, "learning_rate")
        * _check_positive(timescale, "timescale")
    )


@dataclasses.dataclass(frozen=True)
class _Decayed:
    """A weight that is decayed."""

    path: str
    key: Any  # By which the optimizer knows it.
    strength: Strength


@keras.saving.register_keras_serializable(package="l2keras")
class DecoupledWeightDecay(keras.optimizers.Optimizer):
    """Gives any optimizer weight decay by path, with schedules.

    Each weight that a rule names, or the default reaches, is made smaller by

        w <- w - learning_rate * strength * w

    at each update of the optimizer that is wrapped, `learning_rate` being the
    one of that update: what `AdamW` does. Gradients, momentum and adaptive
    learning rates do not see it, and neither does the loss.

    With `coupled_to_learning_rate=False` a schedule of the learning rate leaves
    the decay alone, as in the paper's own formula and TensorFlow Addons:

        w <- w - strength * w

    With `cautious=True` only such elements decay as the update `u` makes
    smaller too, where `u * w >= 0` for an update of `w <- w - u`.

    A strength is a number or a schedule of `optimizer.iterations`: it needs no
    `RegularizationLogger` to move on. Rules, schedules and all are saved with
    the model. What is saved as the optimizer's state is that of the wrapped
    optimizer: weight files do not tell the two apart.

    The paths are found when the optimizer is built, which `fit` does. It looks
    for the model that was compiled with it, and if there is none, in a loop of
    your own, for the outermost model in memory that has all the variables.

    Reference:
        Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
        algorithm 2. Chen et al., *Cautious Weight Decay*, 2025.

    Args:
        optimizer: A `keras.optimizers.Optimizer` without weight decay of its
            own, such as `keras.optimizers.Adam(0.001)`.
        rules: Dictionary from the path of a weight, or a regular expression for
            some, to a strength: a finite number >= 0, or a schedule that Keras
            can save. An exact path goes before an expression. Weights that are
            frozen may be named. Defaults to `None`, no rules.
        default: The strength for every kernel that no rule names, or `None` to
            leave those alone. Kernels are weights of two or more dimensions but
            for biases, embeddings, and what normalization layers and `PReLU`
            have. Defaults to `None`.
        coupled_to_learning_rate: Whether to multiply the strength by the
            learning rate. Defaults to `True`.
        cautious: Whether to decay only where the update makes the weight
            smaller as well. Defaults to `False`.
        name: String, the optimizer's name. Defaults to one that Keras makes.

    Attributes:
        inner_optimizer: The optimizer that is wrapped.

    Raises:
        TypeError: If `optimizer` is no optimizer of Keras, `rules` no
            dictionary from strings, or a strength neither a number nor a
            schedule.
        ValueError: If the optimizer decays weights itself or wraps others, a
            strength is negative, not finite, or a schedule that cannot be
            saved, or nothing is to decay. When built: if no model is found, a
            pattern matches no weight that is trained, or two match one.

    Example:

    >>> import keras, l2keras
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, name="hidden"),
    ...     keras.layers.Dense(3, name="output"),
    ... ])
    >>> optimizer = l2keras.DecoupledWeightDecay(
    ...     keras.optimizers.Adam(0.001), {"output/.*": 0.0}, default=0.004
    ... )
    >>> model.compile(optimizer, "mse")
    >>> optimizer.strengths(model)
    {'hidden/kernel': 0.004}
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        rules: Mapping[str, Strength] | None = None,
        default: Strength | None = None,
        *,
        coupled_to_learning_rate: bool = True,
        cautious: bool = False,
        name: str | None = None,
    ) -> None:
        _check_optimizer(optimizer)
        checked, default = _check_strengths(rules, default)
        for argument, value in (
            ("coupled_to_learning_rate", coupled_to_learning_rate),
            ("cautious", cautious),
        ):
            if not isinstance(value, bool):
                raise TypeError(
                    f"Argument `{argument}` must be a boolean. "
                    f"Received: {argument}={value!r}"
                )
        # Its properties are asked for by the constructor of Keras.
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = optimizer
        self.rules = checked
        self.default = default
        self.coupled_to_learning_rate = coupled_to_learning_rate
        self.cautious = cautious
        self._decayed: list[_Decayed] = []
        _keras_private.allow_around_updates(optimizer)

    def build(self, variables: list[keras.Variable]) -> None:
        _check_has_no_decay(self.inner_optimizer)  # Since then, either.
        keys = {self._key(variable) for variable in variables}
        # Keras builds it for none at all when it loads a model from HDF5.
        decayed = self._resolve(self._find_model(keys), keys) if keys else []
        self.inner_optimizer.build(variables)
        super().build(variables)
        self._decayed = decayed

    def decayed(self, model: keras.Model | None = None) -> dict[str, Strength]:
        """Returns the strength of each weight that is decayed, by path.

        As it was given: a number or a schedule. Weights that are frozen are not
        among them.

        Args:
            model: The model to be trained. May be left out once the optimizer
                is built.

        Raises:
            TypeError: If `model` is not a Keras model.
            ValueError: If it is not built, the rules do not fit it, or it is
                left out too early.
        """
        if model is not None:
            _paths.weights(model)  # Raises if there are none yet.
            decayed = self._resolve(model)
        elif self.built:
            decayed = self._decayed
        else:
            raise ValueError(
                "The optimizer is not built, so it knows no weights yet. Give "
                "the model that it is to train: `optimizer.decayed(model)`, "
                "`optimizer.strengths(model)`."
            )
        return {each.path: each.strength for each in decayed}

    def strengths(self, model: keras.Model | None = None) -> dict[str, float]:
        """Returns what `decayed` does, as numbers: schedules at this step."""
        return {
            path: self._number(strength)
            for path, strength in self.decayed(model).items()
        }

    def decay_of(self, variable: keras.Variable) -> float:
        """Returns the strength now for one variable, 0.0 if there is none.

        Args:
            variable: A variable of the model.

        Raises:
            ValueError: If the optimizer is not built: `strengths` can tell
                then.
        """
        if not self.built:
            raise ValueError(
                "The optimizer is not built, so it knows no weights yet. See "
                "`optimizer.strengths(model)`."
            )
        key = self._key(variable)
        for each in self._decayed:
            if each.key == key:
                return self._number(each.strength)
        return 0.0

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                self.build(trainable_variables)
        with _keras_private.around_updates(self._around):
            self.inner_optimizer.apply(grads, trainable_variables)

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self.iterations

    def stateless_apply(
        self, optimizer_variables: Any, grads: Any, trainable_variables: Any
    ) -> Any:
        with _keras_private.around_updates(self._around):
            return self.inner_optimizer.stateless_apply(
                optimizer_variables, grads, trainable_variables
            )

    # What is the wrapped optimizer's, as in `LossScaleOptimizer`. The variables
    # that the constructor of Keras makes for this one are never used.

    @property
    def variables(self) -> list[keras.Variable]:
        return self.inner_optimizer.variables

    @property
    def iterations(self) -> Any:
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def loss_scale_factor(self) -> float | None:
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: float | None) -> None:
        if "inner_optimizer" in vars(self):  # Not in the constructor of Keras.
            self.inner_optimizer.loss_scale_factor = factor

    def scale_loss(self, loss: Tensor) -> Tensor:
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Any) -> None:
        self.inner_optimizer.finalize_variable_values(var_list)

    def set_weights(self, weights: Any) -> None:
        self.inner_optimizer.set_weights(weights)

    def exclude_from_weight_decay(
        self, var_list: Any = None, var_names: Any = None
    ) -> None:
        raise NotImplementedError(
            "Weights are left out of the decay by a rule of strength 0.0, as "
            'in `DecoupledWeightDecay(optimizer, {"output/.*": 0.0}, ...)`.'
        )

    def __dir__(self) -> list[str]:
        # Keras saves every object with variables that `dir` names, but those of
        # the wrapped optimizer are saved as `variables` already.
        return [each for each in super().__dir__() if each != "inner_optimizer"]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "optimizer": serialize(self.inner_optimizer),
            "rules": {
                pattern: serialize(strength)
                for pattern, strength in self.rules.items()
            },
            "default": serialize(self.default),
            "coupled_to_learning_rate": self.coupled_to_learning_rate,
            "cautious": self.cautious,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> Self:
        """Returns the optimizer that `get_config` described."""

        def deserialized(value: Any) -> Any:
            return keras.saving.deserialize_keras_object(
                value, custom_objects=custom_objects
            )

        config = dict(config)
        config["optimizer"] = deserialized(config["optimizer"])
        config["rules"] = {
            pattern: deserialized(strength)
            for pattern, strength in config["rules"].items()
        }
        config["default"] = deserialized(config["default"])
        return cls(**config)

    def _around(
        self,
        update: Callable[[], None],
        variables: list[keras.Variable],
        learning_rate: Tensor,
    ) -> None:
        """Makes an update of the inner optimizer, and decays the weights."""
        groups = self._groups(variables, learning_rate)
        if not self.cautious:
            # First, as in `AdamW`: some optimizers look at the weights.
            for group, factor in groups:
                _backend.multiply(group, factor)
            update()
            return
        before = [
            # Copies, as PyTorch updates in place.
            [ops.copy(ops.convert_to_tensor(variable)) for variable in group]
            for group, _ in groups
        ]
        update()
        for (group, factor), old in zip(groups, before, strict=True):
            _backend.update(
                _cautiously_decayed, group, old, [factor] * len(group)
            )

    def _groups(
        self, variables: list[keras.Variable], learning_rate: Tensor
    ) -> list[tuple[list[keras.Variable], Tensor | float]]:
        """Returns the variables that decay alike, with the factor they lose."""
        strengths = {each.key: each.strength for each in self._decayed}
        groups: dict[Any, tuple[list[keras.Variable], Tensor | float]] = {}
        for variable in variables:
            strength = strengths.get(self._key(variable))
            if strength is None:
                continue
            same = id(strength) if callable(strength) else strength
            if same not in groups:
                factor = self._now(strength)
                if self.coupled_to_learning_rate:
                    factor = factor * learning_rate
                groups[same] = [], factor
            groups[same][0].append(variable)
        return list(groups.values())

    def _now(self, strength: Strength) -> Tensor | float:
        """Returns a strength at the optimizer's step."""
        if not callable(strength):
            return strength
        step = ops.cast(self.iterations, "float32")
        return _backend.to_float32(strength(step))

    def _number(self, strength: Strength) -> float:
        return float(ops.convert_to_numpy(self._now(strength)))

    def _key(self, variable: Any) -> Any:
        return _keras_private.variable_key(self.inner_optimizer, variable)

    def _resolve(
        self, model: keras.Model, keys: set[Any] | None = None
    ) -> list[_Decayed]:
        """Returns the weights of a model that decay.

        Only those among `keys`, if given: what the optimizer was built for.
        """
        weights = _paths.own_weights(model)
        trained = [weight for weight in weights if weight.is_trained]
        paths = {weight.path for weight in trained}
        for weight in weights:
            if weight.path in self.rules and weight.path not in paths:
                raise ValueError(
                    f"Weight {weight.path!r} is never trained, so it cannot "
                    "decay. Leave it out of the rules."
                )
        matched = _paths.match(self.rules, [weight.path for weight in trained])
        decayed, needed = [], set()
        for weight in trained:
            pattern = matched.get(weight.path)
            key = self._key(weight.variable)
            is_ours = keys is None or key in keys
            if is_ours or not weight.variable.trainable:
                needed.add(pattern)
            if not is_ours or not weight.variable.trainable:
                continue
            strength: Strength | None = None
            if pattern is not None:
                strength = self.rules[pattern]
            elif _kinds.is_kernel(weight):
                strength = self.default
            if strength not in (None, 0.0):  # So that zero costs nothing.
                decayed.append(_Decayed(weight.path, key, strength))
        for pattern in self.rules:
            if pattern not in needed:
                raise ValueError(
                    f"Pattern {pattern!r} matches only weights that this "
                    "optimizer was not built for. Leave it out of the rules, "
                    f"or build the optimizer for those of {model.name!r} as "
                    "well."
                )
        return decayed

    def _find_model(self, keys: set[Any]) -> keras.Model:
        """Returns the model that has the variables of these keys.

        That which was compiled with this optimizer, or has it as another
        attribute; else any. The outermost, if models are in models.
        """
        paths: dict[int, dict[Any, str]] = {}
        models = []
        for model in _keras_private.models_in_memory():
            found = {
                key: weight.path
                for weight in _paths.own_weights(model)
                if (key := self._key(weight.variable)) in keys
            }
            if len(found) == len(keys):
                models.append(model)
                paths[id(model)] = found
        models = [each for each in models if self._is_held_by(each)] or models
        inside = {
            id(layer)
            for model in models
            for place, layer in _keras_private.layers_by_path(model)
            if place
        }
        models = [each for each in models if id(each) not in inside]
        if not models:
            raise ValueError(
                "The optimizer was built for variables that no Keras model in "
                "memory has all of, so it cannot tell the paths of the "
                "weights. Build it for those of one model: "
                "`model.compile(optimizer)` and `fit`, or "
                "`optimizer.build(model.trainable_variables)`."
            )
        first, *others = models
        for other in others:
            for key, path in paths[id(first)].items():
                if paths[id(other)][key] != path:
                    raise ValueError(
                        f"Models {first.name!r} and {other.name!r} both have "
                        "the variables that the optimizer was built for, and "
                        f"one is at {path!r} in the first, at "
                        f"{paths[id(other)][key]!r} in the second. Say which "
                        "model it trains: `model.compile(optimizer)`."
                    )
        return first

    def _is_held_by(self, model: keras.Model) -> bool:
        return any(
            _leads_to(value, self)
            for value in list(vars(model).values())
            if isinstance(value, keras.optimizers.Optimizer)
        )


def _cautiously_decayed(new: Tensor, old: Tensor, factor: Tensor) -> Tensor:
    shrinks = (old - new) * old >= 0
    return ops.where(shrinks, new - old * factor, new)


def _leads_to(
    optimizer: keras.optimizers.Optimizer, other: keras.optimizers.Optimizer
) -> bool:
    """Tells whether an optimizer is another, or wraps it."""
    wrapped = [
        getattr(optimizer, "inner_optimizer", None),
        *getattr(optimizer, "optimizers", []),  # Of `MultiOptimizer`.
    ]
    return optimizer is other or any(
        _leads_to(each, other) for each in wrapped if each is not None
    )


def _check_optimizer(optimizer: Any) -> None:
    """Raises an error unless an optimizer can be wrapped."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "Argument `optimizer` must be an optimizer of Keras, as an "
            "instance such as `keras.optimizers.Adam(0.001)`. "
            f"Received: optimizer={optimizer!r} "
            f"(of type {type(optimizer).__name__})"
        )
    name = type(optimizer).__name__
    if isinstance(optimizer, DecoupledWeightDecay):
        raise ValueError(
            "Argument `optimizer` must not be a `DecoupledWeightDecay`, which "
            "would decay the weights twice. Wrap its `inner_optimizer`, and "
            "put all strengths into one dictionary of rules."
        )
    if hasattr(optimizer, "inner_optimizer"):
        raise ValueError(
            "Argument `optimizer` must not wrap another. Wrap the inner one: "
            f"`{name}(DecoupledWeightDecay(optimizer, ...))`. Received: "
            f"optimizer={name}(...)"
        )
    if hasattr(optimizer, "optimizers"):
        raise ValueError(
            "Argument `optimizer` must not be made of several. Wrap those of "
            f"them whose weights are to decay. Received: optimizer={name}(...)"
        )
    _check_has_no_decay(optimizer)


def _check_has_no_decay(optimizer: keras.optimizers.Optimizer) -> None:
    # `Muon` has an `adam_weight_decay` too.
    for argument in ("weight_decay", "adam_weight_decay"):
        decay = getattr(optimizer, argument, None)
        if decay:
            raise ValueError(
                "The optimizer must not decay weights itself, which would "
                f"then decay twice. Make it with `{argument}=0.0`, and give "
                "`DecoupledWeightDecay` the strength, as in "
                f"`default={decay!r}`. Received: "
                f"{type(optimizer).__name__}({argument}={decay!r})"
            )


def _check_strengths(
    rules: Any, default: Any
) -> tuple[dict[str, Strength], Strength | None]:
    if rules is None:
        rules = {}
    if not isinstance(rules, Mapping):
        raise TypeError(
            "Rules must be a dictionary from path or pattern to strength. "
            f"Received: {rules!r}"
        )
    for pattern in rules:
        if not isinstance(pattern, str):
            raise TypeError(
                "A pattern must be a string: a path, or a regular expression. "
                f"Received: {pattern!r}"
            )
    if not rules and default is None:
        raise ValueError(
            "There is nothing to decay. Give `rules`, a dictionary from path "
            "or pattern to strength, or a `default` for all kernels."
        )
    checked = {
        pattern: _strength.check(strength, f"rules[{pattern!r}]")
        for pattern, strength in rules.items()
    }
    if default is not None:
        default = _strength.check(default, "default")
    return checked, default


def _check_coupled(optimizer: Any) -> None:
    if optimizer == "adamw":
        raise ValueError(
            "The weight decay of `AdamW` is decoupled: it is not divided by "
            "the adaptive learning rates, as the gradient of a penalty is, so "
            "no L2 strength does the same (Loshchilov & Hutter, 2019, "
            "proposition 2). Use it as it is: "
            "`l2keras.DecoupledWeightDecay(optimizer, default=weight_decay)`. "
            "Received: optimizer='adamw'"
        )
    if optimizer not in _COUPLED:
        names = ", ".join(map(repr, _COUPLED))
        raise ValueError(
            "Argument `optimizer` must be the name of an optimizer of PyTorch "
            f"with coupled weight decay: one of {names}. "
            f"Received: optimizer={optimizer!r}"
        )


def _check_positive(value: Any, name: str) -> float:
    try:
        number = _validation.check_number(value, name)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace(">= 0", "> 0", 1)) from None
    if number == 0.0:
        raise ValueError(
            f"Argument `{name}` must be a finite number > 0. "
            f"Received: {name}={value!r}"
        )
    return number
