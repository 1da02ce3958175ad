"""An embedding layer that reads its weights from a vector file when it is built."""

from __future__ import annotations  # short names of types in help and signatures

import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from keras_rnnkit.arguments import Constraint, DType, LayerOptions, Regularizer, given
from keras_rnnkit.embedding.coverage import Coverage
from keras_rnnkit.embedding.formats import open_file
from keras_rnnkit.embedding.vectors import FALLBACKS, Filler, Vectors, load_vectors
from keras_rnnkit.embedding.vocabulary import SavedVocabulary, Vocabulary, read_vocabulary

_OWNED = ("input_dim", "output_dim", "embeddings_initializer", "weights", "input_length")
TEXT = ("<U", ">U", "|S", "object", "string", "<dtype: 'string'>")  # how types of text are written
_VOCABULARY_FILE = "vocabulary.json"
_COVERAGE_FILE = "coverage.json"


def _default_name() -> str:
    """As Keras counts names; it would write the class glo_ve_embedding."""
    count = keras.backend.get_uid("glove_embedding") - 1
    return f"glove_embedding_{count}" if count else "glove_embedding"


class _Held(str):
    """A name in a config that still refers to an object, until the config is written as JSON.

    So a copy made in this process (`clone_model`, `from_config`) uses the same words, while a saved
    config stays small.
    """

    value: Any

    def __new__(cls, name: str, value: Any) -> _Held:
        held = super().__new__(cls, name)
        held.value = value
        return held

    def __reduce__(self) -> tuple[Any, ...]:
        return _Held, (str(self), self.value)


def _held(value: Any) -> Any:
    """An argument as a config holds it: itself if it is short, else a name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _Held(f"{getattr(value, '__name__', type(value).__name__)} in memory", value)


def _plain(value: Any) -> Any:
    """A NumPy number as a Python number, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value


def _released(value: Any) -> Any:
    return value.value if isinstance(value, _Held) else value


