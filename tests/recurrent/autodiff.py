"""Gradients and compiled calls on the backend of the run."""

import keras
from keras import ops


def gradients(function, values):
    """Gradients of a scalar function of tensors, as NumPy arrays."""
    values = [ops.convert_to_tensor(value) for value in values]
    return [ops.convert_to_numpy(gradient) for gradient in tensor_gradients(function, values)]


def tensor_gradients(function, values):
    """Gradients of a scalar function of tensors, as tensors."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = function(*values)
        return tape.gradient(loss, values)
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(lambda args: function(*args))(values)
    values = [value.detach().requires_grad_() for value in values]
    function(*values).backward()
    return [value.grad for value in values]


def with_weights(layer, weights, *args, **kwargs):
    """Call a layer with tensors in the place of its weights, so that they can be differentiated."""
    state = list(zip(layer.trainable_variables, weights, strict=True))
    with keras.StatelessScope(state_mapping=state):
        return layer(*args, **kwargs)


def compiled(function, jit):
    """The function as a graph, compiled by XLA when asked; None where the backend has no such."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=jit)
    if backend == "jax":
        import jax

        return jax.jit(function) if jit else None
    return None
