"""Rewrites a GGUF file with other block formats: `requantize_gguf.py IN OUT q8_0|bf16`. Every tensor with two dimensions becomes the
format asked for; the others, and all metadata, stay. Reads F32, F16, BF16, Q4_1 and Q8_0, which is what the default model has. It makes
the other programs' input from the weights that Octavo reads, so that a comparison is between programs and not between checkpoints."""

import math
import mmap
import struct
import sys

import numpy

F32, F16, Q4_1, Q8_0, BF16 = 0, 1, 3, 8, 30
BLOCK = 32  # weights in a block of Q4_1 and Q8_0
AT_ONCE = 1 << 22  # weights recoded at a time
NAMES = {"q8_0": (Q8_0, 7), "bf16": (BF16, 32)}  # tensor type, general.file_type
BYTES = {F32: (1, 4), F16: (1, 2), BF16: (1, 2), Q4_1: (BLOCK, 20), Q8_0: (BLOCK, 34)}  # type: (weights, bytes) of a block
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY, UINT32 = 8, 9, 4


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0]

    def string(self):
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length:self.at]

    def skip(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            inner, count = self.take("I"), self.take("Q")
            for _ in range(count):
                self.skip(inner)
        else:
            self.at += SCALAR_BYTES[kind]


def decode(kind, raw):
    """float32 weights, flat."""
    if kind == F32:
        return numpy.frombuffer(raw, "<f4")
    if kind == F16:
        return numpy.frombuffer(raw, "<f2").astype("f4")
    if kind == BF16:
        return (numpy.frombuffer(raw, "<u2").astype("u4") << 16).view("f4")
    rows = numpy.frombuffer(raw, "u1").reshape(-1, BYTES[kind][1])
    scale = rows[:, :2].copy().view("<f2").astype("f4")
    if kind == Q8_0:
        return (rows[:, 2:].view("i1") * scale).ravel()
    least, packed = rows[:, 2:4].copy().view("<f2").astype("f4"), rows[:, 4:]
    return (numpy.concatenate([packed & 15, packed >> 4], axis=1) * scale + least).ravel()


def encode(kind, weights):
    if kind == BF16:  # to nearest, ties to even
        bits = numpy.ascontiguousarray(weights, "f4").view("u4")
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    blocks = weights.reshape(-1, BLOCK)
    scale = numpy.abs(blocks).max(axis=1, keepdims=True) / 127
    inverse = numpy.divide(1, scale, out=numpy.zeros_like(scale), where=scale != 0)
    values = blocks * inverse
    rounded = (numpy.sign(values) * numpy.floor(numpy.abs(values) + numpy.float32(0.5))).astype("i1")  # ties away from zero, as roundf
    return numpy.concatenate([scale.astype("<f2").view("u1"), rounded.view("u1")], axis=1).tobytes()


def pad(length, alignment):
    return b"\0" * (-length % alignment)


def size_of(kind, count):
    return count // BYTES[kind][0] * BYTES[kind][1]


def recoded(data, offset, count, kind, wanted):
    """The bytes of a tensor of `count` weights in the wanted format, in pieces."""
    for first in range(0, count, AT_ONCE):
        some, at = min(AT_ONCE, count - first), offset + size_of(kind, first)
        raw = data[at:at + size_of(kind, some)]
        yield raw if kind == wanted else encode(wanted, decode(kind, raw))


def requantize(source, target, name):
    wanted, file_type = NAMES[name]
    with open(source, "rb") as file:
        reader = Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if reader.data[:4] != b"GGUF":
        raise SystemExit(f"{source}: a GGUF file expected")
    reader.at = 4
    version, num_tensors, num_keys = reader.take("I"), reader.take("Q"), reader.take("Q")
    alignment, header = 32, bytearray()
    for _ in range(num_keys):
        start, key, kind = reader.at, reader.string(), reader.take("I")
        value_at = reader.at
        reader.skip(kind)
        if key == b"general.alignment":
            alignment = struct.unpack_from("<I", reader.data, value_at)[0]
        header += reader.data[start:value_at] + (struct.pack("<I", file_type) if key == b"general.file_type" else
                                                 reader.data[value_at:reader.at])
    tensors, infos, at = [], bytearray(), 0
    for _ in range(num_tensors):
        tensor_name = reader.string()
        dims = [reader.take("Q") for _ in range(reader.take("I"))]
        kind, offset, count = reader.take("I"), reader.take("Q"), math.prod(dims)
        becomes = wanted if len(dims) == 2 else kind
        tensors.append((offset, count, kind, becomes))
        infos += struct.pack("<Q", len(tensor_name)) + tensor_name + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, becomes, at)
        at += size_of(becomes, count) + len(pad(size_of(becomes, count), alignment))
    data_at = reader.at + len(pad(reader.at, alignment))
    top = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_keys) + header + infos
    with open(target, "wb") as file:
        file.write(top + pad(len(top), alignment))
        for offset, count, kind, becomes in tensors:
            for piece in recoded(reader.data, data_at + offset, count, kind, becomes):
                file.write(piece)
            file.write(pad(size_of(becomes, count), alignment))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in NAMES:
        raise SystemExit("usage: requantize_gguf.py IN OUT q8_0|bf16")
    requantize(*sys.argv[1:])
