"use strict";
// Which rows are shown and in which order, and the column of controls that decides it.
report.filters = (function () {
  const el = report.element;
  const STATUS_TEXTS = {
    FAILED: "failed", UNKNOWN: "unknown", BELOW: "too unsure for a label", EMPTY: "no box", ROLLED_UP: "rolled up",
    RERANKED: "reranked", REORDERED: "moved by reranking", RERANK_FAILED: "reranking failed",
    RIGHT: "right", WRONG: "wrong", CHANGED: "changed", ADDED: "only in this run", CORRECTED: "corrected", SKIPPED: "skipped",
    NOT_IN_MEMORY: "true name not in the memory", STATUS_CHANGED: "same label, another status",
  };
  const SORTS = {
    run: ["in the order of the run", null],
    almost: ["almost: smallest margin", (row) => report.columns.margin[row]],
    unsure: ["least confident", (row) => report.columns.confidence[row]],
    sure: ["most confident", (row) => -report.columns.confidence[row]],
  };
  const MOST_LISTED = 100; // labels or groups; a longer list is searched rather than read
  const BINS = 20;
  const state = { status: 0, label: null, group: null, code: null, truth: null, other: null, text: "", ranges: {}, sort: "run" };
  const filters = { state, order: new Int32Array(0), statusTexts: STATUS_TEXTS, sorts: SORTS };
  const listeners = [];
  let groups = []; // {path, depth, count}
  let groupsOfLabel = []; // by label, the numbers of its groups
  let lower = null;
  let labelText = "";

  filters.onChange = (listener) => listeners.push(listener);

  filters.set = function (changes) {
    Object.assign(state, changes);
    filters.apply();
  };

  // Counts again after rows have changed; which of them are shown stays as it is.
  filters.recount = () => showCounts(tests());

  filters.clear = function () {
    filters.set({ status: 0, label: null, group: null, code: null, truth: null, other: null, text: "", ranges: {} });
    report.byId("search").value = "";
  };

  function searched(text) {
    if (!text) return null;
    const wanted = text.toLowerCase();
    if (!lower || lower.length < report.loaded) lower = report.columns.path.slice(0, report.loaded).map((path) => path.toLowerCase());
    const labels = report.summary.labels.map(([name]) => name.toLowerCase().includes(wanted));
    return (row) => lower[row].includes(wanted) || (report.columns.label[row] >= 0 && labels[report.columns.label[row]]);
  }

  // One test for each part of the state; a row is shown when all of them hold.
  function tests() {
    const { label, truth, other, code, status, margin, confidence } = report.columns;
    const found = {};
    if (state.status) found.status = (row) => (status[row] & state.status) !== 0;
    if (state.label !== null) found.label = (row) => label[row] === state.label;
    if (state.group !== null) found.group = (row) => label[row] >= 0 && groupsOfLabel[label[row]].includes(state.group);
    if (state.code !== null) found.code = (row) => code[row] === state.code;
    if (state.truth !== null) found.truth = (row) => truth[row] === state.truth;
    if (state.other !== null) found.other = (row) => other[row] === state.other;
    for (const [name, column] of [["confidence", confidence], ["margin", margin]]) {
      const range = state.ranges[name];
      // Bounds are compared as the columns are stored, in single precision.
      if (range) found[name] = (row) => column[row] >= Math.fround(range[0]) && column[row] <= Math.fround(range[1]);
    }
    const text = searched(state.text);
    if (text) found.text = text;
    return found;
  }

  function rowsThatPass(found) {
    const parts = Object.values(found);
    const rows = new Int32Array(report.loaded);
    let count = 0;
    next: for (let row = 0; row < report.loaded; row++) {
      for (const test of parts) if (!test(row)) continue next;
      rows[count++] = row;
    }
    return rows.subarray(0, count);
  }

  filters.apply = function () {
    const found = tests();
    const rows = rowsThatPass(found);
    const key = SORTS[state.sort][1];
    if (key) {
      const keys = new Float64Array(report.loaded);
      for (const row of rows) keys[row] = Number.isNaN(key(row)) ? Infinity : key(row);
      rows.sort((a, b) => keys[a] - keys[b] || a - b);
    }
    filters.order = rows;
    showCounts(found);
    showChips();
    for (const listener of listeners) listener();
  };

  const without = (found, name) => rowsThatPass(Object.fromEntries(Object.entries(found).filter(([each]) => each !== name)));

  // Counts beside each choice: how many rows it would show with the other parts of the state as they are.
  function showCounts(found) {
    const { label, status, code } = report.columns;
    const byStatus = without(found, "status");
    for (const box of document.querySelectorAll("#statuses input")) {
      const bit = Number(box.value);
      let count = 0;
      for (const row of byStatus) if (status[row] & bit) count++;
      box.checked = (state.status & bit) !== 0;
      box.nextElementSibling.nextElementSibling.textContent = report.count(count);
      box.parentElement.hidden = count === 0 && !box.checked;
    }
    report.byId("statuses").parentElement.hidden = !document.querySelector("#statuses label:not([hidden])");
    const counts = new Int32Array(report.summary.labels.length);
    let none = 0;
    for (const row of without(found, "label")) {
      if (label[row] < 0) none++;
      else counts[label[row]]++;
    }
    listLabels(counts, none);
    if (groups.length) {
      const sums = new Int32Array(groups.length);
      for (const row of without(found, "group")) if (label[row] >= 0) for (const group of groupsOfLabel[label[row]]) sums[group]++;
      listGroups(sums);
    }
    if (report.summary.codes.length) {
      const sums = new Int32Array(report.summary.codes.length);
      for (const row of without(found, "code")) if (code[row] >= 0) sums[code[row]]++;
      listCodes(sums);
    }
    for (const name of ["confidence", "margin"]) showHistogram(name, without(found, name));
  }

  // A button that chooses one value of a part of the state, or gives it up.
  function choice(part, value, text, count, most, options = {}) {
    const chosen = state[part] === value;
    const bar = el("span", { class: "share" });
    bar.style.width = `${most ? (100 * count) / most : 0}%`;
    return el(
      "button",
      { class: `choice depth-${Math.min(options.depth || 0, 5)}`, type: "button", "aria-pressed": chosen ? "true" : "false", onclick: () => filters.set({ [part]: chosen ? null : value }) },
      bar,
      report.foreign(text, { class: "name", title: options.title || text }),
      options.note ? report.foreign(options.note, { class: "note" }) : null,
      el("span", { class: "number", text: report.count(count) }),
    );
  }

  function fill(id, buttons, more) {
    const box = report.byId(id);
    const focused = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(...buttons);
    if (more > 0) box.append(el("p", { class: "more", text: `${report.count(more)} more; search for them above` }));
    if (focused >= 0 && box.children[focused]) box.children[focused].focus();
  }

  function listLabels(counts, none) {
    const wanted = labelText.toLowerCase();
    const { labels } = report.summary;
    const numbers = [];
    for (let i = 0; i < labels.length; i++) {
      if ((counts[i] || state.label === i) && (!wanted || labels[i][0].toLowerCase().includes(wanted))) numbers.push(i);
    }
    numbers.sort((a, b) => counts[b] - counts[a] || a - b);
    const most = numbers.length ? Math.max(counts[numbers[0]], none) : none;
    const buttons = numbers.slice(0, MOST_LISTED).map((i) => choice("label", i, labels[i][0], counts[i], most, { note: labels[i][1], title: labels[i][1] ? `${labels[i][0]} (${labels[i][1]})` : labels[i][0] }));
    if (none && !wanted) buttons.push(choice("label", -1, "no label", none, most));
    fill("labels", buttons, numbers.length - MOST_LISTED);
    report.byId("labels-title").textContent = report.counted(numbers.length, "label");
  }

  function listGroups(sums) {
    const most = sums.reduce((a, b) => Math.max(a, b), 0);
    // The largest ones, in the order of the tree: no group is larger than the one above it, so none is without it.
    const largest = [...sums.keys()].sort((a, b) => sums[b] - sums[a] || a - b).slice(0, MOST_LISTED);
    const numbers = [...new Set(state.group === null ? largest : [...largest, state.group])].filter((i) => sums[i] || state.group === i).sort((a, b) => a - b);
    fill("groups", numbers.map((i) => choice("group", i, groups[i].path[groups[i].depth], sums[i], most, { depth: groups[i].depth, title: groups[i].path.join(" > ") })), 0);
  }

  function listCodes(sums) {
    const most = sums.reduce((a, b) => Math.max(a, b), 0);
    const buttons = [...sums.keys()].filter((i) => sums[i] || state.code === i).map((i) => choice("code", i, report.summary.codes[i][0], sums[i], most, { note: report.summary.codes[i][2] }));
    fill("codes", buttons, 0);
    report.byId("codes").parentElement.hidden = !buttons.length;
  }

  function showHistogram(name, rows) {
    const column = report.columns[name];
    const bins = new Int32Array(BINS);
    for (const row of rows) if (!Number.isNaN(column[row])) bins[Math.min(BINS - 1, Math.floor(column[row] * BINS))]++;
    const most = Math.max(1, ...bins);
    const [low, high] = state.ranges[name] || [0, 1];
    const bars = report.byId(`${name}-bars`).children;
    for (let i = 0; i < BINS; i++) {
      bars[i].style.height = bins[i] ? `${Math.max(6, (100 * bins[i]) / most)}%` : "0";
      bars[i].classList.toggle("out", (i + 1) / BINS <= low || i / BINS >= high);
    }
    report.byId(`${name}-from`).value = low;
    report.byId(`${name}-to`).value = high;
    report.byId(`${name}-text`).textContent = `${low.toFixed(2)} to ${high.toFixed(2)}`;
  }

  function rangeControl(name, title, help) {
    const bars = el("div", { class: "bars", id: `${name}-bars`, "aria-hidden": "true" });
    for (let i = 0; i < BINS; i++) bars.append(el("span"));
    const slider = (end, text) =>
      el("input", { type: "range", id: `${name}-${end}`, min: 0, max: 1, step: 0.01, "aria-label": `${title} ${text}`, oninput: moved });
    function moved(event) {
      let low = Number(report.byId(`${name}-from`).value);
      let high = Number(report.byId(`${name}-to`).value);
      if (low > high) {
        if (event.target.id.endsWith("from")) high = low;
        else low = high;
      }
      const ranges = { ...state.ranges };
      if (low <= 0 && high >= 1) delete ranges[name];
      else ranges[name] = [low, high];
      filters.set({ ranges });
    }
    return el("fieldset", { class: "range" },
      el("legend", { title: help }, title, el("output", { id: `${name}-text` })),
      bars, el("div", { class: "sliders" }, slider("from", "at least"), slider("to", "at most")));
  }

  // What is filtered, beside the count: each part can be given up by itself.
  function showChips() {
    const chips = [];
    const chip = (text, changes) => chips.push(el("button", { class: "chip", type: "button", title: "Remove this filter", onclick: () => filters.set(changes) }, report.foreign(text), el("span", { "aria-hidden": "true", text: "×" })));
    for (const [name, bit] of report.summary.statuses) if (state.status & bit) chip(STATUS_TEXTS[name], { status: state.status & ~bit });
    if (state.label !== null) chip(`label: ${report.name(state.label)}`, { label: null });
    if (state.truth !== null) chip(`truth: ${report.name(state.truth, "unknown")}`, { truth: null });
    if (state.other !== null) chip(`before: ${report.name(state.other)}`, { other: null });
    if (state.group !== null) chip(`group: ${groups[state.group].path.join(" > ")}`, { group: null });
    if (state.code !== null) chip(report.summary.codes[state.code][0], { code: null });
    for (const name of Object.keys(state.ranges)) {
      const { [name]: range, ...ranges } = state.ranges;
      chip(`${name}: ${range[0].toFixed(2)} to ${range[1].toFixed(2)}`, { ranges });
    }
    if (chips.length > 1) chips.push(el("button", { class: "chip clear", type: "button", text: "Clear all", onclick: filters.clear }));
    report.byId("chips").replaceChildren(...chips);
  }

  // The groups that labels have, with all above them, in the order of a tree.
  function findGroups() {
    const numbers = new Map();
    const paths = report.summary.labels.map(([, group]) => levels(group));
    for (const path of paths) for (let depth = 0; depth < path.length; depth++) numbers.set(path.slice(0, depth + 1).join("\u0000"), path.slice(0, depth + 1));
    const keys = [...numbers.keys()].sort();
    groups = keys.map((key) => ({ path: numbers.get(key), depth: numbers.get(key).length - 1 }));
    const place = new Map(keys.map((key, i) => [key, i]));
    groupsOfLabel = paths.map((path) => path.map((_, depth) => place.get(path.slice(0, depth + 1).join("\u0000"))));
  }

  // As `memory.lineage` splits a group.
  function levels(group) {
    const parts = group.split(/(?:^|\s)>(?=\s|$)/).map((part) => part.trim()).filter((part) => part);
    return parts.length > 1 ? parts : group ? [group] : [];
  }

  function section(title, id, ...content) {
    return el("section", { class: "part" }, el("h2", id ? { id, text: title } : { text: title }), ...content);
  }

  filters.start = function () {
    const { summary } = report;
    findGroups();
    const statuses = summary.statuses.map(([name, bit]) =>
      el("label", { class: `status ${name.toLowerCase().replace(/_/g, "-")}` },
        el("input", { type: "checkbox", value: bit, onchange: () => filters.set({ status: state.status ^ bit }) }),
        el("span", { class: "name", text: STATUS_TEXTS[name] }), el("span", { class: "number" })));
    report.byId("filters").append(el("div", { class: "controls" },
      el("div", { class: "filters-head" }, el("h2", { text: "Filters" }), el("button", { id: "filters-close", type: "button", text: "Done" })),
      el("input", { id: "search", class: "search", type: "search", placeholder: "File name or label", dir: "auto", "aria-label": "Search file names and labels", "aria-keyshortcuts": "f", oninput: (event) => filters.set({ text: event.target.value }) }),
      section("Status", null, el("div", { id: "statuses" }, statuses)),
      rangeControl("confidence", "Confidence", "Confidence of the label"),
      rangeControl("margin", "Margin", "Best confidence less the second best"),
      section("Labels", "labels-title",
        summary.labels.length > 20 ? el("input", { class: "search", type: "search", placeholder: "Search labels", dir: "auto", "aria-label": "Search labels", oninput: (event) => { labelText = event.target.value; filters.apply(); } }) : null,
        el("div", { id: "labels", class: "choices" })),
      groups.length ? section("Groups", null, el("div", { id: "groups", class: "choices" })) : null,
      summary.codes.length ? section("Errors", null, el("div", { id: "codes", class: "choices" })) : null,
    ));
    const select = report.byId("sort");
    for (const [name, [text]] of Object.entries(SORTS)) select.append(el("option", { value: name, text }));
    select.addEventListener("change", () => filters.set({ sort: select.value }));
  };
  return filters;
})();
