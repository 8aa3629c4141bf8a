"""A message as it lies on the wire, and what an attacker may make of it: its records, its objects, its announcement."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)

from tests.fuzz.values import config_value, damaged, metric_value, number, packed, raw, text

KINDS = (b"Message", b"RecordDict", b"ConfigRecord", b"MetricRecord", b"ArrayRecord", b"Array", b"ArrayChunk", b"Evil")


@dataclass(frozen=True)
class Wire:
    """An announcement, the tree of the objects that it says there are, and those that there are."""

    proto: MessageProto
    tree: ObjectTree
    objects: dict[str, bytes]


def on_wire(message: Message) -> Wire:
    with no_object_id_recompute():
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = {key: part.deflate() for key, part in get_all_nested_objects(message).items()}
        return Wire(message_to_proto(remove_content_from_message(message)), get_object_tree(message), objects)


# What is in a message.


def odd_message(random: Random, message: Message) -> Message:
    """The message with another content, or an error in its place."""
    if random.random() < 0.1:
        code = random.choice((0, 1, 2, 3, 4, 5, 8, 1000, -1, 2**31 - 1))
        return make_message(metadata=message.metadata, error=Error(code, text(random)))
    content = RecordDict({**message.content})
    for _ in range(random.choice((1, 1, 2, 3))):
        random.choice((_drop, _swap, _rename, _add, _config, _config, _metrics, _metrics, _array, _array, _array))(
            random, content
        )
    return make_message(metadata=message.metadata, content=content)


def _drop(random: Random, content: RecordDict) -> None:
    if content:
        del content[random.choice(list(content))]


def _swap(random: Random, content: RecordDict) -> None:
    """Two records under each other's names, or one of another kind."""
    if content:
        names = list(content)
        content[random.choice(names)] = random.choice((content[random.choice(names)], _record(random)))


def _rename(random: Random, content: RecordDict) -> None:
    if content:
        name = random.choice(list(content))
        record = content[name]
        del content[name]
        content[text(random)] = record


def _add(random: Random, content: RecordDict) -> None:
    for place in range(random.choice((1, 1, 3, 30))):
        content[f"{text(random)[:50]}{place}"] = _record(random)


def _record(random: Random) -> Any:
    kind = random.choice(("config", "metrics", "arrays"))
    if kind == "config":
        return ConfigRecord({text(random): config_value(random) for _ in range(random.choice((0, 1, 5)))})
    if kind == "metrics":
        return MetricRecord({text(random): metric_value(random) for _ in range(random.choice((0, 1, 5)))})
    return ArrayRecord({text(random): _odd_array(random, b"\0" * 8) for _ in range(random.choice((0, 1, 2)))})


def _config(random: Random, content: RecordDict) -> None:
    records = content.config_records
    if records:
        name = random.choice(list(records))
        fields = dict(records[name])
        key = random.choice([*fields, text(random)])
        fields[key] = random.choice((config_value(random), number(random), text(random), raw(random)))
        if isinstance(records[name].get(key), str) and random.random() < 0.5:
            fields[key] = damaged(random, str(records[name][key]).encode()).decode(errors="replace")
        if random.random() < 0.2:
            del fields[key]
        content[name] = ConfigRecord(fields)


def _metrics(random: Random, content: RecordDict) -> None:
    records = content.metric_records
    if records:
        name = random.choice(list(records))
        numbers = dict(records[name])
        numbers[random.choice([*numbers, text(random)])] = metric_value(random)
        if random.random() < 0.2 and numbers:
            del numbers[random.choice(list(numbers))]
        content[name] = MetricRecord(numbers)


def _array(random: Random, content: RecordDict) -> None:
    records = content.array_records
    if records:
        name = random.choice(list(records))
        arrays = dict(records[name])
        key = random.choice([*arrays, text(random)])
        arrays[key] = _odd_array(random, next((array.data for array in arrays.values()), b"\0" * 8))
        content[name] = ArrayRecord(arrays)


def _odd_array(random: Random, honest: bytes) -> Array:
    content = packed(random, honest)
    return random.choice(
        (
            Array("uint8", (len(content),), "safetensors", content),
            Array("uint8", (len(content),), "safetensors", content),
            Array(text(random)[:100], (2**40,), text(random)[:100], content),
            Array("object", (1,), "numpy.ndarray", content),
        )
    )


# What is on the wire.


def odd_wire(random: Random, wire: Wire) -> Wire:
    change = random.choice((_bytes, _bytes, _head, _root, _chunks, _json, _body, _tree, _metadata, _large, _lost))
    return change(random, replace(wire, objects=dict(wire.objects)))


def _changed(random: Random, wire: Wire, change: Callable[[bytes], bytes], kind: bytes = b"") -> Wire:
    keys = [key for key, content in wire.objects.items() if content.startswith(kind)]
    if keys:
        key = random.choice(keys)
        wire.objects[key] = change(wire.objects[key])
    return wire


def _bytes(random: Random, wire: Wire) -> Wire:
    return _changed(random, wire, lambda content: damaged(random, content))


def _head(random: Random, wire: Wire) -> Wire:
    def change(content: bytes) -> bytes:
        _, _, body = content.partition(b"\0")
        kept = content.partition(b"\0")[0].split(b" ")
        own = b"".join(kept[1:2])
        children = random.choice((own, b"", own + b"," + own, b",,", b"f" * 64, *_ids(random, wire)))
        length = random.choice((b"%d" % len(body), b"-1", b"9" * 5000, b"x", b"", b"1e3"))
        head = random.choice((b"%s %s %s", b"%s %s  %s", b"%s%s%s")) % (random.choice(KINDS), children, length)
        return head + random.choice((b"\0", b"\0", b"")) + body

    return _changed(random, wire, change)


