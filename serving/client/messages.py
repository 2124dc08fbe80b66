"""TensorFlow Serving's messages, made from a table, without TensorFlow.

The wire format knows field numbers, no package names. So the messages live in a private
pool under a package of their own, and do not clash with tensorflow_serving's and
TensorFlow's own classes in the same process. Numbers and types are those of the public
tensorflow_serving/apis/*.proto and tensorflow/core/framework/*.proto; a test holds both
together, byte for byte. Fields that this client has no use for are left out: protobuf
skips them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "serving_client"

# Field: "number type", "number repeated type", "number map type" (of string keys), or
# "number oneof name type". Capitalised types are messages of this table.
_TABLE: dict[str, dict[str, str]] = {
    # google/protobuf/wrappers.proto, any.proto
    "Int64Value": {"value": "1 int64"},
    "Any": {"type_url": "1 string", "value": "2 bytes"},
    # tensorflow/core/framework/{tensor_shape,tensor}.proto
    "Dim": {"size": "1 int64", "name": "2 string"},
    "TensorShapeProto": {"dim": "2 repeated Dim", "unknown_rank": "3 bool"},
    "TensorProto": {
        "dtype": "1 int32",  # enum DataType; an int keeps values newer than this table
        "tensor_shape": "2 TensorShapeProto",
        "version_number": "3 int32",
        "tensor_content": "4 bytes",
        "float_val": "5 repeated float",
        "double_val": "6 repeated double",
        "int_val": "7 repeated int32",
        "string_val": "8 repeated bytes",
        "scomplex_val": "9 repeated float",
        "int64_val": "10 repeated int64",
        "bool_val": "11 repeated bool",
        "dcomplex_val": "12 repeated double",
        "half_val": "13 repeated int32",
        "uint32_val": "16 repeated uint32",
        "uint64_val": "17 repeated uint64",
    },
    # tensorflow/core/protobuf/meta_graph.proto
    "TensorInfo": {
        "name": "1 oneof encoding string",
        "dtype": "2 int32",
        "tensor_shape": "3 TensorShapeProto",
    },
    "SignatureDef": {
        "inputs": "1 map TensorInfo",
        "outputs": "2 map TensorInfo",
        "method_name": "3 string",
    },
    # tensorflow_serving/apis/model.proto, predict.proto
    "ModelSpec": {
        "name": "1 string",
        "version": "2 oneof version_choice Int64Value",
        "signature_name": "3 string",
        "version_label": "4 oneof version_choice string",
    },
    "PredictRequest": {
        "model_spec": "1 ModelSpec",
        "inputs": "2 map TensorProto",
        "output_filter": "3 repeated string",
    },
    "PredictResponse": {"outputs": "1 map TensorProto", "model_spec": "2 ModelSpec"},
    # tensorflow_serving/apis/get_model_metadata.proto
    "GetModelMetadataRequest": {
        "model_spec": "1 ModelSpec",
        "metadata_field": "2 repeated string",
    },
    "GetModelMetadataResponse": {"model_spec": "1 ModelSpec", "metadata": "2 map Any"},
    "SignatureDefMap": {"signature_def": "1 map SignatureDef"},
    # tensorflow_serving/apis/get_model_status.proto, util/status.proto
    "GetModelStatusRequest": {"model_spec": "1 ModelSpec"},
    "StatusProto": {"error_code": "1 int32", "error_message": "2 string"},
    "ModelVersionStatus": {
        "version": "1 int64",
        "state": "2 int32",
        "status": "3 StatusProto",
    },
    "GetModelStatusResponse": {"model_version_status": "1 repeated ModelVersionStatus"},
}

_FIELD = descriptor_pb2.FieldDescriptorProto


def _add_field(message: Any, name: str, rule: str) -> None:
    number, *words = rule.split()
    field = message.field.add(
        name=name, number=int(number), label=_FIELD.LABEL_OPTIONAL
    )
    if words[0] == "oneof":
        known = [oneof.name for oneof in message.oneof_decl]
        if words[1] not in known:
            message.oneof_decl.add(name=words[1])
            known.append(words[1])
        field.oneof_index = known.index(words[1])
        words = words[2:]
    elif words[0] == "repeated":
        field.label = _FIELD.LABEL_REPEATED
        words = words[1:]
    elif words[0] == "map":
        # On the wire a map is a repeated message of key and value.
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", "1 string")
        _add_field(entry, "value", f"2 {words[1]}")
        field.label = _FIELD.LABEL_REPEATED
        words = [f"{message.name}.{entry.name}"]
    (kind,) = words
    if kind[0].isupper():
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    else:
        field.type = _FIELD.Type.Value(f"TYPE_{kind.upper()}")


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _TABLE.items():
        message = file.message_type.add(name=name)
        for field, rule in fields.items():
            _add_field(message, field, rule)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
        )
        for name in _TABLE
    }


_CLASSES = _build()
TensorProto = _CLASSES["TensorProto"]
ModelSpec = _CLASSES["ModelSpec"]
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
GetModelMetadataRequest = _CLASSES["GetModelMetadataRequest"]
GetModelMetadataResponse = _CLASSES["GetModelMetadataResponse"]
SignatureDefMap = _CLASSES["SignatureDefMap"]
GetModelStatusRequest = _CLASSES["GetModelStatusRequest"]
GetModelStatusResponse = _CLASSES["GetModelStatusResponse"]
