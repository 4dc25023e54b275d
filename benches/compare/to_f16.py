#!/usr/bin/env python3
"""A GGUF file with its matrices in another type, for peers that read no other kind as well (`pip install gguf`).

    python3 benches/compare/to_f16.py MODEL.gguf OUT.gguf [F16 | BF16 | Q8_0]

F16, where nothing is said, holds what smaller types do; BF16 has three bits less, and is what bfloat16 kernels compute with.
"""

import sys

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, dequantize, quantize

FILE_TYPES = {"F16": 1, "BF16": 32, "Q8_0": 7}  # general.file_type: "mostly" of that type


def copy_metadata(reader, writer, left_out):
    """All metadata but those whose names are left out."""
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or left_out(name):
            continue
        sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub_type)


def save(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def copy(source, target, kind="F16", add=lambda writer: None, without=()):
    """Writes the file anew; `add` adds metadata and tensors of its own, in place of the metadata named in `without`, too."""
    reader = GGUFReader(source)
    writer = GGUFWriter(target, arch=reader.fields["general.architecture"].contents())
    copy_metadata(reader, writer, lambda name: name in ("general.architecture", "general.file_type", *without))
    writer.add_file_type(FILE_TYPES[kind])
    for tensor in reader.tensors:
        numbers = dequantize(tensor.data, tensor.tensor_type)
        stored = GGMLQuantizationType.F32 if tensor.tensor_type == GGMLQuantizationType.F32 else GGMLQuantizationType[kind]
        writer.add_tensor(tensor.name, quantize(numbers, stored), raw_dtype=stored)
    add(writer)
    save(writer)


if __name__ == "__main__":
    copy(*sys.argv[1:])
