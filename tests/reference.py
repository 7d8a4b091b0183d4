"""Slow, obvious versions of the clever functions: loops as the formulas are written.

Each has a clever partner and a test that compares the two (`test_reference.py` checks this list):

- slow_scores = recognizer.score.Scorer.score
  in recognizer/test_score.py::test_folded_score_equals_the_weighed_terms_and_the_sum_in_loops
- slow_head = recognizer.heads.kernel_ridge.KernelRidge
  in recognizer/heads/test_heads.py::test_the_term_is_that_of_a_fit_in_loops_and_without_an_exemplar_that_of_a_new_fit
- slow_known_score = recognizer.unknown.rule.NegativesRule.measure
  in recognizer/unknown/test_unknown.py::test_known_scores_are_those_of_the_loops
- nearest_rows = memory.index.ExactIndex
  in memory/test_index.py::test_the_best_rows_come_first_and_never_more_than_there_are
- grain_region_term = recognizer.benchmark.zero_shot.region_term
  in recognizer/benchmark/test_zero_shot.py::test_region_term_equals_the_loops
- found_among_the_first = recognizer.benchmark.retrieval.pair_ranks
  in recognizer/benchmark/test_retrieval.py::test_ranks_equal_the_sorted_lists
- slow_roll_up = recognizer.hierarchy.roll_up.roll_up
  in recognizer/hierarchy/test_hierarchy.py::test_a_row_is_rolled_up_as_by_the_walk_from_the_best_category
- window_means = recognizer.encoder.windows.pool_windows
  in recognizer/encoder/test_windows.py::test_pooling_equals_the_loop
- giou_of_two = recognizer.encoder.boxes.giou
  in recognizer/encoder/test_boxes.py::test_giou_of_any_numbers_is_finite_and_between_minus_one_and_one
- iou_of_two = recognizer.encoder.boxes.pairwise_iou
  in recognizer/encoder/test_boxes.py::test_overlaps_equal_the_loop_over_pairs
- voted_boxes = recognizer.encoder.boxes.vote_boxes
  in recognizer/encoder/test_boxes.py::test_votes_equal_the_loop_over_boxes
- text_classifier_score = recognizer.encoder.starter.text_classifiers.TextClassifiers
  in recognizer/encoder/starter/test_text_classifiers.py::test_a_cosine_is_that_of_the_plain_formula
- pair_costs = training.matcher.box_cost
  in training/test_matcher.py::test_cost_is_written_pair_by_pair
- slow_box_terms = training.box_losses.box_loss
  in training/test_box_losses.py::test_values_and_gradients_are_those_of_the_loops
- slow_region_weight = training.box_losses.region_weight_loss
  in training/test_box_losses.py::test_value_and_gradient_are_those_of_the_loops
- slow_image_text = training.contrastive.image_text_contrastive
  in training/test_contrastive.py::test_value_is_that_of_the_loops
- slow_image_text_sigmoid = training.contrastive.image_text_sigmoid
  in training/test_contrastive.py::test_value_is_that_of_the_loops
- slow_region_description = training.contrastive.region_description_contrastive
  in training/test_contrastive.py::test_value_and_gradient_are_those_of_the_loops
- whole_prompt = rerank.backends.transformers_local.TransformersLocal.choose
  in rerank/backends/test_prefix.py::test_shared_beginnings_change_no_log_probability
- best_pairing_accuracy = recognizer.benchmark.naming.cluster_accuracy
  in recognizer/benchmark/test_naming.py::test_cacc_is_the_best_of_all_pairings
- mean_of_cosines = recognizer.benchmark.naming.semantic_accuracy
  in recognizer/benchmark/test_naming.py::test_sacc_is_the_mean_cosine_of_the_pairs

`slow_region_description` with a bias is the partner of `region_description_sigmoid`, in the same test. The others are
parts of these, and `numerical_gradient` stands for every gradient that autograd computes.
"""

import itertools
import math

import numpy as np

