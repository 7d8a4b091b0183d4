"use strict";
// The rows of the report, and small helpers that all other scripts use. Names, texts and paths come from results, which
// anybody may have written: they enter the page as text alone.
const report = (function () {
  const report = {
    summary: null,
    loaded: 0, // rows whose columns are here
    columns: null,
    details: new Map(), // scripts of details by their first row; the latest ones
    waiting: new Map(), // their callbacks while they are loaded
  };
  const KEPT_DETAILS = 20; // scripts of about 1 MB
  const listeners = [];

  // Columns are typed arrays where they can be, so that 100,000 rows are filtered in a few milliseconds.
  report.open = function (summary) {
    const n = summary.rows;
    report.summary = summary;
    report.status = Object.fromEntries(summary.statuses);
    report.columns = {
      path: new Array(n),
      box: new Array(n),
      picture: new Array(n),
      label: new Int32Array(n).fill(-1),
      truth: new Int32Array(n).fill(-1),
      other: new Int32Array(n).fill(-1),
      said: new Int32Array(n).fill(-1),
      code: new Int32Array(n).fill(-1),
      status: new Int32Array(n),
      confidence: new Float32Array(n).fill(NaN),
      margin: new Float32Array(n).fill(NaN),
    };
  };

  report.addRows = function (start, chunk) {
    let count = 0;
    for (const name of Object.keys(report.columns)) {
      const values = chunk[name];
      if (!values) continue;
      const column = report.columns[name];
      count = Math.max(count, values.length);
      for (let i = 0; i < values.length; i++) if (values[i] !== null) column[start + i] = values[i];
    }
    report.loaded += count;
    for (const listener of listeners) listener();
  };

  report.addDetails = function (start, rows) {
    report.details.set(start, rows);
    while (report.details.size > KEPT_DETAILS) report.details.delete(report.details.keys().next().value);
    const callbacks = report.waiting.get(start) || [];
    report.waiting.delete(start);
    for (const callback of callbacks) callback();
  };

  report.onRows = (listener) => listeners.push(listener);

  // Loads a script of data; one that is missing, or does not bring what it should, is named in a sentence.
  function loadScript(name, hasCome) {
    const script = document.createElement("script");
    script.src = `rows/${name}`;
    script.onload = script.onerror = () => {
      script.remove();
      if (!hasCome()) report.say(`rows/${name} is missing or damaged; write the report again`);
    };
    document.head.append(script);
  }

  // The other scripts of rows come one after another, so that the page stays quick while they are read.
  report.loadRows = function () {
    const { rows, rowsPerScript } = report.summary;
    function load() {
      const before = report.loaded;
      if (before >= rows) return;
      const name = `rows-${String(Math.ceil(before / rowsPerScript)).padStart(3, "0")}.js`;
      loadScript(name, () => report.loaded > before);
    }
    report.onRows(() => setTimeout(load, 0));
    load();
  };

  // Hands the details of a row to a callback, at once where they are here.
  report.withDetails = function (row, callback) {
    const per = report.summary.rowsPerDetails;
    const start = row - (row % per);
    const rows = report.details.get(start);
    if (rows) {
      report.details.delete(start); // the latest one stands last
      report.details.set(start, rows);
      callback(rows[row - start]);
      return;
    }
    const again = () => callback((report.details.get(start) || [])[row - start]);
    if (report.waiting.has(start)) {
      report.waiting.get(start).push(again);
      return;
    }
    report.waiting.set(start, [again]);
    loadScript(`details-${String(start / per).padStart(4, "0")}.js`, () => !report.waiting.delete(start));
  };

  report.label = (number) => (number < 0 ? null : report.summary.labels[number]);
  report.name = (number, none = "no label") => (number < 0 ? none : report.summary.labels[number][0]);
  report.has = (row, status) => (report.columns.status[row] & report.status[status]) !== 0;
  report.pictureSource = (name) => "thumbs/" + encodeURIComponent(name);

  // Makes an element; texts go in as text, and get the direction of their own letters.
  report.element = function (tag, options = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "class") node.className = value;
      else if (name === "text") node.textContent = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "value" || name === "checked" || name === "hidden" || name === "disabled") node[name] = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
    return node;
  };
  // A text that somebody else wrote: its own direction (a path runs from left to right), cut by the style sheet, whole when it is pointed at.
  report.foreign = (text, options = {}) => {
    const shown = String(text);
    return report.element("bdi", { dir: "auto", title: shown.slice(0, 2000), ...options, class: `foreign ${options.class || ""}`, text: shown });
  };
  report.percent = (value) => (Number.isFinite(value) ? `${(100 * value).toFixed(value >= 0.9995 || value < 0.0005 ? 0 : 1)} %` : "–");
  report.count = (value) => value.toLocaleString("en");
  report.counted = (value, one, several = one + "s") => `${report.count(value)} ${value === 1 ? one : several}`;
  report.byId = (id) => document.getElementById(id);
  report.say = function (sentence) {
    const notes = report.byId("notes");
    notes.hidden = false;
    notes.append(report.element("li", { text: sentence }));
  };
  return report;
})();
