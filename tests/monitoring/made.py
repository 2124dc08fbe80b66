"""Made images of ten classes, a made model, and what can go wrong with either."""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from components.drift import baseline as measuring
from monitoring.comparison import CLASSES, CONFIDENCE, PROBABILITIES

NAMES = tuple("abcdefghij")
SIDE = 16


def images(count, seed, labels=None):
    """Soft shapes in the colours of their class, uint8 [n, 16, 16, 3]; and the labels."""
    random = np.random.default_rng(seed)
    # As many of each class, as in the sets that are published.
    labels = random.permutation(np.arange(count) % 10) if labels is None else labels
    tints = np.random.default_rng(0).uniform(70, 170, (10, 3)) + (25, 0, -25)
    shapes = random.normal(0, 1, (len(labels), SIDE, SIDE))
    shapes = ndimage.gaussian_filter(shapes, (0, 1, 1)) * 90
    light = random.normal(0, 25, (len(labels), 1, 1, 1))
    cast = random.normal(0, 12, (len(labels), 1, 1, 3))  # what makes the model err
    noise = random.normal(0, 12, (len(labels), SIDE, SIDE, 3))
    pixels = tints[labels][:, None, None] + shapes[..., None] + light + cast + noise
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def model(pixels, shift=0.0):
    """Softmax of the distance to each class's colours; `shift`: as stale means would."""
    tints = np.random.default_rng(0).uniform(70, 170, (10, 3)) + (25, 0, -25)
    colours = pixels.mean(axis=(1, 2)) + shift
    # Light moves all channels alike, and says nothing of the class.
    off = (colours - colours.mean(axis=1, keepdims=True))[:, None]
    from_class = off - (tints - tints.mean(axis=1, keepdims=True))[None]
    logits = -np.square(from_class).sum(axis=2) / (
        2 * 12**2
    ) + 0.01 * shift * np.arange(10)
    logits -= logits.max(axis=1, keepdims=True)
    found = np.exp(logits)
    return found / found.sum(axis=1, keepdims=True)


def baseline(train=6000, evaluated=5000):
    pixels, trained = images(train, 1)
    asked, labels = images(evaluated, 2)
    others = np.bincount(trained, minlength=10)
    return replace(
        measuring.of_answers(model(asked), labels, NAMES, others),
        image_shape=(SIDE, SIDE, 3),
        numbers={
            name: measuring.distribution(values)
            for name, values in measuring.measure(pixels).items()
        },
    )


def columns(pixels, probabilities=None):
    """Of a window, as traffic.py makes them."""
    given = model(pixels) if probabilities is None else probabilities
    answered = np.array(NAMES, object)[given.argmax(axis=1)]
    return {
        CLASSES: answered,
        CONFIDENCE: given.max(axis=1),
        PROBABILITIES: given,
        **measuring.measure(pixels),
    }


def blurred(pixels):
    return ndimage.uniform_filter(pixels, (0, 3, 3, 0))