from recognizer.heads.constants import PRIOR
from recognizer.heads.kernel_ridge import CLEARLY_WRONG, DOUBTED, FEWEST, SAFETY
from recognizer.heads.residual import HINGE, MARGIN
from recognizer.unknown.rule import SHARPER, WEIGHT


def slow_regions(features, image, settings):
    """Regions that reach the threshold, the image itself in place of those that fill it, or of all."""
    keep = []
    for q in range(features.regions.shape[1]):
        if features.region_weight[image, q] >= settings.region_threshold:
            fills = features.region_area[image, q] > settings.largest_region
            keep.append(features.image[image] if fills else features.regions[image, q])
    return keep or [features.image[image]]


def slow_scores(vectors, features, settings):
    """The sum of the terms for every image and category: `recognizer.score`."""
    scores = np.zeros((len(features.image), len(vectors.names)))
    for i in range(len(features.image)):
        g, regions = features.image[i], slow_regions(features, i, settings)
        for c in range(len(vectors.names)):
            image_name = float(g @ vectors.names[c])
            region_name = max(float(r @ vectors.names[c]) for r in regions)
            rows = range(vectors.offsets[c], vectors.offsets[c + 1])
            image_descriptions = [float(g @ vectors.grounded[j]) for j in rows] or [image_name]
            region_descriptions = [max(float(r @ vectors.bare[j]) for r in regions) for j in rows] or [region_name]
            scores[i, c] = (
                settings.image_name * image_name
                + settings.image_description * np.mean(image_descriptions)
                + settings.region_description * np.mean(region_descriptions)
                + settings.region_name * region_name
            )
    if len(vectors.exemplars) and settings.head != "off":
        counts = np.diff(vectors.exemplar_offsets)
        labels = np.repeat(np.arange(len(counts)), counts)
        texts = [
            vectors.names[c] / 2 + (vectors.grounded[a:b].mean(0) if b > a else vectors.names[c]) / 2
            for c, (a, b) in enumerate(itertools.pairwise(vectors.offsets))
        ]
        scores += slow_head(vectors.exemplars, labels, np.array(texts), PRIOR.beta, PRIOR.ridge)(features.image)
    return scores


def grain_region_term(regions, vectors):
    """Mean over an image's queries of the best description of each class: `recognizer.benchmark.zero_shot`."""
    term = np.zeros((len(regions), len(vectors.names)))
    for i, own in enumerate(regions):
        for c, name in enumerate(vectors.names):
            texts = [vectors.bare[j] for j in range(*vectors.offsets[c : c + 2])] or [name]
            term[i, c] = np.mean([max(float(query @ text) for text in texts) for query in own])
    return term


def found_among_the_first(scores, owner, k):
    """Whether each image finds a caption of its own among its first k, and each caption its image."""
    images, texts = range(len(scores)), range(len(owner))
    by_image = [any(owner[t] == i for t in sorted(texts, key=lambda t: (-scores[i][t], t))[:k]) for i in images]
    by_text = [owner[t] in sorted(images, key=lambda i: (-scores[i][t], i))[:k] for t in texts]
    return by_image, by_text


def slow_roll_up(paths, confidences, threshold):
    """Walk up from the best category until the sum over all paths below reaches the threshold."""
    groups = {path[:length] for path in paths for length in range(1, len(path))}
    best = max(range(len(paths)), key=lambda c: (confidences[c], -c))
    if confidences[best] >= threshold - 1e-9:
        return paths[best], confidences[best], "category"
    for length in range(len(paths[best]), 0, -1):
        group = paths[best][:length]
        if group in groups:
            total = sum(c for path, c in zip(paths, confidences, strict=True) if path[:length] == group)
            if total >= threshold - 1e-9:
                return group, total, "rolled up"
    return None


