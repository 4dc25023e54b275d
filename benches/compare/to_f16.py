#!/usr/bin/env python3
"""A GGUF file with its matrices widened to F16, for peers that read no other kind as well (`pip install gguf`).

    python3 benches/compare/to_f16.py MODEL.gguf OUT.gguf
"""

import sys

import numpy
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, dequantize


def main(source, target):
    reader = GGUFReader(source)
    writer = GGUFWriter(target, arch=reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub_type)
    writer.add_file_type(1)  # mostly F16
    for tensor in reader.tensors:
        numbers = dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type != GGMLQuantizationType.F32:
            numbers = numbers.astype(numpy.float16)
        writer.add_tensor(tensor.name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
