"""`python -m keras_rnnkit`: what fits, what runs and what would fail on this machine."""

from keras_rnnkit.inspection.doctor import main

if __name__ == "__main__":
    raise SystemExit(main())
