"""Estimators of scikit-learn that choose the strength in `fit`.

As `LogisticRegressionCV` and `RidgeCV` do for their own models. They need
scikit-learn, which `import l2keras` does not: `import l2keras.sklearn`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
import numpy as np

try:
    from sklearn.base import (
        BaseEstimator,
        ClassifierMixin,
        RegressorMixin,
        is_classifier,
    )
    from sklearn.model_selection import check_cv
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        check_is_fitted,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        "`l2keras.sklearn` needs scikit-learn 1.6 or newer. Install it with "
        '`pip install "l2keras[sklearn]"`.'
    ) from error

from l2keras.tuning.result import TuningResult
from l2keras.tuning.run import random_numbers_kept
from l2keras.tuning.tune import tune_strength


class _StrengthCV(BaseEstimator):
    """The part that the two estimators share."""

    def __init__(
        self,
        build_model: Callable[..., keras.Model],
        strengths: Any,
        *,
        epochs: int,
        cv: Any = 5,
        batch_size: int = 32,
        model_kwargs: Mapping[str, Any] | None = None,
        monitor: str = "val_data_loss",
        mode: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.build_model = build_model
        self.strengths = strengths
        self.epochs = epochs
        self.cv = cv
        self.batch_size = batch_size
        self.model_kwargs = model_kwargs
        self.monitor = monitor
        self.mode = mode
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> Self:
        """Chooses the strength, and trains a model with it on all rows.

        Args:
            X: Array of shape (rows, features, ...).
            y: The targets of the rows.
            sample_weight: Weight for each row, or `None`.
            groups: Label for each row, for a `cv` that takes them, or `None`.

        Returns:
            The estimator.
        """
        X, y = validate_data(self, X, y, allow_nd=True, **self._checks_of_y)
        X = _as_floatx(X)
        targets = self._encoded(y)
        if sample_weight is not None:
            sample_weight = _checked_weight(sample_weight, len(X))
        splitter = check_cv(self.cv, y, classifier=is_classifier(self))
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        build_model = self._build_model_for(X, targets)
        self.result_ = tune_strength(
            build_model,
            X,
            targets,
            self.strengths,
            folds=list(splitter.split(X, y, groups)),
            epochs=self.epochs,
            batch_size=self.batch_size,
            sample_weight=sample_weight,
            monitor=self.monitor,
            mode=self.mode,
            seed=int(seed),
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        self.best_strength_ = self.result_.best_strength
        self.best_epoch_ = self.result_.best_epoch
        self.cv_results_ = _cv_results(self.result_)
        with random_numbers_kept():
            keras.utils.set_random_seed(int(seed))
            self.model_ = build_model(self.best_strength_)
            self.model_.fit(
                X,
                targets,
                sample_weight=sample_weight,
                batch_size=self.batch_size,
                epochs=self.best_epoch_,
                verbose=self.verbose,
            )
        return self

    # Arguments of `validate_data`.
    _checks_of_y: Mapping[str, Any] = {}

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        """The targets as the model is given them, of shape (rows, outputs)."""
        raise NotImplementedError

    def _build_model_for(self, X: Any, y: Any) -> Callable[..., keras.Model]:
        """The function of the user, with the arguments that it names."""
        if not callable(self.build_model):
            raise TypeError(
                "Argument `build_model` must be a function from a strength to "
                f"a compiled model. Received: build_model={self.build_model!r}"
            )
        named = inspect.signature(self.build_model).parameters
        arguments = {
            name: value
            for name, value in {"X": X, "y": y}.items()
            if name in named
        }
        arguments |= self.model_kwargs or {}
        return functools.partial(self.build_model, **arguments)

    def _outputs(self, X: Any) -> np.ndarray:
        """The outputs of the model, of shape (rows, outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True)
        outputs = self.model_.predict(
            _as_floatx(X), batch_size=self.batch_size, verbose=0
        )
        return np.asarray(outputs, "float64").reshape(len(X), -1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class StrengthCVClassifier(ClassifierMixin, _StrengthCV):
    """Classifies by a Keras model whose strength is chosen in `fit`.

    As `sklearn.linear_model.LogisticRegressionCV` does for a linear model: the
    strength, and the number of epochs, by cross-validation; then a model with
    both on all rows. All models of the search are trained together, see
    `l2keras.tune_strength`.

    The labels may be of any kind. The model is given them one-hot, as by
    `keras.wrappers.SKLearnClassifier`, so it has an output for each class, two
    for two, by a softmax; and a loss for these, `"categorical_crossentropy"`.

    Args:
        build_model: Function from a strength to a compiled model, as for
            `l2keras.tune_strength`. If it has arguments `X` or `y`, it is given
            all rows by these names, so that it can make its layers as wide:
            `X.shape[1]` features, `y.shape[1]` outputs.
        strengths: The candidates, rising; or, for several strengths, a
            dictionary as for `l2keras.tune_strength`.
        epochs: The number of epochs to train in the search, and the most in
            the end.
        cv: The number of folds, which have the classes in equal parts; or a
            splitter of scikit-learn, or pairs of index arrays. Defaults to `5`.
        batch_size: Number of rows in a batch. Defaults to `32`.
        model_kwargs: More keyword arguments for `build_model`, or `None`.
        monitor: The metric to choose by, see `l2keras.tune_strength`.
        mode: `"min"` if its lower values are better, `"max"` if higher are;
            `None` to have Keras guess.
        n_jobs: Number of processes of the search, see `l2keras.tune_strength`.
        random_state: Integer, for the same initial weights and batches in each
            `fit`; or a generator of NumPy's; or `None`.
        verbose: 1 for progress bars, 0 for none.

    Attributes:
        best_strength_: The strength that was chosen.
        best_epoch_: The number of epochs that was chosen.
        model_: The Keras model that predicts.
        classes_: The labels, sorted, in the order of the outputs.
        cv_results_: The table of `GridSearchCV`: a row for each strength at
            its best epoch. Scores are higher if better: a loss is negated.
        result_: The `l2keras.TuningResult` of the search.
        n_features_in_: The number of features.
        feature_names_in_: Their names, if `X` is a data frame.

    Example:

    >>> import keras, l2keras
    >>> from l2keras.sklearn import StrengthCVClassifier
    >>> from sklearn.datasets import load_iris
    >>> def build_model(strength, X, y):
    ...     model = keras.Sequential([
    ...         keras.Input(X.shape[1:]),
    ...         keras.layers.Dense(
    ...             y.shape[1], "softmax", kernel_regularizer=l2keras.L2(strength)
    ...         ),
    ...     ])
    ...     model.compile(keras.optimizers.Adam(0.1), "categorical_crossentropy")
    ...     return model
    >>> classifier = StrengthCVClassifier(
    ...     build_model, [0.0, 1e-3, 1e-1], epochs=20, cv=3, random_state=0
    ... )
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier.fit(X, y).score(X, y) > 0.9
    True
    """  # noqa: E501

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "`y` must have at least two classes. Received: one class, "
                f"{self.classes_[0]!r}"
            )
        return np.eye(len(self.classes_), dtype=keras.config.floatx())[numbers]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The outputs of the model, (rows, classes), as of `classes_`."""
        return self._outputs(X)

    def predict(self, X: Any) -> np.ndarray:
        """The label with the highest output, for each row."""
        numbers = self._outputs(X).argmax(axis=1)
        return self.classes_[numbers]


class StrengthCVRegressor(RegressorMixin, _StrengthCV):
    """Predicts numbers by a Keras model whose strength is chosen in `fit`.

    As `sklearn.linear_model.RidgeCV` does for a linear model: the strength, and
    the number of epochs, by cross-validation; then a model with both on all
    rows. All models of the search are trained together, see
    `l2keras.tune_strength`.

    Keras takes the mean of the squared errors and scikit-learn's `Ridge` their
    sum, so its `alpha` is the strength of `l2keras.L2` times the number of
    rows that are trained on.

    Args:
        build_model: Function from a strength to a compiled model, as for
            `l2keras.tune_strength`. If it has arguments `X` or `y`, it is given
            all rows by these names, so that it can make its layers as wide:
            `X.shape[1]` features, `y.shape[1]` outputs.
        strengths: The candidates, rising; or, for several strengths, a
            dictionary as for `l2keras.tune_strength`.
        epochs: The number of epochs to train in the search, and the most in
            the end.
        cv: The number of folds, of rows in their order; or a splitter of
            scikit-learn, or pairs of index arrays. Defaults to `5`.
        batch_size: Number of rows in a batch. Defaults to `32`.
        model_kwargs: More keyword arguments for `build_model`, or `None`.
        monitor: The metric to choose by, see `l2keras.tune_strength`.
        mode: `"min"` if its lower values are better, `"max"` if higher are;
            `None` to have Keras guess.
        n_jobs: Number of processes of the search, see `l2keras.tune_strength`.
        random_state: Integer, for the same initial weights and batches in each
            `fit`; or a generator of NumPy's; or `None`.
        verbose: 1 for progress bars, 0 for none.

    Attributes:
        best_strength_: The strength that was chosen.
        best_epoch_: The number of epochs that was chosen.
        model_: The Keras model that predicts.
        cv_results_: The table of `GridSearchCV`: a row for each strength at
            its best epoch. Scores are higher if better: a loss is negated.
        result_: The `l2keras.TuningResult` of the search.
        n_features_in_: The number of features.
        feature_names_in_: Their names, if `X` is a data frame.

    Example:

    >>> import keras, l2keras
    >>> from l2keras.sklearn import StrengthCVRegressor
    >>> from sklearn.datasets import make_regression
    >>> def build_model(strength, X, y):
    ...     model = keras.Sequential([
    ...         keras.Input(X.shape[1:]),
    ...         keras.layers.Dense(
    ...             y.shape[1], kernel_regularizer=l2keras.L2(strength)
    ...         ),
    ...     ])
    ...     model.compile(keras.optimizers.SGD(0.1), "mse")
    ...     return model
    >>> regressor = StrengthCVRegressor(
    ...     build_model, [0.0, 1e-2, 1.0], epochs=20, cv=2, random_state=0
    ... )
    >>> X, y = make_regression(n_features=3, noise=0.1, random_state=0)
    >>> regressor.fit(X, y).score(X, y) > 0.99
    True
    """

    _checks_of_y = {"multi_output": True, "y_numeric": True}

    def _encoded(self, y: np.ndarray) -> np.ndarray:
        self._is_flat = y.ndim == 1
        return _as_floatx(y.reshape(len(y), -1))

    def predict(self, X: Any) -> np.ndarray:
        """The outputs of the model, of the shape that `y` had in `fit`."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._is_flat else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _checked_weight(sample_weight: Any, rows: int) -> np.ndarray:
    """The weights of the rows.

    Raises:
        ValueError: If there is not one for each row, or all are zero.
    """
    weight = check_array(
        sample_weight, ensure_2d=False, dtype=keras.config.floatx()
    )
    if weight.shape != (rows,) or not weight.any():
        raise ValueError(
            f"`sample_weight` must have a number for each of the {rows} rows, "
            "not all of them zero. Received: an array of shape "
            f"{weight.shape} with {np.count_nonzero(weight)} that are not zero"
        )
    return weight