def slow_head(exemplars, labels, texts, beta, ridge, weights=None, spread=None, shift=None):
    """ProKeR with a hinge, doubt and a shift, fitted anew for every exemplar and category that is left out.

    Returns a function from images (B, D) to the term (B, C); it has what was found as `weights`, `spread`, `shift`.
    """
    n = len(labels)
    zero_shot = exemplars.astype(float) @ texts.T.astype(float)
    zero_shot -= zero_shot.mean(1, keepdims=True)
    spread = np.sqrt((zero_shot**2).mean()) if spread is None else spread

    def wanted(i, c):
        own = zero_shot[i, labels[i]]
        return MARGIN * spread - own if c == labels[i] else -max(zero_shot[i, c] - own + HINGE * spread, 0)

    targets = np.array([[wanted(i, c) for c in range(len(texts))] for i in range(n)]).reshape(n, len(texts))

    def kernel(a, b):
        return np.exp(-beta * (1 - a.astype(float) @ b.T.astype(float)))

    def fitted(kept, weights):
        own = kernel(exemplars[kept], exemplars[kept]) + np.diag(ridge / weights[kept])
        coefficients = np.linalg.solve(own, targets[kept])
        return lambda images: kernel(images, exemplars[kept]) @ coefficients

    def left_out(weights, gone):
        """Scores (n, C) of each exemplar by a fit without the exemplars gone(i)."""
        terms = [fitted([k for k in range(n) if k not in gone(i)], weights)(exemplars[i : i + 1]) for i in range(n)]
        return zero_shot + np.concatenate(terms)

    has = np.isin(np.arange(len(texts)), labels)
    others = [[c for c in range(len(texts)) if c != labels[i]] for i in range(n)]
    if weights is None:
        weights, scores = np.ones(n), left_out(np.ones(n), lambda i: {i})
        for i in range(n):
            rivals = [scores[i, c] for c in others[i] if has[c]]
            several = (labels == labels[i]).sum() >= FEWEST
            if rivals and several and max(rivals) - scores[i, labels[i]] > CLEARLY_WRONG * spread:
                weights[i] = DOUBTED
    if shift is None:
        scores = left_out(weights, lambda i: set(np.flatnonzero(labels == labels[i])))

        def accuracy(values, step):
            margins = [values[i, labels[i]] - max(values[i, c] - step * has[c] for c in others[i]) for i in range(n)]
            return np.mean([1 / (1 + np.exp(-margin / (0.6 * spread))) for margin in margins])

        shift = 0.0
        if not has.all():
            steps = [step * spread for step in np.arange(0, 4.01, 0.125)]
            wanted = min(accuracy(zero_shot, 0), accuracy(scores, steps[-1])) - 1e-3
            shift = min(step for step in steps if accuracy(scores, step) >= wanted) + SAFETY * spread
    whole = fitted(list(range(n)), weights) if n else lambda images: np.zeros((len(images), len(texts)))

    def term(images):
        return whole(images) - shift * has

    term.weights, term.spread, term.shift = weights, spread, shift
    return term


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


def giou_of_two(a, b):
    """Generalised IoU of two xyxy boxes with sides of at least 0; a ratio of two zero areas is 0."""
    union = box_area(a) + box_area(b) - shared_area(a, b)
    hull = box_area((min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])))
    return iou_of_two(a, b) - ((hull - union) / hull if hull > 0 else 0.0)


def voted_boxes(boxes_xyxy, trust, overlap):
    """Each of Q boxes averaged with those it overlaps by at least `overlap`, each counting by its trust."""
    found = []
    for box in boxes_xyxy:
        voters = [v for v, other in enumerate(boxes_xyxy) if iou_of_two(box, other) >= overlap]
        total = sum(trust[v] for v in voters)
        found.append([sum(trust[v] * boxes_xyxy[v][side] for v in voters) / total for side in range(4)])
    return found


def iou_of_two(a, b):
    """IoU of two xyxy boxes with sides of at least 0; a ratio of two zero areas is 0."""
    union = box_area(a) + box_area(b) - shared_area(a, b)
    return shared_area(a, b) / union if union > 0 else 0.0


def shared_area(a, b):
    """Area that two xyxy boxes share."""
    return box_area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def box_area(box_xyxy):
    """Area of an xyxy box, 0 where it is turned inside out."""
    x0, y0, x1, y1 = box_xyxy
    return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)


