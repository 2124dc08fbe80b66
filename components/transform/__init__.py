"""Normalisation as a graph: TFX's Transform, told what the data set is."""
