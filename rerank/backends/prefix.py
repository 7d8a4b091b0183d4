"""What prompts about one image share is computed once: its keys and values serve the rest of every prompt.

Prompts that rotate the same options begin alike (chat template, image, question) and differ in a short rest. One pass
over the shared beginnings of some images fills a cache; further passes run over the rests alone, each row with a copy
of its image's part of the cache.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all prompts begin with; the whole length of a prompt that is alone."""
    for place, tokens in enumerate(zip(*prompts, strict=False)):
        if len(set(tokens)) > 1:
            return place
    return min(len(prompt) for prompt in prompts)


def without_ends(inputs: Mapping[str, Tensor], ends: Sequence[int], pad: int) -> dict[str, Tensor]:
    """Cut tokens off the ends of prompts, and pad what is left on the left again.

    Args:
        inputs: of a model, padded on the left, with `input_ids` and `attention_mask` (N, L); whole numbers of this
            shape belong to tokens, the others (pixels, sizes of images) do not change.
        ends: (N,) tokens to cut.
        pad: id of the padding token.
    """
    import torch

    mask = inputs["attention_mask"]
    cut = torch.tensor(ends, device=mask.device)[:, None]
    left = mask.sum(1, keepdim=True) - cut
    width = int(left.max())
    places = torch.arange(width, device=mask.device)
    columns = (mask.shape[1] - cut - width + places).clamp(min=0)
    padding = places < width - left

    def shortened(name: str, value: Tensor) -> Tensor:
        if value.shape != mask.shape or value.is_floating_point():
            return value
        return value.gather(1, columns).masked_fill(padding, pad if name == "input_ids" else 0)

    return {name: shortened(name, value) for name, value in inputs.items()}


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The beginnings of the prompts about N images, computed.

    Attributes:
        images: that the prompts are about.
        tokens: that their prompts begin with, before the processor puts more in the place of an image.
        logits: (N, vocabulary) at the last token of each beginning.
        cache: of keys and values, N rows of P tokens.
        mask: (N, P) 1 for tokens, 0 for padding on the left.
        shift: (N, 1) what M-RoPE adds to the number of tokens before a text token to get its position, for an image of
            h x w tokens takes max(h, w) positions; None for a model without M-RoPE.
    """

    images: Sequence[Image]
    tokens: Sequence[Sequence[int]]
    logits: Tensor
    cache: Any
    mask: Tensor
    shift: Tensor | None

    def rows(self, images: Sequence[Image], prompts: Sequence[Sequence[Sequence[int]]]) -> list[int] | None:
        """Find the beginnings of prompts.

        Args:
            images: each is looked for as an object, not by its content.
            prompts: tokens of all prompts about each image.

        Returns:
            The row of each image; None if one has no row, or a prompt that begins otherwise.
        """
        known = {id(image): row for row, image in enumerate(self.images)}
        rows = [known[id(image)] for image in images if id(image) in known]
        if len(rows) < len(images):
            return None
        begin_so = (
            list(prompt[: len(self.tokens[row])]) == list(self.tokens[row])
            for row, each in zip(rows, prompts, strict=True)
            for prompt in each
        )
        return rows if all(begin_so) else None


class PrefixedNetwork:
    """A network of transformers that runs over beginnings and rests of prompts.

    Args:
        network: a causal model that sees images.
    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401  transformers has no types
        """Look up how this version names its arguments."""
        parameters = inspect.signature(network.forward).parameters
        self._network = network
        self._keeps_logits = "logits_to_keep" in parameters
        self._cache = "cache" if "cache" in parameters else "past_key_values"  # its name before transformers 5.2x

    def begin(self, inputs: Mapping[str, Tensor], images: Sequence[Image], tokens: Sequence[Sequence[int]]) -> Prefixes:
        """Run over the beginnings.

        Args:
            inputs: padded on the left, with one image each.
            images: see `Prefixes`.
            tokens: see `Prefixes`.
        """
        last_only = {"logits_to_keep": 1} if self._keeps_logits else {}
        outputs = self._network(**inputs, use_cache=True, **last_only)
        shift = getattr(self._network.base_model, "rope_deltas", None)
        return Prefixes(images, tokens, outputs.logits[:, -1], outputs[self._cache], inputs["attention_mask"], shift)

    def go_on(
        self, prefixes: Prefixes, rows: Sequence[int], rests: Sequence[Sequence[int]], at_most: int
    ) -> list[Tensor]:
        """Run over rests of prompts.

        Args:
            prefixes: from `begin`; they do not change.
            rows: (M,) which beginning each rest belongs to.
            rests: M lists of text tokens; the logits of an empty one are those of its beginning.
            at_most: rows of a forward pass.

        Returns:
            M times (vocabulary,) logits at the last token of each prompt.
        """
        logits = [prefixes.logits[row] for row in rows]
        waiting = [number for number, rest in enumerate(rests) if rest]
        for start in range(0, len(waiting), at_most):
            part = waiting[start : start + at_most]
            found = self._pass(prefixes, [rows[number] for number in part], [rests[number] for number in part])
            for number, row in zip(part, found, strict=True):
                logits[number] = row
        return logits

    def close(self) -> None:
        """Release the network."""
        self._network = None

    def _pass(self, prefixes: Prefixes, rows: Sequence[int], rests: Sequence[Sequence[int]]) -> Tensor:
        import torch

        device = prefixes.mask.device
        chosen = torch.tensor(rows, device=device)
        lengths = torch.tensor([len(rest) for rest in rests], device=device)
        # Padding stands on the right, so that every token follows its beginning at the right distance: a model without
        # M-RoPE counts positions by columns. No token sees what comes after it, and any id may stand there.
        width = int(lengths.max())
        tokens = torch.tensor([[*rest, *[0] * (width - len(rest))] for rest in rests], device=device)
        places = torch.arange(width, device=device)
        before = prefixes.mask[chosen]
        mask = torch.cat([before, (places < lengths[:, None]).to(before.dtype)], 1)
        positions = {}
        if prefixes.shift is not None:
            # Without them, Qwen2-VL takes the shift of the images it saw last, in their order.
            positions["position_ids"] = before.sum(1, keepdim=True) + prefixes.shift[chosen] + places
        cache = copy.deepcopy(prefixes.cache)  # the pass below adds to it
        cache.reorder_cache(chosen)  # repeats rows too, and unlike `batch_select_indices` knows linear attention
        # Logits are computed where a rest ends, for over the whole vocabulary they are large.
        ends = sorted({len(rest) - 1 for rest in rests}) if self._keeps_logits else range(width)
        keep = {"logits_to_keep": torch.tensor(ends, device=device)} if self._keeps_logits else {}
        outputs = self._network(
            input_ids=tokens, attention_mask=mask, use_cache=True, **positions, **{self._cache: cache}, **keep
        )
        columns = [ends.index(len(rest) - 1) for rest in rests]
        logits: Tensor = outputs.logits[range(len(rests)), columns]
        return logits
