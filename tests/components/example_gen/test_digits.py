import numpy as np

from components.example_gen import digits


def test_digits_cover_the_whole_range():
    scaled = digits.pixels(np.full((1, 8, 8), 16, np.uint8))
    assert scaled.shape == (1, 3072) and (scaled == 255).all()
    assert not digits.pixels(np.zeros((1, 8, 8), np.uint8)).any()