def _ids(random: Random, wire: Wire) -> list[bytes]:
    ids = [key.encode() for key in wire.objects]
    return [b",".join(random.sample(ids, random.randrange(len(ids) + 1)))]


def _root(random: Random, wire: Wire) -> Wire:
    """The message is said to be another of the objects, or one that is not there."""
    key = random.choice([*wire.objects, "0" * 64, ""])
    proto = MessageProto.FromString(wire.proto.SerializeToString())
    proto.metadata.message_id = key
    return Wire(proto, ObjectTree(object_id=key, children=list(wire.tree.children)), wire.objects)


def _chunks(random: Random, wire: Wire) -> Wire:
    """An array that lists its chunks in an odd way: a terabyte, made of one of them."""
    places = random.choice(([0] * 50_000, [-1], [0.0], [1], [], "0", None, [[0]], [True], {"0": 0}, [2**70]))
    fields: dict[str, Any] = {"dtype": "uint8", "shape": [1], "stype": "safetensors", "arraychunk_ids": places}
    for _ in range(random.randrange(2)):
        fields[random.choice(list(fields))] = random.choice((None, [None], text(random)[:50], 1e999, -1, {"a": []}))
    return _changed(random, wire, lambda content: _with_body(content, json.dumps(fields).encode()), b"Array ")


def _json(random: Random, wire: Wire) -> Wire:
    ids = list(wire.objects)
    body = random.choice(
        (
            b"[" * 100_000, b'{"a":' * 20_000, b"null", b"[]", b"{}", b"1" * 10_000, b"NaN", b'"\\ud800"', b"\xff\xfe",
            json.dumps({"\ud800": random.choice(ids)}).encode(), json.dumps(dict.fromkeys("abc", ids[0])).encode(),
            json.dumps({text(random): random.choice(ids) for _ in range(5)}).encode(),
        )
    )  # fmt: skip
    kind = random.choice((b"RecordDict", b"ArrayRecord", b"Array "))
    return _changed(random, wire, lambda content: _with_body(content, body), kind)


def _body(random: Random, wire: Wire) -> Wire:
    """Bytes for protobuf: groups in groups, lengths beyond the end, numbers of eleven bytes."""
    body = random.choice(
        (b"\x0b" * 5000, b"\x0a\xff\xff\xff\xff\x0f", b"\x08" + b"\xff" * 11, raw(random), b"\x0a\x02\xff\xfe" * 100)
    )
    return _changed(random, wire, lambda content: _with_body(content, body))


def _with_body(content: bytes, body: bytes) -> bytes:
    kind, _, rest = content.partition(b"\0")[0].partition(b" ")  # the object may be damaged already
    return b"%s %s %d\0" % (kind, rest.partition(b" ")[0], len(body)) + body


def _tree(random: Random, wire: Wire) -> Wire:
    tree = ObjectTree.FromString(wire.tree.SerializeToString())
    deepest = tree
    match random.choice(("many", "deep", "twice", "empty", "none")):
        case "many":
            tree.children.extend(ObjectTree(object_id=f"{place:064d}") for place in range(random.choice((5, 3000))))
        case "deep":
            for place in range(90):
                deepest = deepest.children.add(object_id=random.choice([*wire.objects, f"{place:064d}"]))
        case "twice":
            tree.children.append(ObjectTree.FromString(wire.tree.SerializeToString()))
        case "empty":
            tree.children.add(object_id=text(random))
        case "none":
            del tree.children[:]
    return Wire(wire.proto, tree, wire.objects)


def _metadata(random: Random, wire: Wire) -> Wire:
    proto = MessageProto.FromString(wire.proto.SerializeToString())
    for _ in range(random.choice((1, 2))):
        match random.choice(("reply", "source", "type", "time", "task", "group")):
            case "reply":
                proto.metadata.reply_to_message_id = random.choice(("", "0" * 64, text(random)))
            case "source":
                proto.metadata.src_node_id = random.choice((0, 1, 2, 2**63, 2**64 - 1))
            case "type":
                proto.metadata.message_type = random.choice(("", "train", "query", "query.nothing", text(random)))
            case "time":
                proto.metadata.ttl, proto.metadata.created_at = float(number(random)), float(number(random))
            case "task":
                proto.metadata.src_task_id = proto.metadata.dst_task_id = random.choice((0, 2**63))
            case "group":
                proto.metadata.group_id = text(random)
    return Wire(proto, wire.tree, wire.objects)


def _large(random: Random, wire: Wire) -> Wire:
    """More than was asked for, in one object or in many."""
    size, many = random.choice(((8 * 2**20, 1), (2**20, 3), (300_000, 1), (10, 40)))
    kind = random.choice((b"ArrayChunk", b"ConfigRecord", b"Message"))
    tree = ObjectTree.FromString(wire.tree.SerializeToString())
    for place in range(many):
        key = f"{place:064d}"
        wire.objects[key] = b"%s  %d\0" % (kind, size) + bytes(size)
        tree.children.insert(0, ObjectTree(object_id=key))
    return Wire(wire.proto, tree, wire.objects)


def _lost(random: Random, wire: Wire) -> Wire:
    wire.objects.pop(random.choice(list(wire.objects)))
    return wire
