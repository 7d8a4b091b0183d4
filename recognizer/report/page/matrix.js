"use strict";
// True labels against the labels of the run: a table of the labels that are confused most, and the confusions by number.
report.matrix = (function () {
  const el = report.element;
  const MOST_LABELS = 24; // of the table; more columns cannot be read
  const matrix = {};

  matrix.view = function () {
    const { truth, label } = report.columns;
    const { known, right, unmatched, leftOut } = report.summary.truth;
    const pairs = report.compare.pairs(truth, label, (row) => truth[row] >= 0 && !report.has(row, "NOT_IN_MEMORY"));
    const wrong = pairs.filter(([one, other]) => one !== other && other >= 0);
    const unanswered = pairs.filter(([, other]) => other < 0).reduce((sum, [, , count]) => sum + count, 0);
    const strange = report.compare.pairs(truth, label, (row) => report.has(row, "NOT_IN_MEMORY"));
    const show = (one, other) => report.show("images", { truth: one, label: other });
    return el("div", { class: "sheet" },
      el("h2", { text: "Truth and labels" }),
      el("p", { class: "figures" },
        report.compare.figure(known, "with a known label"),
        el("span", { class: "figure" }, el("strong", { text: known ? report.percent(right / known) : "–" }), ` of ${report.count(known)} right`),
        report.compare.figure(unanswered, "without an answer"),
        known + leftOut < report.summary.rows ? report.compare.figure(report.summary.rows - known - leftOut, "without a true label") : null,
        leftOut ? report.compare.figure(leftOut, "left out: true name not in the memory") : null,
        unmatched ? report.compare.figure(unmatched, "true labels without a row") : null),
      pairs.length ? table(pairs, show) : null,
      wrong.length ? el("h3", { text: "Most frequent confusions" }) : el("p", { class: "fine", text: "No label is wrong." }),
      wrong.length ? report.compare.pairTable(wrong, ["truth", "label", "rows"], show) : null,
      strange.length ? el("h3", { text: "True name not in the memory" }) : null,
      strange.length ? report.compare.pairTable(strange, ["truth", "label", "rows"], show) : null);
  };

  function table(pairs, show) {
    const totals = new Map();
    for (const [one, other, count] of pairs) for (const each of new Set([one, other])) totals.set(each, (totals.get(each) || 0) + count);
    // The labels of the most frequent confusions, so that their cells are in the table; then the most frequent ones.
    const chosen = new Set();
    const confused = pairs.filter(([one, other]) => one !== other && other >= 0).flatMap(([one, other]) => [one, other]);
    const frequent = [...totals.keys()].filter((each) => each >= 0).sort((a, b) => totals.get(b) - totals.get(a));
    for (const each of [...confused, ...frequent]) if (chosen.size < MOST_LABELS) chosen.add(each);
    const columns = totals.has(-1) ? [...chosen, -1] : [...chosen];
    const counts = new Map(pairs.map(([one, other, count]) => [`${one},${other}`, count]));
    const sums = new Map();
    for (const [one, , count] of pairs) sums.set(one, (sums.get(one) || 0) + count);
    const cell = (one, other) => {
      const count = counts.get(`${one},${other}`);
      if (!count) return el("td", { class: one === other ? "same" : null });
      const node = el("td", { class: one === other ? "same" : "differs" },
        el("button", { class: "cell", type: "button", text: report.count(count), title: `truth ${report.name(one)}, label ${report.name(other)}`.slice(0, 400), "aria-label": `truth ${report.name(one)}, label ${report.name(other)}: ${report.counted(count, "row")}`.slice(0, 400), onclick: () => show(one, other) }));
      node.style.setProperty("--share", String(count / sums.get(one)));
      return node;
    };
    const head = el("tr", {}, el("th", { class: "corner", text: "truth ↓ label →" }), columns.map((each) => el("th", { scope: "col", class: "across" }, report.foreign(report.name(each)))));
    const rows = [...chosen].filter((one) => sums.has(one)).map((one) => el("tr", {}, el("th", { scope: "row" }, report.foreign(report.name(one))), columns.map((other) => cell(one, other))));
    const note = frequent.length > chosen.size ? el("p", { class: "more", text: `The ${chosen.size} labels that are confused most, of ${report.count(frequent.length)}` }) : null;
    return el("div", {}, note, el("div", { class: "scrolls" }, el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, rows))));
  }
  return matrix;
})();
