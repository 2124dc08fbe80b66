"""Batch prediction: a published model over a folder of images or TFRecords, through Beam.

    plan        which images, in which parts, where the answers go
    answering   a plan through Beam
    executor    the node: plan and answers for the version that was just pushed

The command `pipeline.py predict` (pipeline/prediction.py) uses the first two.
"""
