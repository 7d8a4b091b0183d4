"use strict";
// The chosen image: its picture with the regions that were compared, its candidates, and what speaks for each.
report.detail = (function () {
  const el = report.element;
  const TERMS = {
    image_name: "image · name", image_description: "image · description", region_description: "region · description",
    region_name: "region · name", exemplar: "examples",
  };
  const MOST_GROUPS = 6;
  const detail = { term: (name) => TERMS[name] || name };
  let shownRow = -1;

  // Puts a box of the displayed image over its picture, whose frame says which part of the image it shows.
  function place(node, box, frame) {
    const [x0, y0, x1, y1] = frame;
    const percent = (value, low, high) => (100 * (Math.min(Math.max(value, low), high) - low)) / (high - low);
    const left = percent(box[0], x0, x1);
    const top = percent(box[1], y0, y1);
    node.style.left = `${left}%`;
    node.style.top = `${top}%`;
    node.style.width = `${percent(box[2], x0, x1) - left}%`;
    node.style.height = `${percent(box[3], y0, y1) - top}%`;
  }
  detail.place = place;

  function stage(row) {
    const picture = report.columns.picture[row];
    if (!picture) {
      const why = report.has(row, "FAILED") ? "This image could not be recognised." : "This row has no picture.";
      return el("div", { class: "stage none" }, el("p", { text: why }));
    }
    const [name, ...frame] = picture;
    const image = el("img", { src: report.pictureSource(name), alt: `Picture of ${report.columns.path[row]}`.slice(0, 300), draggable: "false" });
    const inner = el("div", { class: "picture" }, image);
    const ratio = (frame[2] - frame[0]) / (frame[3] - frame[1]);
    inner.style.aspectRatio = String(ratio);
    inner.style.setProperty("--ratio", String(ratio));
    const box = report.columns.box[row];
    if (box && box[1]) {
      const own = el("div", { class: "region own", title: "the box that was recognised" });
      place(own, box[1], frame);
      inner.append(own);
    }
    const region = el("div", { class: "region shown", hidden: true });
    inner.append(region);
    const caption = el("p", { class: "region-text" });
    const node = Object.assign(el("div", { class: "stage" }, inner, caption), { picture: inner, frame });
    node.show = function (piece) {
      region.hidden = !piece || !piece.box;
      if (!region.hidden) place(region, piece.box, frame);
      caption.replaceChildren();
      if (piece) caption.append(el("span", { class: "where", text: piece.box ? "region" : "whole image" }), report.foreign(piece.text));
    };
    return node;
  }

  // Shows a region while its button is pointed at or has the focus; afterwards what was shown before.
  function pointing(node, piece, shown) {
    if (!shown.show) return node;
    const on = () => shown.show(piece);
    const off = () => shown.show(shown.usual);
    for (const event of ["pointerenter", "focus"]) node.addEventListener(event, on);
    for (const event of ["pointerleave", "blur"]) node.addEventListener(event, off);
    node.addEventListener("click", () => {
      shown.usual = shown.usual === piece ? null : piece;
      shown.show(piece);
    });
    return node;
  }

  function evidence(candidate, shown) {
    const pieces = candidate[4];
    const most = Math.max(1e-9, ...pieces.map((piece) => Math.abs(piece[6])));
    return el("ol", { class: "evidence", "aria-label": `Evidence for ${candidate[0]}`.slice(0, 200) }, pieces.map(([term, text, , box, value, , contribution]) => {
      const piece = { box, text: text || candidate[0] };
      const bar = el("span", { class: `share ${contribution < 0 ? "against" : ""}` });
      bar.style.width = `${(100 * Math.abs(contribution)) / most}%`;
      const button = el("button", { class: `piece ${box ? "has-region" : ""}`, type: "button", title: `similarity ${value.toFixed(4)}, contribution ${contribution.toFixed(4)}` },
        bar, el("span", { class: "term", text: detail.term(term) }), report.foreign(text || "–", { class: "name" }),
        el("span", { class: "number", text: signed(contribution) }));
      return el("li", {}, pointing(button, piece, shown));
    }));
  }

  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4);
  detail.signed = signed;
  detail.parts = []; // of other scripts: functions of a row, its details and its picture, which return elements for the top

  // The region that is shown without pointing: that of the strongest piece of evidence that has one.
  const usual = (candidate) => {
    const piece = candidate && candidate[4].find(([, , , box]) => box);
    return piece ? { box: piece[3], text: piece[1] || candidate[0] } : null;
  };

  function candidates(row, data, shown) {
    const { rerank } = data;
    const moved = rerank && rerank.status === "ok" && Array.isArray(rerank.order) ? rerank.order : null;
    const truth = report.label(report.columns.truth[row]);
    return el("ol", { class: "candidates" }, data.candidates.map((candidate, rank) => {
      const [name, group, score, confidence] = candidate;
      const level = el("span", { class: "level" }, el("span"));
      level.firstChild.style.width = `${100 * confidence}%`;
      const before = moved && moved[rank] !== rank ? `retrieval had it at ${moved[rank] + 1}` : null;
      const answered = moved && rerank.probabilities ? `, the MLLM's probability ${report.percent(rerank.probabilities[rank])}` : "";
      const isTruth = truth && truth[0] === name && truth[1] === group;
      const body = el("div", { class: "candidate-body" },
        el("p", { class: "fine", text: `score ${score.toFixed(4)}${before ? ", " + before : ""}${answered}` }), evidence(candidate, shown));
      body.hidden = rank > 0;
      const head = el("button", { class: "candidate-head", type: "button", "aria-expanded": rank ? "false" : "true" },
        el("span", { class: "rank", text: rank + 1 }), el("span", { class: "names" }, report.foreign(name, { class: "name" }), group ? report.foreign(group, { class: "note" }) : null),
        isTruth ? el("span", { class: "badge right", text: "truth" }) : null,
        before ? el("span", { class: "badge reordered", text: `was ${moved[rank] + 1}` }) : null,
        el("span", { class: "number", text: report.percent(confidence) }), level);
      head.addEventListener("click", () => {
        body.hidden = !body.hidden;
        head.setAttribute("aria-expanded", body.hidden ? "false" : "true");
        if (!body.hidden && shown.show) shown.show((shown.usual = usual(candidate)));
      });
      return el("li", { class: "candidate" }, head, body);
    }));
  }

  function part(title, ...content) {
    return el("section", { class: "part" }, el("h3", { text: title }), ...content);
  }

  function verdict(row, data) {
    const { truth, confidence, margin, label } = report.columns;
    const facts = [];
    if (Number.isFinite(confidence[row])) facts.push(`confidence ${report.percent(confidence[row])}${data.calibrated === false ? " (not calibrated)" : ""}`);
    if (Number.isFinite(margin[row])) facts.push(`margin ${report.percent(margin[row])}`);
    if (data.size) facts.push(`${data.size[0]} × ${data.size[1]} px`);
    const lines = [el("div", { class: "verdict" }, report.foreign(report.list.title(row), { class: "label" }), el("span", { class: "badges" }, report.list.badges(row)))];
    if (data.path) lines.push(report.foreign(data.path, { class: "note" }));
    lines.push(el("p", { class: "fine", text: facts.join(" · ") }));
    if (report.has(row, "CORRECTED")) lines.push(el("p", { class: "fine" }, label[row] >= 0 ? ["recognised as ", report.foreign(report.name(label[row]))] : "recognised without a label"));
    if (truth[row] >= 0) {
      lines.push(el("p", { class: `truth ${report.has(row, "RIGHT") ? "right" : report.has(row, "WRONG") ? "wrong" : ""}` }, "truth: ", report.foreign(report.name(truth[row])), report.has(row, "NOT_IN_MEMORY") ? " (not in the memory)" : ""));
    }
    if (data.known) {
      const [score, threshold, category, negative] = data.known;
      lines.push(el("p", { class: "fine" }, `score against negative labels ${score.toFixed(3)}${threshold === null ? "" : `, unknown below ${threshold.toFixed(3)}`}; nearest category `, report.foreign(category), ", nearest negative label ", report.foreign(negative)));
    }
    return lines;
  }

  function rerankPart({ rerank }) {
    if (!rerank) return null;
    const order = Array.isArray(rerank.order) ? rerank.order : [];
    const same = order.every((rank, i) => rank === i);
    const text = rerank.status !== "ok" ? `${rerank.status}; retrieval's order stayed` : same ? "agreed with retrieval's order" : `put retrieval's number ${order[0] + 1} first`;
    return part("Reranking", el("p", { class: "fine" }, report.foreign(rerank.model || "MLLM"), `: ${text}`), (rerank.reasons || []).map((reason) => report.foreign(reason, { class: "note" })));
  }

  function groupsPart({ groups }) {
    if (!groups || !groups.length) return null;
    return part("Groups", el("ul", { class: "bars-list" }, groups.slice(0, MOST_GROUPS).map(([path, confidence]) => {
      const bar = el("span", { class: "share" });
      bar.style.width = `${100 * confidence}%`;
      return el("li", { class: "choice" }, bar, report.foreign(path, { class: "name" }), el("span", { class: "number", text: report.percent(confidence) }));
    })));
  }

  function labelsPart({ labels }, shown) {
    if (!labels || !labels.length) return null;
    return part("All labels", el("div", { class: "chips" }, labels.map(([name, , presence, box]) =>
      pointing(el("button", { class: "chip", type: "button" }, report.foreign(name), el("span", { class: "number", text: report.percent(presence) })), { box, text: name }, shown))));
  }

  function draw(row, data) {
    const panel = report.byId("detail");
    const shown = stage(row);
    const { path } = report.columns;
    const content = el("div", { class: "detail-content" },
      el("div", { class: "detail-head" }, report.foreign(path[row], { class: "path", dir: "ltr", tabindex: 0, role: "button", "aria-label": "File name; press Enter to see all of it", onclick: (event) => event.target.classList.toggle("whole"), onkeydown: (event) => event.key === "Enter" && event.target.classList.toggle("whole") }),
        el("button", { id: "detail-close", class: "icon", type: "button", "aria-label": "Back to the images", text: "×", onclick: report.list.close })),
      shown);
    if (!data) content.append(el("p", { class: "fine", text: "The details of this row are missing." }));
    else if (data.error) {
      content.append(...verdict(row, data), part("Why it failed", report.foreign(data.error[1], { class: "reason" })));
    } else {
      content.append(...[...verdict(row, data), ...detail.parts.map((make) => make(row, data, shown)), report.compare.part(row, data), labelsPart(data, shown),
        data.candidates.length ? part("Candidates", candidates(row, data, shown)) : null, rerankPart(data), groupsPart(data)].filter((each) => each));
      shown.usual = usual(data.candidates[0]);
      if (shown.show) shown.show(shown.usual);
    }
    const top = shownRow === row ? panel.scrollTop : 0;
    const hadFocus = panel.contains(document.activeElement) || document.activeElement === panel;
    panel.replaceChildren(content);
    panel.dataset.row = row;
    panel.scrollTop = top;
    if (hadFocus) panel.focus({ preventScroll: true });
    shownRow = row;
  }

  let drawn = null;
  // Shows the chosen row again after something about it has changed.
  detail.again = () => {
    drawn = null;
    report.list.choose(report.list.current);
  };

  detail.start = function () {
    let wanted = -1;
    report.list.onChoose((row) => {
      wanted = row;
      if (drawn === row) return;
      report.withDetails(row, (data) => {
        if (wanted !== row) return; // another row was chosen in the meantime
        drawn = row;
        try {
          draw(row, data);
        } catch {
          // A file of results may hold anything; a row that makes no sense costs its own details alone.
          draw(row, { error: ["", "The details of this row cannot be shown."] });
        }
      });
    });
    report.filters.onChange(() => {
      if (report.filters.order.length) return;
      drawn = null;
      report.byId("detail").replaceChildren(el("p", { class: "fine quiet", text: "No image is chosen." }));
    });
  };
  return detail;
})();
