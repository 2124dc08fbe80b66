"""The node BatchPredict."""

from components.batch_predict.executor import Executor
from components.declaration import Component


class BatchPredict(Component, executor=Executor):
    """The pushed model over a folder of images; see `predict_pushed`."""
