"""A coding receipt: images losslessly coded by a model's own conditionals. Nobody can argue with a file size."""

from harness.auditing.coding.file import HEADER_BYTES, CodedFile, CodingError
from harness.auditing.coding.receipt import TOLERANCE, Receipt, code_images, decode, encode

__all__ = ["HEADER_BYTES", "TOLERANCE", "CodedFile", "CodingError", "Receipt", "code_images", "decode", "encode"]