@keras.saving.register_keras_serializable(package="keras_rnnkit")
class GloVeEmbedding(keras.layers.Embedding):
    r"""`keras.layers.Embedding` with pretrained weights from a file of word vectors.

    Row $i$ is the vector of word $i$ (Pennington, Socher and Manning, *GloVe: Global Vectors for
    Word Representation*, 2014), and $y_{bt} = E_{x_{bt}}$. The file is read when the layer is
    built, by :func:`load_vectors`, whose options this layer takes.

    Row 0, if it is padding, is zero and stays zero, whatever is trained: rows, LoRA, a tied output.

    A saved model reloads without the file: `.keras` brings the rows, the vocabulary and the
    coverage; `.weights.h5` the rows. (Keras's old `.h5` format of whole models does not hold the
    words.) The config holds neither rows nor words. A layer made with a file, and its copies in the
    same process (`clone_model`, `from_config`), read that file when they are built. A layer from a
    saved config, and its copies, read and write no file, whatever the config says: their rows are
    NaN until weights are loaded, so that a missing load shows at once.

    Args:
        file: What :func:`load_vectors` reads. None reads nothing: give `dim`, and load weights.
        vocabulary: What :func:`load_vectors` takes; it decides the number of rows.
        freeze_found: Whether only the rows without a pretrained vector are trained. They are then a
            variable of their own, so that no optimizer (weight decay, momentum) changes the rest.
            It is fixed when the layer is made; weights can be moved between layers with and
            without it.
        trainable: Whether the rows are trained; with `freeze_found`, those without a vector. None
            means False, or True with `freeze_found` or `lora_rank`.
        mask_zero: Whether index 0 is masked. None masks it if row 0 is padding.

    The other arguments are those of :func:`load_vectors` and of `keras.layers.Embedding`.

    Attributes:
        coverage: The :class:`Coverage` of the vocabulary; None before the layer is built, and if
            only weights were loaded.

    Input shape:
        Any, integers: rows of the vocabulary. Usually `(batch, time)`.

    Output shape:
        The input's, and `dim`: `(batch, time, dim)`, of the layer's compute dtype.

    Raises:
        AttributeError: `freeze_found` is set on a layer.
        OSError: The file does not exist, is a directory, or cannot be read.
        TypeError: An unknown argument, or one that this layer sets by itself (`weights`,
            `input_dim`, ...).
        ValueError: `mask_zero` if row 0 is a word; `freeze_found` with LoRA; when the layer is
            built, whatever :func:`load_vectors` raises; and, when it is called, text, or a row
            that the vocabulary does not have.

    Example:
        >>> import keras_rnnkit as rk
        >>> import pathlib, tempfile, keras, numpy as np
        >>> file = pathlib.Path(tempfile.mkdtemp(), "glove.txt")
        >>> _ = file.write_text("the 0.5 -1\ncat 0.25 2\n")
        >>> layer = rk.GloVeEmbedding(file, ["", "[UNK]", "the", "cat"])
        >>> model = keras.Sequential([layer, keras.layers.LSTM(3)])
        >>> model(np.array([[2, 3, 0]])).shape[-1]
        3
        >>> print(keras.ops.convert_to_numpy(layer(np.array([3, 0]))))
        [[0.25 2.  ]
         [0.   0.  ]]
        >>> layer.coverage
        Coverage(2 of 2 words (100.0 %); exact 2, lower 0, digits 0; 0 missing)
    """

    _embeddings: Any

    def __init__(
        self,
        file: Any,
        vocabulary: Any,
        *,
        freeze_found: bool = False,
        trainable: bool | None = None,
        mask_zero: bool | None = None,
        dim: int | None = None,
        words: Any = None,
        num_words: int | None = None,
        oov_token: str | None = None,
        counts: Mapping[str, int] | Sequence[int] | None = None,
        oov: str | Filler = "zeros",
        seed: int = 0,
        fallbacks: Sequence[str] = FALLBACKS,
        normalize: bool = False,
        strict: bool = False,
        warn_below: float | None = 0.5,
        cache: bool | str | os.PathLike[str] = False,
        progress: bool = True,
        embeddings_regularizer: Regularizer = None,
        embeddings_constraint: Constraint = None,
        activity_regularizer: Regularizer = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        name: str | None = None,
        dtype: DType = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        _refuse_owned(kwargs)
        name = _default_name() if name is None else name
        options = given(locals())
        del options["file"], options["vocabulary"], options["freeze_found"]
        del options["trainable"], options["mask_zero"]
        if quantization_config is None:
            del options["quantization_config"]  # which Keras 3.12 does not know
        reading = {each: _plain(options.pop(each)) for each in load_vectors.__kwdefaults__ or ()}
        if file is None and reading["dim"] is None:
            raise ValueError("`file` is None, so `dim` must say how wide the rows are.")
        lora = lora_rank is not None
        if freeze_found and lora:
            raise ValueError(
                "`freeze_found` and `lora_rank` exclude each other: LoRA changes every row. Choose "
                "one."
            )
        names = {each: reading.pop(each) for each in ("num_words", "oov_token")}
        if not isinstance(vocabulary, SavedVocabulary):
            # A wrong path shows here; that of a copy, when the copy is built.
            if isinstance(file, str | os.PathLike) and not isinstance(file, _Held):
                open_file(file).close()
            vocabulary = read_vocabulary(vocabulary, **names)
        if mask_zero and not vocabulary.padding:
            raise ValueError(
                "`mask_zero` is True, but row 0 of `vocabulary` is a word, not padding. Begin the "
                "vocabulary with '', or pass mask_zero=False."
            )
        if trainable is None:
            trainable = bool(freeze_found or lora)
        super().__init__(
            input_dim=vocabulary.rows,
            output_dim=1,
            mask_zero=vocabulary.padding if mask_zero is None else mask_zero,
            trainable=trainable,
            **options,
        )
        self.output_dim = reading["dim"]
        self._freeze_found = bool(freeze_found)
        self.coverage: Coverage | None = None
        self._read = functools.partial(load_vectors, _released(file), vocabulary, **reading)
        self._free_rows: int | None = None
        self._free: Any = None
        self._adapting = False

    @property
    def freeze_found(self) -> bool:
        """Whether only the rows without a pretrained vector are trained."""
        return self._freeze_found

    @freeze_found.setter
    def freeze_found(self, value: bool) -> None:
        raise AttributeError(
            f"`freeze_found` of layer '{self.name}' is fixed when the layer is made. To train "
            f"other rows, make one with freeze_found={value} and load the weights of this one."
        )

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of each row; special rows by their name in the source."""
        return self._read.args[1].known().words

    def build(self, input_shape: Any = None) -> None:
        """Read the file and make the rows; `input_shape` does not matter."""
        if self.built:
            return
        file, vocabulary = self._read.args
        reads = file is not None and isinstance(vocabulary, Vocabulary)
        if not reads and self.output_dim is None:
            raise ValueError(
                f"Layer '{self.name}' came from a config without `dim`, since it was made "
                "before the layer was built. Build the model before its config is saved."
            )
        self._build_rows(self._read() if reads else None)

    def get_build_config(self) -> dict[str, Any] | None:
        """That the layer is built: all that loading needs."""
        return {"input_shape": None} if self.built else None

    def _build_rows(self, vectors: Vectors | None) -> None:
        vocabulary = self._read.args[1]
        if vectors is None:
            rows = np.full((1, self.output_dim), np.nan, np.float32)
            free = np.arange(vocabulary.padding, vocabulary.rows)[: self._free_rows]
        else:
            if self.quantization_mode:
                raise ValueError(
                    f"Layer '{self.name}' is quantized: its rows come from saved weights, not from "
                    "`file`. Clone the model first and quantize the clone, or save and load it."
                )
            rows = vectors.matrix
            self.output_dim = rows.shape[1]
            self.coverage = vectors.coverage
            free = np.flatnonzero(~vectors.found)
            free = free[free >= vocabulary.padding]
        if not self.freeze_found or self.quantization_mode:
            if not self.quantization_mode:
                self.embeddings_initializer = _initializer(rows)
            super().build()
            if self.quantization_mode:  # whose rows are whole numbers, and hold no NaN
                self.embeddings_scale.assign(ops.full(self.embeddings_scale.shape, np.nan))
            self.embeddings_initializer = keras.initializers.get("zeros")
            if vocabulary.padding and self.quantization_mode is None:
                self._embeddings.constraint = _BlankPadding(self.embeddings_constraint)
            return
        self._free_rows = len(free)
        slots = np.full(self.input_dim, -1, np.int32)
        slots[free] = np.arange(len(free))
        # A table is never empty, so that every backend can look something up in it.
        own = rows[free] if vectors is not None and len(free) else rows[:1]
        self._embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=_initializer(rows),
            trainable=False,
        )
        self._slots = self.add_weight(
            name="slots",
            shape=(self.input_dim,),
            dtype="int32",
            initializer=_initializer(slots),
            trainable=False,
        )
        self._free = self.add_weight(
            name="free_embeddings",
            shape=(max(len(free), 1), self.output_dim),
            initializer=_initializer(own),
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )
        self.built = True

    @property
    def embeddings(self) -> Any:
        """All rows, `(rows, dim)`, as for a tied output; quantized ones as they are looked up."""
        if hasattr(self, "embeddings_scale") and not self._adapting:
            return self.quantized_call(ops.arange(self.input_dim, dtype="int32"))
        if self._free is None:
            return super().embeddings
        return self._merge(*map(ops.convert_to_tensor, (self._slots, self._embeddings)))

    def _merge(self, slots: Any, rows: Any) -> Any:
        """`rows`, with those that are trained taken from their own table."""
        free = ops.take(self._free, ops.maximum(slots, 0), axis=0)
        return ops.where(ops.expand_dims(slots >= 0, -1), free, rows)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Check the indices as far as they are known, then call as every layer."""
        if isinstance(inputs, list | tuple):
            inputs = _as_array(self.name, inputs)
        if str(getattr(inputs, "dtype", "")).startswith(TEXT):
            raise ValueError(
                f"`inputs` of {self.name!r} must be whole numbers, the rows of words in the "
                "vocabulary; received text. Put the keras.layers.TextVectorization or "
                "StringLookup from which the vocabulary comes before this layer."
            )
        # To read a tensor's values would break torch's graphs.
        if isinstance(inputs, np.ndarray) or keras.backend.backend() != "torch":
            self._refuse_beyond(inputs)
        try:
            return super().__call__(inputs, *args, **kwargs)
        except IndexError:  # torch says no more than that
            self._refuse_beyond(inputs)
            raise

    def _refuse_beyond(self, inputs: Any) -> None:
        """Refuse an index that is no row, where values are known.

        Else JAX would give NaN, TensorFlow an error without the layer's name.
        """
        try:
            indices = np.asarray(inputs)
        except Exception:  # a symbolic tensor, for which each backend raises its own
            return
        if indices.dtype.kind not in "iuf" or not indices.size:
            return
        for index in (indices.min(), indices.max()):
            if not -1 < index < self.input_dim:
                raise ValueError(
                    f"`inputs` of {self.name!r} must be rows of the vocabulary, 0 to "
                    f"{self.input_dim - 1}; received {index}. Turn words into numbers with the "
                    "vocabulary that this layer was made with."
                )

    def call(self, inputs: Any) -> Any:
        """Look the rows up.

        Args:
            inputs: Integers of any shape.

        Returns:
            The rows, `(*inputs.shape, dim)`.
        """
        inputs = self._indices(inputs)
        if self._free is None:
            return self._blank_padding(inputs, super().call(inputs))
        slots = ops.take(self._slots, inputs, axis=0)
        rows = self._merge(slots, ops.take(self._embeddings, inputs, axis=0))
        return ops.cast(rows, self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Mask index 0, where it is padding."""
        return super().compute_mask(_dense(inputs), mask)

    def quantized_call(self, inputs: Any, **arguments: Any) -> Any:
        """The same for a quantized layer."""
        inputs = self._indices(inputs)
        return self._blank_padding(inputs, super().quantized_call(inputs, **arguments))

    def _indices(self, inputs: Any) -> Any:
        """Rows of the table as whole numbers; a negative one lies beyond it.

        As an index it would count from the end, in code that is compiled without a word.
        """
        inputs = _dense(inputs)
        if keras.backend.standardize_dtype(inputs.dtype) not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        return ops.where(inputs < 0, ops.full_like(inputs, self.input_dim), inputs)

    def _blank_padding(self, inputs: Any, rows: Any) -> Any:
        """Keep padding at zero, so that neither a gradient nor LoRA changes it."""
        if not self._read.args[1].padding or not (self.trainable or self.lora_enabled):
            return rows
        return ops.where(ops.expand_dims(ops.equal(inputs, 0), -1), ops.zeros_like(rows), rows)

    def set_weights(self, weights: Any) -> None:
        """Set the rows, also before the layer is built."""
        self.build()
        super().set_weights(weights)

    def enable_lora(self, rank: int, *args: Any, **kwargs: Any) -> None:
        """Train a low-rank change of all rows; the layer becomes trainable, its rows do not.

        Raises:
            ValueError: The layer has `freeze_found`.
        """
        if self.freeze_found:
            raise ValueError(
                f"Layer '{self.name}' has freeze_found=True, and LoRA changes every row. Make it "
                "without freeze_found."
            )
        self.trainable = True
        self._adapting = True  # while Keras freezes what it takes for the variable
        try:
            super().enable_lora(rank, *args, **kwargs)
        finally:
            self._adapting = False
        if self._read.args[1].padding:
            blank = _BlankPadding(None)
            self.lora_embeddings_a.assign(blank(self.lora_embeddings_a))
            self.lora_embeddings_a.constraint = blank

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Quantize the rows, as `keras.layers.Embedding` does, including those that are trained."""
        if type_check and type(self) is not GloVeEmbedding:
            raise NotImplementedError(
                f"{type(self).__name__} does not say how it is quantized: override `quantize`."
            )
        if self._free is not None:
            self._embeddings.assign(self.embeddings)
            del self._free, self._slots
            self._free = self._free_rows = None
            self._freeze_found = False
        super().quantize(mode, type_check=False, config=config)

    def save_own_variables(self, store: Any) -> None:
        """Save the rows; with `freeze_found`, also which of them are trained."""
        if self._free is None:
            super().save_own_variables(store)
            return
        store["0"] = ops.convert_to_numpy(self.embeddings)
        store["1"] = ops.convert_to_numpy(self._slots) >= 0

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` saved, with `freeze_found` or without.

        Raises:
            ValueError: More rows were trained than this layer has; or it has `freeze_found` and no
                file, and the rows were saved without `freeze_found`.
        """
        alone = len(store.keys()) < 2
        if self._free is None:
            saved_apart = self.built and self.quantization_mode is None and not alone
            super().load_own_variables({"0": store["0"]} if saved_apart else store)
            return
        if alone and self.coverage is None:
            raise ValueError(
                f"Layer '{self.name}' has freeze_found=True and the rows were saved without, so "
                "which of them are trained is not known. Build the layer with its file first."
            )
        if alone:
            slots = ops.convert_to_numpy(self._slots)
            store = {"0": store["0"], "1": slots >= 0}
        rows, free = np.asarray(store["0"]), np.flatnonzero(np.asarray(store["1"]))
        own = np.zeros(self._free.shape, rows.dtype)
        if len(free) > len(own) or rows.shape != tuple(self._embeddings.shape):
            raise ValueError(
                f"Layer '{self.name}' was saved with rows {rows.shape}, {len(free):,} of them "
                f"trained; it now has {tuple(self._embeddings.shape)}, {len(own):,} trained. Build "
                "it with the same vocabulary and file, or with file=None."
            )
        own[: len(free)] = rows[free]
        slots = np.full(len(rows), -1, np.int32)
        slots[free] = np.arange(len(free))
        self._embeddings.assign(rows)
        self._slots.assign(slots)
        self._free.assign(own)

    def save_assets(self, folder: str) -> None:
        """Save the words and the coverage, which are not in the config."""
        vocabulary = self._read.args[1]
        if isinstance(vocabulary, SavedVocabulary):
            vocabulary = vocabulary.vocabulary
        if vocabulary is not None:
            Path(folder, _VOCABULARY_FILE).write_text(vocabulary.to_json(), encoding="utf-8")
        if self.coverage is not None:
            text = json.dumps(asdict(self.coverage))
            Path(folder, _COVERAGE_FILE).write_text(text, encoding="utf-8")

    def load_assets(self, folder: str) -> None:
        """Load the words and the coverage."""
        file, vocabulary = self._read.args
        path = Path(folder, _VOCABULARY_FILE)
        try:
            if path.exists():
                words = Vocabulary.from_json(path.read_text(encoding="utf-8"))
                if words.fingerprint != vocabulary.fingerprint:
                    raise ValueError("its words are not those that the config tells of")
                saved = SavedVocabulary(words.fingerprint, words.rows, words.padding, words)
                self._read = functools.partial(load_vectors, file, saved, **self._read.keywords)
            path = Path(folder, _COVERAGE_FILE)
            if path.exists():
                told = json.loads(path.read_text(encoding="utf-8"))
                listed = ("missing", "missing_counts", "bad_examples")
                for name in listed:
                    told[name] = None if told[name] is None else tuple(told[name])
                self.coverage = Coverage(**told)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"Layer '{self.name}': {path.name} of the saved model is damaged ({error}). Take a "
                "copy of the model that is whole, or load its weights alone."
            ) from error

    def get_config(self) -> dict[str, Any]:
        """The arguments; long ones (words, counts, vectors in memory) by name only."""
        file, vocabulary = self._read.args
        config = super().get_config()
        del config["output_dim"], config["embeddings_initializer"]
        config["vocabulary"] = _Held(vocabulary.fingerprint, vocabulary)
        config["padding"] = vocabulary.padding
        config["free_rows"] = self._free_rows
        config["file"] = _held(file)
        if isinstance(config["file"], str) and isinstance(vocabulary, Vocabulary):
            config["file"] = _Held(config["file"], file)
        config["freeze_found"] = self.freeze_found
        for name, value in self._read.keywords.items():
            config[name] = list(value) if name == "fallbacks" else _held(value)
        config["dim"] = self.output_dim
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GloVeEmbedding:
        """Make a layer from a config; any entry may be replaced before.

        A file is read only if the config came from `get_config` of a layer made with that file, in
        this process. Nothing that is written into a saved config makes a layer read a file.
        """
        here = isinstance(config.get("file"), _Held)
        released = {name: _released(value) for name, value in config.items()}
        config = released | ({"file": config["file"]} if here else {})
        rows, padding = config.pop("input_dim", None), config.pop("padding", False)
        free_rows = config.pop("free_rows", None)
        vocabulary = config.get("vocabulary")
        if not (here or isinstance(vocabulary, Vocabulary | SavedVocabulary)):
            config["vocabulary"] = SavedVocabulary.from_entry(vocabulary, rows, padding)
        layer = super().from_config(config)
        layer._free_rows = free_rows  # noqa: SLF001  its own
        return layer


class _BlankPadding(keras.constraints.Constraint):
    """Keeps row 0 at zero, even if a tied output or LoRA would train it; with another constraint.

    It is set on variables when they are made, so it is not in a config.
    """

    def __init__(self, other: Any) -> None:
        self.other = other

    def __call__(self, rows: Any) -> Any:
        rows = rows if self.other is None else self.other(rows)
        return ops.concatenate([ops.zeros_like(rows[:1]), rows[1:]], axis=0)


def _initializer(values: np.ndarray) -> Any:
    """An initializer that gives these values, broadcast to a shape."""

    def initialize(shape: Any, dtype: Any = None) -> Any:
        return ops.convert_to_tensor(np.broadcast_to(values, shape), dtype=dtype)

    return initialize


def _refuse_owned(names: Iterable[str]) -> None:
    """Refuse an argument of `keras.layers.Embedding` that this layer settles itself."""
    for name in names:
        if name in _OWNED:
            raise TypeError(
                f"GloVeEmbedding does not take `{name}`: rows and columns come from `vocabulary` "
                "and `file`, rows without a vector from `oov`. Leave it out."
            )


def _as_array(name: str, inputs: Any) -> np.ndarray:
    """Lists of indices as an array."""
    try:
        return np.asarray(inputs)
    except ValueError as error:
        raise ValueError(
            f"`inputs` of {name!r} must be an array, (batch, time); received sequences of "
            "different lengths. Pad them, keras.utils.pad_sequences(sequences, padding='post')."
        ) from error


def _dense(inputs: Any) -> Any:
    """Indices as a dense array; those that a sparse one leaves out are 0."""
    if isinstance(inputs, keras.KerasTensor):
        return ops.add(inputs, 0) if inputs.sparse else inputs  # what a sum gives is dense
    return ops.convert_to_tensor(inputs, sparse=False)