def corners(box_cxcywh):
    """One cxcywh box as (x0, y0, x1, y1)."""
    cx, cy, w, h = (float(number) for number in box_cxcywh)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def pair_costs(predicted_cxcywh, targets_cxcywh, l1_weight=5.0, giou_weight=2.0):
    """(Q, M) matching costs of one image, pair by pair."""
    costs = np.zeros((len(predicted_cxcywh), len(targets_cxcywh)))
    for q, one in enumerate(predicted_cxcywh):
        for m, other in enumerate(targets_cxcywh):
            l1 = sum(abs(float(x) - float(y)) for x, y in zip(one, other, strict=True))
            costs[q, m] = l1_weight * l1 - giou_weight * giou_of_two(corners(one), corners(other))
    return costs


def slow_box_terms(predicted_cxcywh, targets_cxcywh, pairs):
    """L1 and 1 - GIoU of the (image, query, box) pairs, over the number of all boxes; `targets` are lists per image."""
    boxes = max(1, sum(len(targets) for targets in targets_cxcywh))
    l1 = giou = 0.0
    for i, q, m in pairs:
        one, other = predicted_cxcywh[i][q], targets_cxcywh[i][m]
        l1 += sum(abs(float(x) - float(y)) for x, y in zip(one, other, strict=True))
        giou += 1 - giou_of_two(corners(one), corners(other))
    return l1 / boxes, giou / boxes


def slow_cross_entropy(logits, positives):
    """Mean over the rows with positives of their mean -log softmax, each against the negatives; columns are given."""
    losses = []
    for row, chosen in zip(logits, positives, strict=True):
        negatives = sum(math.exp(value) for column, value in enumerate(row) if column not in chosen)
        if chosen:
            each = [math.log((math.exp(row[column]) + negatives) / math.exp(row[column])) for column in chosen]
            losses.append(sum(each) / len(each))
    return sum(losses) / max(1, len(losses))


def slow_image_text(images, texts, captions, scale):
    """Symmetric InfoNCE; equal captions are positives of each other."""
    positives = [[j for j, other in enumerate(captions) if other == one] for one in captions]
    logits = [[scale * dot(image, text) for text in texts] for image in images]
    return (slow_cross_entropy(logits, positives) + slow_cross_entropy(list(zip(*logits, strict=True)), positives)) / 2


def slow_image_text_sigmoid(images, texts, captions, scale, bias):
    """Every image with every text: a question answered yes by equal captions; over the number of images."""
    total = 0.0
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            sign = 1 if captions[i] == captions[j] else -1
            total += math.log1p(math.exp(-sign * (scale * dot(image, text) + bias)))
    return total / len(images)


def slow_region_description(regions, query_of_box, described, scale, bias=None):
    """InfoNCE between regions and distinct texts, both directions; with a bias the sigmoid loss of every pair.

    `regions[i][q]` are vectors, `query_of_box[i][m]` queries or -1, `described` has (image, box, text, vector) of each
    description.
    """
    text_vectors, texts_of = {}, {}
    for i, m, text, vector in described:
        text_vectors.setdefault(text, vector)
        if query_of_box[i][m] >= 0:
            texts_of.setdefault((i, m), set()).add(text)
    names, boxes = list(text_vectors), list(texts_of)
    logits = [[scale * dot(regions[i][query_of_box[i][m]], text_vectors[n]) for n in names] for i, m in boxes]
    if bias is not None:
        signs = [[1 if name in texts_of[box] else -1 for name in names] for box in boxes]
        pairs = [(sign, value) for row in zip(signs, logits, strict=True) for sign, value in zip(*row, strict=True)]
        return sum(math.log1p(math.exp(-sign * (value + bias))) for sign, value in pairs) / max(1, len(boxes))
    of_region = [[column for column, name in enumerate(names) if name in texts_of[box]] for box in boxes]
    of_text = [[row for row, box in enumerate(boxes) if name in texts_of[box]] for name in names]
    columns = [[row[column] for row in logits] for column in range(len(names))]
    return (slow_cross_entropy(logits, of_region) + slow_cross_entropy(columns, of_text)) / 2


