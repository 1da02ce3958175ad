"""The words by which other libraries know a thing are found by the site's search."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

# A term, and what a user of another library would type into the search box.
SYNONYMS = {
    "time step": "timestep time_idx",
    "panel": "item_id group_ids MultiIndex",
    "sampling rate": "frequency granularity asfreq",
    "missing value": "NaN sentinel imputation fillna MissingValuesFiller",
    "window": "sliding TimeseriesGenerator WindowGenerator TimeSeriesDataSet rolling",
    "lookback window": "look-back context_length max_encoder_length input_chunk_length",
    "horizon": "prediction_length max_prediction_length output_chunk_length label_width",
    "delay": "shift offset lead",
    "stride": "sequence_stride",
    "lag": "lags autoregressive",
    "feature": "predictor regressor channel multivariate univariate",
    "target": "label endogenous",
    "covariate": "exogenous covariates past_covariates",
    "known future covariate": "future_covariates feat_dynamic_real time_varying_known_reals",
    "static covariate": "static_covariates feat_static_real static_reals",
    "categorical variable": "LabelEncoder OrdinalEncoder StringLookup",
    "scaling": "StandardScaler normalization standardization GroupNormalizer",
    "split": "train_test_split holdout",
    "backtest": "TimeSeriesSplit walk-forward historical_forecasts",
    "data leakage": "look-ahead snooping",
    "persistence": "naive NaiveSeasonal baseline",
    "padding": "pad_sequences post-padding",
    "sample": "sequence example instance",
    "stateful": "TBPTT truncated",
    "word vector": "pretrained embedding KeyedVectors word2vec",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """What Sphinx's search box looks words up in, of the glossary alone."""
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    folder = tmp_path_factory.mktemp("glossary")
    (folder / "index.md").write_bytes((DOCS / "glossary.md").read_bytes())
    (folder / "conf.py").write_text("extensions = ['myst_parser']\n")
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "html", folder, folder / "html"]
    subprocess.run(build, check=True, capture_output=True)
    text = (folder / "html" / "searchindex.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))


def test_the_search_finds_each_term_and_its_synonyms(index):
    from sphinx.search.en import SearchEnglish

    stem = SearchEnglish({}).stem
    found = index["terms"].keys() | index["titleterms"].keys()
    for term, synonyms in SYNONYMS.items():
        for word in re.findall(r"\w+", f"{term} {synonyms}"):
            assert stem(word.lower()) in found, f"{word} ({term})"


def test_a_synonym_that_many_pages_use_leads_to_the_glossary(index):
    """Only a main entry of the index comes before the pages that use a word often."""
    for word in ("look-back", "label", "covariates", "normalization", "look-ahead", "baseline"):
        (entry,) = index["indexentries"][word]
        assert entry[-1], word
