"""Which of the recorded pushes count."""

from ml_metadata.proto.metadata_store_pb2 import Artifact

from contract import pushed_model


def push(number: int, version: int, model: int, **texts: str) -> Artifact:
    made = Artifact(id=number)
    for name, value in {pushed_model.PUSHED: 1, pushed_model.MODEL_ID: model}.items():
        made.custom_properties[name].int_value = value
    texts[pushed_model.DESTINATION] = f"/serving/{version}"
    for name, value in texts.items():
        made.custom_properties[name].string_value = value
    return made


def test_a_version_that_is_recorded_again_counts_once():
    nothing = Artifact(id=9)
    nothing.custom_properties[pushed_model.PUSHED].int_value = 0
    first, again = push(1, version=5, model=3), push(4, version=5, model=3)
    other, found = push(2, version=6, model=7), push(3, version=8, model=9, found="x")
    by_a_run = push(5, version=8, model=9)
    recorded = [by_a_run, nothing, again, found, other, first]
    assert pushed_model.pushes(recorded) == [first, other, by_a_run]


def test_what_got_the_number_of_a_removed_version_counts_as_well():
    first, other = push(1, version=5, model=3), push(2, version=5, model=4)
    rolled_back = push(3, version=5, model=3, rollback_of="5")
    assert len(pushed_model.pushes([first, other, rolled_back])) == 3
