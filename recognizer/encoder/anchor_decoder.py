"""A grounding decoder for small training sets: queries that start from windows, and vectors of the tower itself.

Each query starts from the mean token of its own window, the anchor, and learns where to look: a box, as an offset from
the window, and a weight. Vectors are not learned. A region is the mean of the tokens inside its box, projected by the
tower, and the image vector is the tower's. (A learned attention over the tokens in place of the box was tried: trained
on a few thousand scenes, it found less than the untrained windows.)

Letters as in `recognizer.encoder.decoder`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognizer.encoder.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from recognizer.encoder.decoder import DecoderOutput, DecoderSettings, GroundingDecoder
from recognizer.encoder.decoder_layer import sine_positions
from recognizer.encoder.towers import ImageTower, TowerOutput
from recognizer.encoder.windows import window_averages, window_boxes, window_cells

Project = Callable[[Tensor], Tensor]

_UNTRAINED_WEIGHT = 2.0  # logit of a region's weight before training: every window counts (sigmoid 0.88)
_EDGE = 0.03  # share of the input by which anchors keep away from 0 and 1, where a logit hardly moves a box


class AnchorDecoder(GroundingDecoder):
    """One query for each window of `settings.anchors`; untrained, its regions are the windows."""

    anchor_logits: Tensor  # (Q, 4) logits of the windows' cxcywh, to which the box head adds its offsets
    averages: Tensor  # (Q, gh * gw) weights that average the tokens of each window

    def __init__(
        self,
        settings: DecoderSettings,
        *,
        token_dim: int,
        grid_hw: tuple[int, int],
        project: Project,
    ) -> None:
        """Make a decoder of random weights, from torch's random state.

        Args:
            settings: sizes and anchors.
            token_dim: C.
            grid_hw: the token grid.
            project: the tower's `project`, from (M, C) averaged tokens to (M, D) vectors in the joint space.

        Raises:
            ValueError: the settings have no anchors.
        """
        if settings.anchors is None:
            raise ValueError("these settings have no anchors; QueryDecoder is the decoder of learned queries")
        super().__init__(settings, token_dim=token_dim)
        self._project = project
        cells = window_cells(grid_hw, settings.anchors)
        windows = xyxy_to_cxcywh(torch.from_numpy(window_boxes(cells, grid_hw, (1, 1))))
        # Not in the file: the settings and the grid determine both.
        self.register_buffer("anchor_logits", torch.logit(windows.clamp(_EDGE, 1 - _EDGE)), persistent=False)
        self.register_buffer("averages", window_averages(cells, grid_hw), persistent=False)
        self.anchor_positions = nn.Linear(2 * settings.width, settings.width)
        # Zero offsets and equal weights: before training every query is its window.
        box_offsets = self.box_head[-1]
        assert isinstance(box_offsets, nn.Linear)
        nn.init.zeros_(box_offsets.weight)
        nn.init.zeros_(box_offsets.bias)
        nn.init.zeros_(self.weight_head.weight)
        nn.init.constant_(self.weight_head.bias, _UNTRAINED_WEIGHT)

    @property
    def queries(self) -> int:
        """Q, the number of windows."""
        return len(self.anchor_logits)

    def read(self, tower: ImageTower, pixels: Tensor) -> TowerOutput:
        """Run the tower for tokens that it can project."""
        return tower.forward(pixels)

    def forward(self, output: TowerOutput) -> DecoderOutput:
        """Find the regions of B images."""
        tokens = self.project_tokens(output.tokens)
        grid = tokens[:, -self.averages.shape[1] :]  # without a class token
        start = self.averages.to(tokens.dtype) @ grid
        decoded = self.decode(start, self._anchor_positions(tokens.dtype), tokens, output)
        boxes = (self.box_head(decoded).float() + self.anchor_logits).sigmoid()
        return DecoderOutput(
            image=F.normalize(output.image_vectors().float(), dim=-1),
            regions=self._region_vectors(boxes, output),
            boxes_cxcywh=boxes,
            weight_logits=self.weight_head(decoded)[..., 0].float(),
        )

    def _anchor_positions(self, dtype: torch.dtype) -> Tensor:
        """Return the (Q, W) positions of the queries, from centre and size of their windows."""
        anchors, width = self.anchor_logits.sigmoid(), self.settings.width
        places = torch.cat([sine_positions(anchors[:, :2], width), sine_positions(anchors[:, 2:], width)], dim=1)
        positions: Tensor = self.anchor_positions(places.to(dtype))
        return positions

    def _region_vectors(self, boxes_cxcywh: Tensor, output: TowerOutput) -> Tensor:
        """Return the (B, Q, D) unit vectors of what the boxes show; boxes get no gradient from them."""
        inside = box_coverage(boxes_cxcywh.detach(), output.grid_hw)
        seen = inside @ output.tokens[:, -inside.shape[-1] :].float()
        return F.normalize(self._project(seen.flatten(0, 1)).reshape(*seen.shape[:2], -1).float(), dim=-1)


def box_coverage(boxes_cxcywh: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Return the share of a box's area that lies in each cell of a grid over the model input.

    Args:
        boxes_cxcywh: (..., 4) shares of the input's width and height, of positive area inside the input.
        grid_hw: gh and gw.

    Returns:
        (..., gh * gw) float32, row by row, each summing to 1.
    """
    corners = cxcywh_to_xyxy(boxes_cxcywh.float())
    along = []
    for axis, cells in ((1, grid_hw[0]), (0, grid_hw[1])):
        edges = torch.arange(cells + 1, device=corners.device) / cells
        low, high = corners[..., axis, None], corners[..., axis + 2, None]
        along.append((torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp(min=0))
    covered = (along[0][..., :, None] * along[1][..., None, :]).flatten(-2)
    # A box that lies outside the input covers no cell: its row stays 0 instead of dividing by 0.
    return covered / covered.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(covered.dtype).tiny)
