"""Batch prediction: the pushed model over a folder of images or TFRecords, through Beam."""