def _as_floatx(array: np.ndarray) -> np.ndarray:
    """The array as `tune_strength` takes it, floats in `floatx`."""
    is_float = array.dtype.kind == "f"
    return array.astype(keras.config.floatx()) if is_float else array


def _cv_results(result: TuningResult) -> dict[str, Any]:
    """The losses or metrics of a search in the form of `GridSearchCV`."""
    scores = result.monitored[
        np.arange(len(result.strengths)), :, result.best_epochs - 1
    ]
    if result.mode == "min":
        scores = -scores
    columns = result.strengths.reshape(len(scores), -1).T
    names = result.keys or ["strength"]
    parameters = dict(zip(names, columns, strict=True))
    parameters["epochs"] = result.best_epochs
    mean = scores.mean(axis=1)
    order = np.nan_to_num(mean, nan=-np.inf, neginf=-np.inf)
    return {
        **{f"param_{k}": np.ma.array(v) for k, v in parameters.items()},
        "params": [
            {key: values[index].item() for key, values in parameters.items()}
            for index in range(len(scores))
        ],
        **{f"split{k}_test_score": split for k, split in enumerate(scores.T)},
        "mean_test_score": mean,
        "std_test_score": scores.std(axis=1),
        "rank_test_score": 1 + (order > order[:, None]).sum(axis=1),
    }
