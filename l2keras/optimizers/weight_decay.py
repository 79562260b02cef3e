"""Weight decay for any optimizer, by path and with schedules.

It is decoupled from the gradient; `conversions` has the coupled kind, which is
L2.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from l2keras import _validation
from l2keras._keras.backend import backend
from l2keras._types import StrengthLike, Tensor
from l2keras.optimizers import decayed_weights, trained_model, wrapper
from l2keras.optimizers.decayed_weights import DecayedWeight
from l2keras.optimizers.proximal import Proximal
from l2keras.optimizers.wrapper import OptimizerWrapper
from l2keras.strengths.strength import Strength
from l2keras.strengths.updates import strengths_at_update
from l2keras.weights import paths
from l2keras.weights.rules import Rules


@keras.saving.register_keras_serializable(package="l2keras")
class DecoupledWeightDecay(OptimizerWrapper):
    """Gives any optimizer weight decay by path, with schedules.

    Each weight that a rule names, or the default reaches, is made smaller by

        w <- w - learning_rate * strength * w

    at each update of the wrapped optimizer, with the learning rate of that
    update, as by `AdamW`. Gradients, momentum and adaptive learning rates do
    not see it, and neither does the loss.

    With `coupled_to_learning_rate=False` a schedule of the learning rate leaves
    the decay alone, as in the paper's own formula and TensorFlow Addons:

        w <- w - strength * w

    With `peak_learning_rate`, the largest that a schedule reaches, the decay
    follows the learning rate once more, which keeps the norms of the weights
    steady where the learning rate falls to zero (AdamC):

        w <- w - learning_rate**2 / peak_learning_rate * strength * w

    With `cautious=True` only such elements decay as the update `u` makes
    smaller too, where `u * w >= 0` for an update of `w <- w - u`.

    A strength is a number or a schedule of `optimizer.iterations`. Rules and
    schedules are saved with the model. The optimizer's state is saved as that
    of the wrapped optimizer: weight files are the same with either.

    The paths are found when the optimizer is built, which `fit` does: they are
    those of the model that trains. In a custom training loop they are those of
    the model that has the optimizer, by `compile` or as another attribute, and
    if there is none, of the outermost model in memory that has all the
    variables.

    Settings such as `learning_rate`, `clipnorm` or `use_ema` are those of the
    wrapped optimizer; attributes of some optimizers only, such as `beta_1`, are
    found at `inner_optimizer`. In a `LossScaleOptimizer` or a `MultiOptimizer`
    of Keras it goes inside.

    Reference:
        Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
        algorithm 2. Chen et al., *Cautious Weight Decay*, 2025. Defazio, *Why
        Gradients Rapidly Increase Near the End of Training*, 2025: AdamC, for
        layers that a normalization follows.

    Args:
        optimizer: A `keras.optimizers.Optimizer` without weight decay of its
            own, such as `keras.optimizers.Adam(0.001)`.
        rules: Dictionary from the path of a weight, or a regular expression for
            some, to a strength: a finite number >= 0, or a schedule that Keras
            can save. An exact path goes before an expression. Weights that are
            frozen may be named. Defaults to `None`, no rules.
        default: The strength for every kernel that no rule names, or `None` to
            leave those alone. Kernels are weights of two or more dimensions
            except biases, embeddings, the weights of normalizations and of
            `PReLU`, and vectors of shape `(1, 1, n)`. Defaults to `None`.
        coupled_to_learning_rate: Whether to multiply the strength by the
            learning rate. Defaults to `True`.
        cautious: Whether to decay only where the update makes the weight
            smaller as well. Defaults to `False`.
        peak_learning_rate: Finite number > 0, the largest learning rate of the
            training, or `None` for decay that follows the learning rate once.
            Defaults to `None`.
        name: String, the optimizer's name. Defaults to one that Keras makes.

    Attributes:
        inner_optimizer: The optimizer that is wrapped.

    Raises:
        TypeError: If `optimizer` is no optimizer of Keras, `rules` no
            dictionary from strings, or a strength neither a number nor a
            schedule.
        ValueError: If the optimizer decays weights itself, computes them anew
            from states of its own (`Ftrl`, `ScheduleFreeAdamW`), is a wrapper
            of Keras's or made of several, a strength is negative, not finite,
            or a schedule that cannot be saved, or nothing is to decay. When
            built: if no model is found, a pattern matches no weight that is
            trained, or two match one.
        RuntimeError: When gradients are applied: if the optimizer makes its
            updates in another way than Keras's.

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
        rules: Mapping[str, StrengthLike] | None = None,
        default: StrengthLike | None = None,
        *,
        coupled_to_learning_rate: bool = True,
        cautious: bool = False,
        peak_learning_rate: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(optimizer, name=name)
        strengths = Rules(
            rules, default, check=Strength.of, values="a strength"
        )
        if not strengths.by_pattern and strengths.default is None:
            raise ValueError(
                "There is nothing to decay. Give `rules`, a dictionary from "
                "path or pattern to strength, or a `default` for all kernels."
            )
        for argument, value in (
            ("coupled_to_learning_rate", coupled_to_learning_rate),
            ("cautious", cautious),
        ):
            if not isinstance(value, bool):
                raise TypeError(
                    f"Argument `{argument}` must be a boolean. "
                    f"Received: {argument}={value!r}"
                )
        if peak_learning_rate is not None:
            peak_learning_rate = _validation.check_positive(
                peak_learning_rate, "peak_learning_rate"
            )
            if not coupled_to_learning_rate:
                raise ValueError(
                    "With `coupled_to_learning_rate=False` the decay does not "
                    "follow the learning rate, so it has no peak to be "
                    "measured by. Leave one of them out. Received: "
                    f"peak_learning_rate={peak_learning_rate!r}"
                )
        if cautious and wrapper.find(optimizer, Proximal) is not None:
            innermost = type(wrapper.chain(optimizer)[-1]).__name__
            raise ValueError(
                "With `cautious=True` the decay looks at the update, of which "
                "proximal steps are no part, and would move weights from zero. "
                "Put it inside: `Proximal(DecoupledWeightDecay("
                f"{innermost}(...), ...))`."
            )
        self._rules = strengths
        self.coupled_to_learning_rate = coupled_to_learning_rate
        self.cautious = cautious
        self.peak_learning_rate = peak_learning_rate
        self._decayed: list[DecayedWeight] = []

    @property
    def rules(self) -> Mapping[str, StrengthLike]:
        """The strengths by path or regular expression, to be read only."""
        return types.MappingProxyType(
            {
                pattern: strength.value
                for pattern, strength in self._rules.by_pattern.items()
            }
        )

    @property
    def default(self) -> StrengthLike | None:
        """The strength for every kernel that no rule names."""
        default = self._rules.default
        return None if default is None else default.value

    def check_inner(self, optimizer: Any) -> None:
        super().check_inner(optimizer)
        if wrapper.find(optimizer, DecoupledWeightDecay) is not None:
            raise ValueError(
                "Argument `optimizer` must not be a `DecoupledWeightDecay`, "
                "nor wrap one: the weights would decay twice. Put all "
                "strengths into one dictionary of rules."
            )
        decayed_weights.check_optimizer(wrapper.chain(optimizer)[-1])

    def build(self, variables: list[keras.Variable]) -> None:
        # It may have been changed since.
        decayed_weights.check_optimizer(self.innermost_optimizer)
        decayed: list[DecayedWeight] = []
        if variables:  # None at all when Keras loads a model from HDF5.
            decayed = decayed_weights.resolve(
                trained_model.find(self, variables),
                self._rules,
                self.variable_key,
                {self.variable_key(variable) for variable in variables},
            )
        super().build(variables)
        self._decayed = decayed

    def decayed(
        self, model: keras.Model | None = None
    ) -> dict[str, StrengthLike]:
        """The strength of each weight that is decayed, by path.

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
        return {
            weight.path: weight.strength.value
            for weight in self._weights_of(model)
        }

    def strengths(self, model: keras.Model | None = None) -> dict[str, float]:
        """The strengths of `decayed` as numbers: schedules at this step."""
        return {
            weight.path: self._number(weight.strength)
            for weight in self._weights_of(model)
        }

    def _weights_of(self, model: keras.Model | None) -> list[DecayedWeight]:
        if model is not None:
            paths.weights(model)  # Raises if there are none yet.
            decayed = decayed_weights.resolve(
                model, self._rules, self.variable_key
            )
        elif self.built:
            decayed = self._decayed
        else:
            raise ValueError(
                "The optimizer is not built, so it knows no weights yet. Give "
                "the model that it is to train: `optimizer.decayed(model)`, "
                "`optimizer.strengths(model)`."
            )
        return decayed

    def decay_of(self, variable: keras.Variable) -> float:
        """The strength now for one variable, 0.0 if there is none.

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
        key = self.variable_key(variable)
        for weight in self._decayed:
            if weight.key == key:
                return self._number(weight.strength)
        return 0.0

    @property
    def weight_decay(self) -> Any:
        """Keras's own weight decay, alike for all weights: always zero here."""
        return self.inner_optimizer.weight_decay

    @weight_decay.setter
    def weight_decay(self, weight_decay: Any) -> None:
        if weight_decay:
            raise AttributeError(
                "A weight decay for all weights alike cannot be set: they "
                "would then decay twice. Give the strength to the constructor, "
                "as in `DecoupledWeightDecay(optimizer, "
                f"default={weight_decay!r})`, a schedule if it is to change."
            )

    def exclude_from_weight_decay(
        self, var_list: Any = None, var_names: Any = None
    ) -> None:
        raise NotImplementedError(
            "Weights are left out of the decay by a rule of strength 0.0, as "
            'in `DecoupledWeightDecay(optimizer, {"output/.*": 0.0}, ...)`.'
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "rules": {
                pattern: serialize(strength)
                for pattern, strength in self.rules.items()
            },
            "default": serialize(self.default),
            "coupled_to_learning_rate": self.coupled_to_learning_rate,
            "cautious": self.cautious,
            "peak_learning_rate": self.peak_learning_rate,
        }

    def around_update(
        self,
        update: Callable[[], None],
        variables: list[keras.Variable],
        learning_rate: Tensor,
    ) -> None:
        """Makes the update, and decays the weights."""
        # Of a variable, Keras 3.16 on PyTorch makes products in float32.
        rate = ops.convert_to_tensor(learning_rate)
        groups = self._groups(variables, rate)
        if not self.cautious:
            # First, as in `AdamW`: some optimizers look at the weights.
            for group, factor in groups:
                backend.multiply(group, factor)
            update()
            return
        before = [
            # Copies, as PyTorch updates in place.
            [ops.copy(ops.convert_to_tensor(variable)) for variable in group]
            for group, _ in groups
        ]
        update()
        for (group, factor), old in zip(groups, before, strict=True):
            backend.update(
                _cautiously_decayed, group, old, [factor] * len(group)
            )

    def _groups(
        self, variables: list[keras.Variable], learning_rate: Tensor
    ) -> list[tuple[list[keras.Variable], Tensor | float]]:
        """The variables that decay alike, with the factor that they lose."""
        strengths = {weight.key: weight.strength for weight in self._decayed}
        groups: dict[Any, tuple[list[keras.Variable], Tensor | float]] = {}
        for variable in variables:
            strength = strengths.get(self.variable_key(variable))
            if strength is None:
                continue
            value = strength.value
            same = value if isinstance(value, float) else id(strength)
            if same not in groups:
                factor = self._now(strength)
                if self.coupled_to_learning_rate:
                    factor = factor * learning_rate
                if self.peak_learning_rate is not None:
                    factor = factor * learning_rate / self.peak_learning_rate
                groups[same] = [], factor
            groups[same][0].append(variable)
        return list(groups.values())

    def _now(self, strength: Strength) -> Tensor | float:
        """A strength at the optimizer's step."""
        return strengths_at_update(None, self.iterations, [strength])[0]

    def _number(self, strength: Strength) -> float:
        return float(ops.convert_to_numpy(self._now(strength)))


def _cautiously_decayed(new: Tensor, old: Tensor, factor: Tensor) -> Tensor:
    shrinks = (old - new) * old >= 0
    return ops.where(shrinks, new - old * factor, new)
