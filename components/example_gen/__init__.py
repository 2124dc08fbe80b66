"""CifarExampleGen: the first node; images from anywhere to sharded TFRecords.

Reading order: `component` (the contract), `executor` (the Beam pipeline), `identity`
(example ids, splits, shards), `pieces` (a source cut up for the workers, and read),
`sources` (which source a configuration means). The sources:

    the authors' files   `official_files`, from `layout` (names and checksums), `archives`
                         and `formats` (bytes to records; pickles by `safe_pickle`)
    tensorflow-datasets  `prepared` (its folders), `prepared_records`, `download`
    scikit-learn         `digits`
    one's own images     `own_files` (classes and splits by names), `own_records` (contents),
                         `own_tfds` (data.tfds: any prepared set as such a folder)
    live requests        `extra` (data.extra: labelled images, into train alone), `extra_beam`

All stand on `storage` (files here or in an object store), `errors` and `progress`.
`choice` (what data.name=auto stands for) is asked by the command line alone.
"""
