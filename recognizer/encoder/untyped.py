"""Names for objects of libraries that ship no types."""

from typing import Any, TypeAlias

Network: TypeAlias = Any
"""An `nn.Module` of open_clip or timm, used through the attributes its library gives it."""

Tokenizer: TypeAlias = Any
"""A tokenizer of open_clip or of `tokenizers`."""
