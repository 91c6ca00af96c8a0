#!/usr/bin/env python3
"""Makes tests/fixtures/slic/slic.safetensors: SLIC segmentations and Gaussian
smoothing of awkward images by scikit-image.

    pip install scikit-image==0.26.0 scipy safetensors
    python tools/slic_fixture.py

Case c has `image_c` (T, F) f32, already scaled to 0..1, and `labels_c` (T, F)
u16; if its sigma is above 0 also `smooth_c` (T, F) f32, the image as SLIC sees
it. Segments, compactness and sigma are in the metadata `cases`.
"""

import json
from pathlib import Path

import numpy as np
import skimage
from safetensors.numpy import load_file, save_file
from skimage.filters import gaussian
from skimage.segmentation import slic

FIXTURES = Path(__file__).parent.parent / "tests" / "fixtures"


def unit(image):
    image = image - image.min()
    return image / image.max() if image.max() > 0 else image


def main():
    rng = np.random.default_rng(20)
    speech = unit(load_file(FIXTURES / "front_end" / "front_end.safetensors")["fbank_cmvn"])
    noise = lambda *shape: unit(rng.standard_normal(shape).astype(np.float32))
    # (image, segments, compactness, sigma)
    cases = [
        (speech[:150], 600, 0.1, 1.0),
        (speech[:150], 600, 0.1, 0.5),
        (speech[100:160], 37, 10.0, 2.3),
        (speech[:97, :79], 300, 0.01, 0.0),
        (noise(1, 80), 9, 0.1, 0.0),
        (noise(131, 1), 7, 0.1, 1.0),
        (noise(7, 3), 4, 0.1, 3.2),
        (noise(3, 7), 50, 0.1, 0.0),
        (noise(64, 64), 100, 0.1, 0.0),
        (noise(200, 8), 12, 0.5, 0.7),
        (noise(8, 200), 12, 0.5, 0.0),
        (np.zeros((31, 17), np.float32), 20, 0.1, 0.0),
    ]
    tensors, settings = {}, []
    for i, (image, segments, compactness, sigma) in enumerate(cases):
        image = np.ascontiguousarray(unit(image))
        labels = slic(
            image,
            n_segments=segments,
            compactness=compactness,
            sigma=sigma,
            channel_axis=None,
            start_label=1,
        )
        tensors[f"image_{i}"] = image
        tensors[f"labels_{i}"] = labels.astype(np.uint16)
        if sigma > 0:
            tensors[f"smooth_{i}"] = gaussian(image, sigma=np.float32(sigma), mode="reflect")
            assert tensors[f"smooth_{i}"].dtype == np.float32
        settings.append({"segments": segments, "compactness": compactness, "sigma": sigma})

    out = FIXTURES / "slic" / "slic.safetensors"
    out.parent.mkdir(exist_ok=True)
    metadata = {"cases": json.dumps(settings), "scikit_image": skimage.__version__}
    save_file(tensors, out, metadata=metadata)
    print(f"{len(cases)} cases, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
