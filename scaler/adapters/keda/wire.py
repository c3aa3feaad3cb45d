"""The messages of KEDA's external scaler interface as values. The only module that knows protocol buffers.

The descriptors are built here from the field numbers alone, so that no generated code pins a version of the library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "externalscaler"
SERVICE = f"{PACKAGE}.ExternalScaler"

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {"string": _FIELD.TYPE_STRING, "int64": _FIELD.TYPE_INT64, "bool": _FIELD.TYPE_BOOL}
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "ScaledObjectRef": {"name": (1, "string"), "namespace": (2, "string"), "scalerMetadata": (3, "*MetadataEntry")},
    "MetadataEntry": {"key": (1, "string"), "value": (2, "string")},
    "IsActiveResponse": {"result": (1, "bool")},
    "MetricSpec": {"metricName": (1, "string"), "targetSize": (2, "int64")},
    "GetMetricSpecResponse": {"metricSpecs": (1, "*MetricSpec")},
    "GetMetricsRequest": {"scaledObjectRef": (1, "ScaledObjectRef"), "metricName": (2, "string")},
    "MetricValue": {"metricName": (1, "string"), "metricValue": (2, "int64")},
    "GetMetricsResponse": {"metricValues": (1, "*MetricValue")},
}
"""Message -> field -> (number, type); `*` repeats. A map is on the wire a list of its entries. The fields for fractions
are left out: replicas are whole, and KEDA reads the fields for whole numbers where the others are absent."""


def _classes() -> Mapping[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="headstart_keda.proto", package=PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for field, (number, type_name) in fields.items():
            label = _FIELD.LABEL_REPEATED if type_name.startswith("*") else _FIELD.LABEL_OPTIONAL
            kind = type_name.removeprefix("*")
            if kind in _TYPES:
                described.field.add(name=field, number=number, label=label, type=_TYPES[kind])
            else:
                whole = f".{PACKAGE}.{kind}"
                described.field.add(name=field, number=number, label=label, type=_FIELD.TYPE_MESSAGE, type_name=whole)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{message}"))
        for message in _MESSAGES
    }


_CLASSES = _classes()


@dataclass(frozen=True, kw_only=True)
class ScaledObject:
    """Whose trigger asks. `metadata` is what stands in the trigger."""

    name: str
    namespace: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named whole number: a value, or its target for one replica."""

    name: str
    number: int


def read_scaled_object(data: bytes) -> ScaledObject:
    return _scaled_object(_CLASSES["ScaledObjectRef"].FromString(data))


def read_metrics_request(data: bytes) -> ScaledObject:
    """Who asks; which metric does not matter, as there is one."""
    return _scaled_object(_CLASSES["GetMetricsRequest"].FromString(data).scaledObjectRef)


def active_bytes(is_active: bool) -> bytes:
    return _bytes("IsActiveResponse", result=is_active)


def metric_target_bytes(target: Metric) -> bytes:
    return _bytes("GetMetricSpecResponse", metricSpecs=[{"metricName": target.name, "targetSize": target.number}])


def metric_value_bytes(value: Metric) -> bytes:
    return _bytes("GetMetricsResponse", metricValues=[{"metricName": value.name, "metricValue": value.number}])


def _scaled_object(message: Any) -> ScaledObject:
    metadata = {entry.key: entry.value for entry in message.scalerMetadata}
    return ScaledObject(name=message.name, namespace=message.namespace, metadata=metadata)


def _bytes(message: str, **fields: Any) -> bytes:
    return bytes(_CLASSES[message](**fields).SerializeToString())
