"""Runs a program of the guide and notes the windows that it is shown; see test_engines.py.

`python record.py PROGRAM CSV NOTES KILL`: each batch becomes a line of NOTES, and the batch of that
number ends the program as `kill -9` does.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

import numpy as np

import keras_rnnkit as rk


class Notes:
    """The file of the batches shown; it may be written by worker processes of a data loader."""

    def __init__(self, path, kill):
        self.path, self.kill, self.shown, self.main = Path(path), int(kill), 0, os.getpid()

    def __call__(self, inputs):
        self.shown += 1
        if self.shown == self.kill:
            os.kill(self.main, signal.SIGKILL)
        # A window is known by its last row, of which the file has no two alike.
        line = " ".join(row.tobytes().hex() for row in np.asarray(inputs)[:, -1])
        with self.path.open("a") as file:
            print(line, file=file, flush=True)


def note_loaders(note):
    class NotedLoader(rk.WindowLoader):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            note(batch[0])
            return batch

    rk.WindowLoader = NotedLoader


def note_datasets(note):
    import tensorflow as tf

    window_dataset = rk.window_dataset

    def seen(x):
        note(x)
        return x

    def noted(x, y):
        return tf.ensure_shape(tf.py_function(seen, [x], x.dtype), x.shape), y

    rk.window_dataset = lambda *args, **options: window_dataset(*args, **options).map(noted)


def note_shares(note):
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy
    distribute = strategy.experimental_distribute_dataset

    class NotedShares:
        def __init__(self, strategy, dataset):
            self.strategy, self.shares = strategy, distribute(strategy, dataset)

        def __iter__(self):
            for batch in self.shares:
                note(np.concatenate(self.strategy.experimental_local_results(batch[0])))
                yield batch

    strategy.experimental_distribute_dataset = lambda *both: NotedShares(*both)


def main(program, csv, notes, kill):
    ways = {"mirrored": note_datasets, "multi_worker": note_shares}
    ways.get(Path(program).stem, note_loaders)(Notes(notes, kill))
    sys.argv = [program, csv]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
