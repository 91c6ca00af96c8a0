"""Reference values for `sonograd validate`, computed with PyTorch and transformers."""
