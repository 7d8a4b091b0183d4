"use strict";
// Two runs side by side: which labels changed into which, what differed between the runs, and which terms of the score
// moved an image from one label to the other.
report.compare = (function () {
  const el = report.element;
  const MOST_PAIRS = 200;
  const SAME = 5e-6; // sums of terms are written with six decimals
  const compare = {};

  // Counts pairs of two columns of labels, most frequent first.
  compare.pairs = function (one, other, isCounted) {
    const counts = new Map();
    const labels = report.summary.labels.length + 1;
    for (let row = 0; row < report.loaded; row++) {
      if (!isCounted(row)) continue;
      const key = (one[row] + 1) * labels + other[row] + 1;
      counts.set(key, (counts.get(key) || 0) + 1);
    }
    return [...counts].map(([key, count]) => [Math.floor(key / labels) - 1, (key % labels) - 1, count]).sort((a, b) => b[2] - a[2] || a[0] - b[0]);
  };

  // A table of pairs, each of which shows its rows.
  compare.pairTable = function (pairs, titles, choose) {
    const rows = pairs.slice(0, MOST_PAIRS).map(([one, other, count]) =>
      el("tr", {}, el("td", {}, report.foreign(report.name(one))), el("td", {}, report.foreign(report.name(other))),
        el("td", {}, el("button", { type: "button", class: "cell", text: report.count(count), "aria-label": `Show ${report.counted(count, "row")}`, onclick: () => choose(one, other) }))));
    const more = pairs.length > MOST_PAIRS ? el("p", { class: "more", text: `${report.count(pairs.length - MOST_PAIRS)} rarer pairs are not listed` }) : null;
    return el("div", {}, el("div", { class: "scrolls" }, el("table", { class: "pairs" }, el("thead", {}, el("tr", {}, titles.map((title) => el("th", { scope: "col", text: title })))), el("tbody", {}, rows))), more);
  };

  compare.view = function () {
    const { other } = report.summary;
    const { label, other: before } = report.columns;
    const pairs = compare.pairs(before, label, (row) => report.has(row, "CHANGED"));
    const changed = pairs.reduce((sum, [, , count]) => sum + count, 0);
    const count = (status) => {
      let rows = 0;
      for (let row = 0; row < report.loaded; row++) if (report.has(row, status)) rows++;
      return rows;
    };
    const [added, restated] = [count("ADDED"), count("STATUS_CHANGED")];
    const show = (one, now) => report.show("images", { other: one, label: now, status: report.status.CHANGED });
    return el("div", { class: "sheet" },
      el("h2", {}, "Against ", report.foreign(other.name)),
      el("p", { class: "figures" },
        figure(changed, "changed"), figure(report.loaded - changed - restated - added, "the same"),
        restated ? figure(restated, "with the same label and another status") : null, figure(added, "only in this run"), figure(other.onlyThere, "only in the other run")),
      changed ? el("h3", { text: "Labels that changed" }) : el("p", { class: "fine", text: "No label changed." }),
      changed ? compare.pairTable(pairs, ["before", "now", "rows"], show) : null,
      other.differences.length ? el("h3", { text: "What differs between the runs" }) : null,
      other.differences.length ? el("div", { class: "scrolls" }, el("table", { class: "pairs" }, el("thead", {}, el("tr", {}, ["setting", "now", "before"].map((title) => el("th", { scope: "col", text: title })))),
        el("tbody", {}, other.differences.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, report.foreign(cell)))))))) : null);
  };

  function figure(value, text) {
    return el("span", { class: "figure" }, el("strong", { text: report.count(value) }), ` ${text}`);
  }
  compare.figure = figure;

  const sums = function (candidate) {
    const found = new Map();
    for (const [term, , , , , , contribution] of candidate[4]) found.set(term, (found.get(term) || 0) + contribution);
    return found;
  };
  const find = (candidates, name, group) => candidates.find((each) => each[0] === name && (group === null || each[1] === group));

  // What the other run said of this row; where the label changed, term by term, how far the new label led the old one.
  compare.part = function (row, data) {
    const before = data.other;
    if (!before) return null;
    const part = el("section", { class: "part compare" }, el("h3", { text: "The other run" }));
    const said = before.error ? before.error[1] : before.label === null ? "no label" : before.label;
    part.append(el("p", { class: "fine" }, report.foreign(said), before.confidence === null ? "" : ` ${report.percent(before.confidence)}`));
    if (!report.has(row, "CHANGED") || before.error || !data.candidates.length || !before.candidates.length) return part;
    const [now, old] = [data.candidates[0], before.candidates[0]];
    if (now[0] === old[0] && now[1] === old[1]) {
      part.append(el("p", { class: "fine", text: "The same category is first in both runs: what a label needs, or reranking, differs." }));
      return part;
    }
    const oldHere = find(data.candidates, old[0], old[1]);
    const newThere = find(before.candidates, now[0], now[1]);
    if (!oldHere || !newThere) {
      const missing = oldHere ? `${now[0]} was not among the candidates before` : `${old[0]} is not among the candidates now`;
      part.append(el("p", { class: "fine" }, report.foreign(missing)));
      return part;
    }
    const lead = { now: difference(sums(now), sums(oldHere)), before: difference(new Map(newThere[4]), new Map(old[4])) };
    const terms = [...new Set([...lead.now.keys(), ...lead.before.keys()])];
    const changes = terms.map((term) => [term, lead.before.get(term) || 0, lead.now.get(term) || 0]).sort((a, b) => Math.abs(b[2] - b[1]) - Math.abs(a[2] - a[1]));
    if (changes.every(([, x, y]) => Math.abs(y - x) < SAME)) {
      part.append(el("p", { class: "fine", text: "Both runs score these labels alike: reranking, a prior or the rule for labels made the difference." }));
      return part;
    }
    const total = changes.reduce(([a, b], [, x, y]) => [a + x, b + y], [0, 0]);
    const line = (name, x, y, kind) => el("tr", { class: kind }, el("th", { scope: "row", text: name }), [x, y, y - x].map((value) => el("td", { text: report.detail.signed(value) })));
    part.append(
      el("p", { class: "fine" }, "How far ", report.foreign(now[0]), " leads ", report.foreign(old[0]), ":"),
      el("div", { class: "scrolls" }, el("table", { class: "terms" }, el("thead", {}, el("tr", {}, ["", "before", "now", "change"].map((title) => el("th", { scope: "col", text: title })))),
        el("tbody", {}, changes.map(([term, x, y]) => line(report.detail.term(term), x, y, "")), line("score", total[0], total[1], "total")))));
    const reordered = (rerank) => rerank && rerank.status === "ok" && rerank.order.some((rank, i) => rank !== i);
    if (reordered(data.rerank) !== reordered(before.rerank)) part.append(el("p", { class: "fine", text: "Reranking changed the order in one of the runs alone." }));
    return part;
  };

  function difference(one, other) {
    return new Map([...new Set([...one.keys(), ...other.keys()])].map((term) => [term, (one.get(term) || 0) - (other.get(term) || 0)]));
  }
  return compare;
})();
