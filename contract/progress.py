"""How whoever works says how far it is, without knowing who listens.

Records of this logger whose `progress` attribute is a dictionary {"task", "done", "total",
"unit", ...} become a bar on the console of a local run, others a line; where nobody listens
(on Vertex AI) they are ordinary log lines.
"""

PROGRESS_LOGGER = "pipeline.progress"
