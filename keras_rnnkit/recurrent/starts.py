"""The states before the first step: those that a cell begins with, or that are learned."""

from typing import Any

import keras
from keras import ops, tree


def starts_of(cell: Any, batch_size: Any, dtype: str) -> Any:
    """Return the states that a cell begins with, nested as the cell nests them."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return [starts_of(one, batch_size, dtype) for one in cell.cells]
    if getattr(cell, "get_initial_state", None) is not None:
        return cell.get_initial_state(batch_size=batch_size)
    dtype = getattr(cell, "compute_dtype", dtype)
    return tree.map_structure(lambda size: ops.zeros((batch_size, size), dtype), cell.state_size)


class Starts:
    """A layer around a cell, as far as it knows the states before the first step.

    Attributes:
        cell: The cell, or a stack of them.
        learned_states: A weight for each state, flat; empty where none is learned.
        stateful: Whether it carries states from batch to batch.
    """

    cell: Any
    learned_states: list[Any]
    stateful = False

    def make_learned_states(self: Any, trainable: bool) -> None:
        """Make a weight of each state before the first step, which begins as the cell's own."""

        def own() -> list[Any]:
            return tree.flatten(starts_of(self.cell, 1, self.compute_dtype))

        self.learned_states = [
            self.add_weight(
                state.shape[1:],
                lambda shape, dtype, index=index: ops.cast(own()[index][0], dtype),
                trainable=trainable,
                name=f"initial_state_{index}",
            )
            for index, state in enumerate(own())
        ]

    def get_initial_state(self: Any, batch_size: Any) -> list[Any]:
        """Return the states before the first step, nested as the cell nests them.

        The learned ones, else the cell's own, else zeros.
        """
        found = starts_of(self.cell, batch_size, self.compute_dtype)
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        # Tensors of their own: torch's carried states would share the memory of a weight.
        if not self.learned_states:
            return tree.map_structure(ops.copy, found) if self.stateful else found
        leaves = [
            ops.zeros_like(state) + ops.cast(learned, state.dtype)
            for learned, state in zip(self.learned_states, tree.flatten(found), strict=True)
        ]
        return list(tree.pack_sequence_as(found, leaves))
