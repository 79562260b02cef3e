"""`strip_regularizers` takes the wrappers off the optimizer as well."""

import keras
import numpy as np
import pytest

import l2keras
from l2keras import L1, DecoupledWeightDecay, Proximal
from tests.support import assert_weights, run_program
from tests.support.weight_decay_cases import X, Y, fit, fit_on, network

optimizers = keras.optimizers


def momentum():
    return optimizers.SGD(0.05, momentum=0.9)


def rms():
    return optimizers.RMSprop(0.01, momentum=0.5)


def decay(inner):
    return DecoupledWeightDecay(inner, default=0.1)


def several(*, wrapped):
    if not hasattr(optimizers, "MultiOptimizer"):
        pytest.skip("Since Keras 3.15.")
    default, output = momentum(), rms()
    if wrapped:
        default, output = decay(default), Proximal(output)
    # Keras's paths lose the model's name when it is loaded.
    return optimizers.MultiOptimizer(
        optimizers.OptimizerMap(default, {"(.*/)?output/.*": output})
    )


# A row: the optimizer, and the one that is to be left.
OPTIMIZERS = {
    "Proximal": (lambda: Proximal(momentum()), momentum),
    "a length for each weight": (lambda: Proximal(rms()), rms),
    "decay": (lambda: decay(momentum()), momentum),
    "both": (lambda: Proximal(decay(momentum())), momentum),
    "a scale of the loss": (
        lambda: optimizers.LossScaleOptimizer(decay(Proximal(momentum()))),
        lambda: optimizers.LossScaleOptimizer(momentum()),
    ),
    "several": (
        lambda: several(wrapped=True),
        lambda: several(wrapped=False),
    ),
    "plain": (momentum, momentum),
}


def trained(optimizer):
    model = network(L1(0.5), L1(0.5))
    return fit(model, optimizer)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stripped_model_trains_with_the_wrapped_optimizer(name, tmp_path):
    wrapped, plain = OPTIMIZERS[name]
    model = trained(wrapped())
    l2keras.strip_regularizers(model)  # Warnings are errors.
    peer = network()
    peer.compile(plain(), "categorical_crossentropy")
    peer.optimizer.build(peer.trainable_variables)
    peer.set_weights(model.get_weights())
    for one, other in zip(
        peer.optimizer.variables, model.optimizer.variables, strict=True
    ):
        one.assign(keras.ops.convert_to_numpy(other))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, peer, again):
        fit_on(each, epochs=2)
    assert_weights(model, peer.get_weights(), atol=1e-7)
    assert_weights(again, peer.get_weights(), atol=1e-7)


def test_a_stripped_model_is_loaded_where_there_is_keras_alone(tmp_path):
    model = trained(Proximal(decay(momentum())))
    l2keras.strip_regularizers(model)
    model.save(tmp_path / "model.keras")
    said = run_program("load_by_keras_alone", tmp_path / "model.keras")
    assert said.splitlines()[-1] == f"{model.optimizer.name} 8"


def test_optimizers_of_inner_models_and_attributes_are_unwrapped():
    inner = network(L1(0.5), L1(0.5))
    inner.compile(Proximal(momentum()), "categorical_crossentropy")
    outer = keras.Sequential([keras.Input((10,)), inner])
    outer.compile(decay(momentum()), "categorical_crossentropy")
    outer.mine = Proximal(momentum())
    l2keras.strip_regularizers(outer)
    for each in (inner.optimizer, outer.optimizer, outer.mine):
        assert type(each) is type(momentum())


def test_to_keras_warns_of_lost_weight_decay():
    model = network(L1(0.5))
    fit(model, Proximal(decay(momentum())))
    with pytest.warns(UserWarning, match="no weight decay by path") as warned:
        l2keras.strip_regularizers(model, to_keras=True)
    assert str(warned[-1].message) == (
        "Keras has no weight decay by path, so that of the optimizer was taken "
        "off: {'hidden/kernel': 0.1, 'output/kernel': 0.1}. If it is to go on, "
        "compile the model with `weight_decay=` of Keras's optimizer."
    )
    # Trains on by Keras's own gradient.
    fit_on(model, epochs=1)
    assert isinstance(
        model.get_layer("hidden").kernel.regularizer, keras.regularizers.L1
    )


def test_a_model_stripped_during_fit_continues():
    class Strip(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                l2keras.strip_regularizers(self.model)

    model = network(L1(0.5), L1(0.5))
    model.compile(Proximal(momentum()), "categorical_crossentropy")
    model.fit(
        X,
        Y,
        batch_size=16,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[Strip()],
    )
    assert int(model.optimizer.iterations) == 16
    assert np.isfinite(model.get_weights()[0]).all()
    assert not (model.get_weights()[0] == 0).all()
