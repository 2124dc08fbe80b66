"""Protobuf messages that no installed package has modules for, declared field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)

_PACKAGE = "serving.server"
_SCALARS = {
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    "uint64": descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    "float": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
}
_REPEATED = "repeated "

Fields = Sequence[tuple[str, int, str]]


def declare(messages: Mapping[str, Fields]) -> dict[str, Any]:
    """Classes of proto3 messages.

    Args:
        messages: By name, each field's name, number and type: a scalar's name, one of
            google.protobuf's wrappers, or another message declared here; "repeated "
            before it.
    """
    pool = descriptor_pool.DescriptorPool()  # not the default one: no clash with others
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/server/declared.proto", package=_PACKAGE, syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind in fields:
            repeated = kind.startswith(_REPEATED)
            kind = kind.removeprefix(_REPEATED)
            field = message.field.add(name=name, number=number)
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                package = _PACKAGE if kind in messages else "google.protobuf"
                field.type = field.TYPE_MESSAGE
                field.type_name = f".{package}.{kind}"
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
        )
        for name in messages
    }
