"""Slow, obvious versions of the clever functions: loops as the formulas are written."""

import numpy as np


def slow_bias(vectors, reference, settings):
    """Mean similarity of each text over the reference images: name, grounded, region and region-name terms."""

    def mean_over_images(similarity, texts):
        return np.array([np.mean([similarity(b, t) for b in range(len(reference.image))]) for t in texts])

    def whole(b, text):
        return float(reference.image[b] @ text)

    def best_region(b, text):
        return max(float(r @ text) for r in slow_regions(reference, b, settings))

    return {
        "name": mean_over_images(whole, vectors.names),
        "grounded": mean_over_images(whole, vectors.grounded),
        "region": mean_over_images(best_region, vectors.bare),
        "region_name": mean_over_images(best_region, vectors.names),
    }


def slow_regions(features, image, settings):
    """Regions that reach the threshold, or the image itself."""
    keep = [
        features.regions[image, q]
        for q in range(features.regions.shape[1])
        if features.region_weight[image, q] >= settings.region_threshold
    ]
    return keep or [features.image[image]]


def slow_scores(vectors, features, settings, bias=None):
    """The sum of the five terms for every image and category."""
    zero = {key: np.zeros(10_000) for key in ("name", "grounded", "region", "region_name")}
    bias = bias or zero
    scores = np.zeros((len(features.image), len(vectors.names)))
    for i in range(len(features.image)):
        g, regions = features.image[i], slow_regions(features, i, settings)
        exemplar_means = {}
        for c in range(len(vectors.names)):
            name = float(g @ vectors.names[c]) - bias["name"][c]
            region_name = max(float(r @ vectors.names[c]) for r in regions) - bias["region_name"][c]
            rows = range(vectors.offsets[c], vectors.offsets[c + 1])
            grounded = [float(g @ vectors.grounded[j]) - bias["grounded"][j] for j in rows] or [name]
            region = [max(float(r @ vectors.bare[j]) for r in regions) - bias["region"][j] for j in rows]
            scores[i, c] = (
                settings.name * name
                + settings.description * np.mean(grounded)
                + settings.region * np.mean(region or [region_name])
                + settings.region_name * region_name
            )
            own = [float(g @ vectors.exemplars[k]) for k in range(*vectors.exemplar_offsets[c : c + 2])]
            if own:
                exemplar_means[c] = np.mean(sorted(own)[-settings.exemplar_top :])
        if len(exemplar_means) >= 2 and np.std(list(exemplar_means.values())) > 0:
            mean, spread = np.mean(list(exemplar_means.values())), np.std(list(exemplar_means.values()))
            for c, value in exemplar_means.items():
                scores[i, c] += settings.exemplar * (value - mean) / spread
    return scores


def window_means(tokens, cells_xyxy):
    """(B, Q, C) mean of the tokens (B, gh, gw, C) in every window, cell by cell."""
    means = np.zeros((len(tokens), len(cells_xyxy), tokens.shape[-1]), dtype=np.float64)
    for b, grid in enumerate(tokens):
        for q, (x0, y0, x1, y1) in enumerate(cells_xyxy):
            inside = [grid[y, x] for y in range(y0, y1) for x in range(x0, x1)]
            means[b, q] = sum(np.asarray(cell, dtype=np.float64) for cell in inside) / len(inside)
    return means


def nearest_rows(queries, vectors, k):
    """Rows of the k largest inner products of each query: every product by itself, lower rows first among equals."""
    found = []
    for query in queries:
        products = [float(query @ vector) for vector in vectors]
        found.append(sorted(range(len(products)), key=lambda row: (-products[row], row))[:k])
    return np.array(found, dtype=np.int64).reshape(len(queries), min(k, len(vectors)))
