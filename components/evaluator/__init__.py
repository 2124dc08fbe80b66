"""Measures all contenders on the same images: TFMA, and paired statistics."""