def slow_region_weight(logits, query_of_box):
    """Binary cross-entropy of "matched" over all queries of the images that have a matched box."""
    losses = []
    for row, queries in zip(logits, query_of_box, strict=True):
        found = {int(q) for q in queries if q >= 0}
        if found:
            losses += [math.log1p(math.exp(-x if q in found else x)) for q, x in enumerate(row)]
    return sum(losses) / max(1, len(losses))


def dot(a, b):
    """Inner product, number by number."""
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def numerical_gradient(function, values, step=1e-5):
    """Central differences of a function of one float64 array, entry by entry."""
    gradient = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        ends = []
        for sign in (1, -1):
            moved = values.copy()
            moved[place] += sign * step
            ends.append(function(moved))
        gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def text_classifier_score(text, image, pooled, classifiers):
    """Cosine of a text and an image in the space of text classifiers, number by number."""
    settings = classifiers.settings

    def unit(values):
        length = math.sqrt(sum(value * value for value in values))
        return [value / length for value in values]

    text, image = unit(text), unit(image)
    compared = unit(text[: settings.dim])
    kernel = [math.exp((dot(compared, known) - 1) / settings.bandwidth) for known in classifiers.texts.tolist()]
    columns = list(zip(*classifiers.coefficients.tolist(), strict=True))
    classifier = unit([dot(kernel, column) for column in columns])
    rooted = [math.copysign(math.sqrt(abs(value)), value) for value in pooled]
    centred = unit([value - mean for value, mean in zip(rooted, classifiers.mean.tolist(), strict=True)])
    answers = [dot(centred, column) for column in zip(*classifiers.projection.tolist(), strict=True)]
    own, added = 1 - settings.share, settings.share
    length = math.sqrt(own + added * dot(answers, answers))
    return (own * dot(text, image) + added * dot(classifier, answers)) / length


def whole_prompt(network, processor, request):
    """Logarithms of the symbols' probabilities from one pass over the whole prompt, alone, without padding or cache."""
    content = [{"type": "image"}, {"type": "text", "text": request.text}]
    chat = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text], images=[[request.image]], return_tensors="pt")
    logits = network(**inputs, use_cache=False).logits[0, -1].double().tolist()
    tokenizer = processor.tokenizer
    weights = []
    for symbol in request.symbols:
        spellings = {tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (symbol, f" {symbol}")}
        weights.append(sum(math.exp(logits[tokens[0]]) for tokens in spellings if len(tokens) == 1))
    return [math.log(weight / sum(weights)) for weight in weights]


def best_pairing_accuracy(predicted, truth):
    """The most images that are right when each predicted name stands for one class or none: every pairing is tried."""
    names, classes = sorted(set(predicted)), sorted(set(truth))
    meanings = [*classes, *[None] * len(names)]
    most = 0
    for chosen in itertools.permutations(meanings, len(names)):
        stands_for = dict(zip(names, chosen, strict=True))
        most = max(most, sum(stands_for[name] == true for name, true in zip(predicted, truth, strict=True)))
    return most / len(predicted)


def mean_of_cosines(predicted, truth, vector):
    """The mean of the cosines of each pair of names, one by one."""
    cosines = [dot(vector(name), vector(true)) for name, true in zip(predicted, truth, strict=True)]
    return sum(cosines) / len(cosines)


def slow_known_score(image, names, negatives, temperature):
    """Confidence of the best name times a power of the share of names; rows of that name and the nearest negative."""
    similarities = [float(image @ row) for row in names]
    rivals = [float(image @ row) for row in negatives]
    best = max(range(len(similarities)), key=similarities.__getitem__)
    nearest = max(range(len(rivals)), key=rivals.__getitem__)
    confidence = math.exp(similarities[best] / temperature) / sum(math.exp(each / temperature) for each in similarities)
    fits, unlike = (sum(math.exp(each / (SHARPER * temperature)) for each in some) for some in (similarities, rivals))
    return confidence * (fits / (fits + unlike)) ** WEIGHT, best, nearest
