"""The loss of a model as one function, checked before anything is compiled."""

import inspect
from typing import Any

import keras
from keras import ops, tree

from keras_rnnkit.inspection import passes


def loss_of(root: Any, loss: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """The loss as a function of (x, y, prediction, sample_weight)."""
    if loss is None:
        if not getattr(root, "compiled", False):
            raise ValueError(
                f"`loss` must be given for {root.name!r}, which is not compiled; received None. "
                'Pass a loss, such as "mse", or compile the model.'
            )
        plain = type(root).compute_loss is keras.Model.compute_loss
        _require_targets(y, plain and getattr(root, "loss", None) is not None)
        knows = "training" in inspect.signature(root.compute_loss).parameters
        options = {"training": False} if knows else {}

        def compiled_loss(x: Any, y: Any, prediction: Any, weight: Any) -> Any:
            return root.compute_loss(x=x, y=y, y_pred=prediction, sample_weight=weight, **options)

        if y is not None:  # else all losses are of the model's own adding
            _settle_compiled_loss(root, compiled_loss, x, y)
        return compiled_loss
    if sample_weight is not None:
        raise ValueError(
            "`sample_weight` weights the loss that the model was compiled with; received it "
            "together with `loss`. Leave one of them out."
        )
    _require_targets(y, True)
    refusal = (
        "`loss` must be the name of a loss, a keras.losses.Loss or a function of (y, prediction); "
        f"received {loss!r}. For a model of several outputs pass a function, or compile it with a "
        "loss for each and leave `loss` out."
    )
    try:
        function = keras.losses.get(loss)
    except (ValueError, TypeError) as error:
        raise ValueError(refusal) from error
    takes_any = callable(loss) and not isinstance(loss, (keras.losses.Loss, type))
    if not isinstance(function, keras.losses.Loss):
        function = LossByFunction(function)

    def one_loss(x: Any, y: Any, prediction: Any, weight: Any) -> Any:
        if tree.is_nested(prediction) and not takes_any:
            raise ValueError(f"{root.name!r} has several outputs, and {refusal}")
        return function(y, prediction)

    return one_loss


def _require_targets(y: Any, read: bool) -> None:
    if y is None and read:
        raise ValueError(
            "`y` must hold the targets that the loss reads; received None. Pass them, or zeros "
            "where it does not read them."
        )


class LossByFunction(keras.losses.Loss):
    """A function as in `compile`: targets in the dtype of the prediction, with the mask."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return what the function returns."""
        return self._function(y_true, y_pred)


def _settle_compiled_loss(root: Any, loss: Any, x: Any, y: Any) -> None:
    """Let a model that was never trained make its metrics, which a compiled function cannot."""
    shown = root.compute_output_spec(passes.symbols(x))
    prediction = tree.map_structure(lambda t: ops.zeros(t.shape, t.dtype), shown)
    # A regularizer reads its variable, which a scope without values would not find.
    variables = passes.variables(root)
    with keras.StatelessScope(list(zip(variables, passes.values(variables), strict=True))):
        loss(x, y, prediction, None)
