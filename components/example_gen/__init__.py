"""CifarExampleGen: the first node; images from anywhere to sharded TFRecords.

Reading order: `layout` (what the official files are), `archives` (bytes to validated
records), `sources` (tensorflow-datasets and scikit-learn's digits), `identity` (example
ids, splits, shards), `executor` (the Beam pipeline), `component` (the contract), and
`choice` (what the command line needs to know before any of this is loaded).
"""
