"use strict";
// The images as a grid of which only what can be seen exists: 100,000 rows are a few dozen elements.
report.list = (function () {
  const el = report.element;
  const NARROWEST = 168; // pixels of a card
  const GAP = 12;
  const TEXT_HEIGHT = 78; // pixels below a picture
  const BEYOND = 2; // lines of cards above and below the view that exist too, so that scrolling shows no gaps
  const list = { current: -1 }; // the place of the chosen row in the order
  const listeners = [];
  let cards = new Map(); // by place
  let columns = 1;
  let width = NARROWEST;
  let height = 200;
  let sort = "run";

  list.onChoose = (listener) => listeners.push(listener);
  list.row = () => (list.current >= 0 ? report.filters.order[list.current] : -1);
  list.columns = () => columns;
  list.linesInView = () => Math.max(1, Math.floor(report.byId("list").clientHeight / (height + GAP)));

  const BADGES = [
    ["FAILED", "failed"], ["WRONG", "wrong"], ["UNKNOWN", "unknown"], ["BELOW", "too unsure"], ["CHANGED", "changed"], ["STATUS_CHANGED", "status changed"],
    ["ADDED", "new"], ["CORRECTED", "corrected"], ["SKIPPED", "skipped"], ["ROLLED_UP", "group"], ["REORDERED", "reranked"], ["RERANK_FAILED", "not reranked"],
  ];
  list.badges = (row) =>
    BADGES.filter(([status]) => report.has(row, status)).map(([status, text]) => el("span", { class: `badge ${status.toLowerCase().replace(/_/g, "-")}`, text }));

  list.title = function (row) {
    const { label, code, said } = report.columns;
    if (report.has(row, "CORRECTED")) return report.name(said[row], "unknown");
    if (code[row] >= 0) return report.summary.codes[code[row]][0];
    return report.has(row, "EMPTY") ? "no box" : report.name(label[row]);
  };

  function card(place) {
    const { path, box, picture, confidence } = report.columns;
    const row = report.filters.order[place];
    const image = el("div", { class: "thumb" });
    if (picture[row]) image.append(el("img", { src: report.pictureSource(picture[row][0]), alt: "", loading: "lazy", decoding: "async", draggable: "false" }));
    else image.append(el("span", { class: "no-picture", "aria-hidden": "true", text: report.has(row, "FAILED") ? "!" : "no picture" }));
    image.append(el("div", { class: "badges" }, list.badges(row)));
    const level = el("div", { class: "level" }, el("span"));
    level.firstChild.style.width = `${100 * (confidence[row] || 0)}%`;
    const name = box[row] ? `${path[row]} #${box[row][0]}` : path[row];
    const node = el("div", { class: "card", role: "option", id: `row-${row}`, "aria-setsize": report.filters.order.length, "aria-posinset": place + 1, "aria-selected": "false", onclick: () => { list.choose(place); list.open(); } },
      image, level,
      el("div", { class: "caption" }, report.foreign(list.title(row), { class: "label" }), el("span", { class: "value", text: report.percent(confidence[row]) })),
      report.foreign(name, { class: "file", dir: "ltr" }));
    node.style.width = `${width}px`;
    node.style.height = `${height}px`;
    node.style.transform = `translate(${(place % columns) * (width + GAP)}px, ${Math.floor(place / columns) * (height + GAP)}px)`;
    return node;
  }

  function draw() {
    const view = report.byId("list");
    const count = report.filters.order.length;
    const line = height + GAP;
    const first = Math.max(0, Math.floor(view.scrollTop / line) - BEYOND) * columns;
    const last = Math.min(count, (Math.ceil((view.scrollTop + view.clientHeight) / line) + BEYOND) * columns);
    for (const [place, node] of cards) {
      if (place >= first && place < last) continue;
      node.remove();
      cards.delete(place);
    }
    const fresh = document.createDocumentFragment();
    for (let place = first; place < last; place++) {
      if (cards.has(place)) continue;
      const node = card(place);
      cards.set(place, node);
      fresh.append(node);
    }
    report.byId("canvas").append(fresh);
    mark();
  }

  function mark() {
    for (const [place, node] of cards) node.setAttribute("aria-selected", place === list.current ? "true" : "false");
    const view = report.byId("list");
    if (cards.has(list.current)) view.setAttribute("aria-activedescendant", cards.get(list.current).id);
    else view.removeAttribute("aria-activedescendant");
  }

  list.layout = function () {
    const space = report.byId("canvas").clientWidth;
    if (!space) return;
    columns = Math.max(2, Math.floor((space + GAP) / (NARROWEST + GAP)));
    width = Math.floor((space - GAP * (columns - 1)) / columns);
    height = Math.round(width * 0.75) + TEXT_HEIGHT;
    const lines = Math.ceil(report.filters.order.length / columns);
    report.byId("canvas").style.height = `${Math.max(0, lines * (height + GAP) - GAP)}px`;
    cards.forEach((node) => node.remove());
    cards = new Map();
    if (list.current >= 0) keepInView();
    draw();
  };

  function keepInView() {
    const view = report.byId("list");
    const top = Math.floor(list.current / columns) * (height + GAP);
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + height + 2 * GAP > view.scrollTop + view.clientHeight) view.scrollTop = top + height + 2 * GAP - view.clientHeight;
  }

  list.choose = function (place) {
    const count = report.filters.order.length;
    if (!count) return;
    list.current = Math.min(count - 1, Math.max(0, place));
    keepInView();
    draw();
    for (const listener of listeners) listener(list.row());
  };

  // On a narrow screen the details lie over the list; where both have room, nothing moves.
  list.open = () => document.body.classList.add("looking");
  list.close = function () {
    document.body.classList.remove("looking");
    report.byId("list").focus({ preventScroll: true });
  };

  // The chosen row stays chosen where it still passes; another order begins at its first row.
  list.refresh = function (row) {
    const { order, state } = report.filters;
    list.current = state.sort === sort ? order.indexOf(row) : -1;
    sort = state.sort;
    const total = report.summary.rows;
    const all = order.length === total;
    report.byId("shown").textContent = all ? report.counted(total, "row") : `${report.count(order.length)} of ${report.counted(total, "row")}`;
    const empty = report.byId("empty");
    const wasEmpty = !empty.hidden;
    empty.hidden = order.length > 0;
    report.byId("list").hidden = order.length === 0;
    empty.replaceChildren();
    if (!total) empty.append(el("strong", { text: "This run has no rows." }), el("p", { text: "No image was recognised, and none failed." }));
    else if (!order.length) empty.append(el("strong", { text: "No row fits these filters." }), el("button", { type: "button", text: "Clear all filters", onclick: report.filters.clear }));
    list.layout();
    if (list.current < 0) {
      report.byId("list").scrollTop = 0;
      if (order.length) list.choose(0);
    } else if (wasEmpty) list.choose(list.current); // its details have gone
  };

  // Draws the cards of some rows again.
  list.redraw = function (rows) {
    for (const [place, node] of cards) {
      if (!rows.includes(report.filters.order[place])) continue;
      node.remove();
      cards.delete(place);
    }
    draw();
  };

  list.start = function () {
    report.byId("list").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
    new ResizeObserver(() => list.layout()).observe(report.byId("list"));
    let chosen = -1;
    list.onChoose((row) => (chosen = row));
    report.filters.onChange(() => list.refresh(chosen));
  };
  return list;
})();
