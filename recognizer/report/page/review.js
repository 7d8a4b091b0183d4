"use strict";
// Corrections: what a person says of a row goes to the server at once, and is kept there before it counts. What cannot
// be sent is sent again, under the same number, until the server has it.
report.review = (function () {
  const el = report.element;
  const review = { waiting: [], done: [] };
  const AGAIN = 2000; // milliseconds between two attempts
  const PLACE = "recognizer review place";
  const MESSAGE = "recognizer review message";
  let clusters = new Map(); // by row, its group of copies
  let members = new Map(); // by group, its rows
  let rank = null;
  let rows = new Map(); // by key
  let sending = false;

  const key = (row) => {
    const box = report.columns.box[row];
    return box ? `${report.columns.path[row]}#${box[0]}` : report.columns.path[row];
  };
  const number = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

  async function ask(path, options) {
    const reply = await fetch(`review/${path}`, options);
    const body = await reply.json().catch(() => ({}));
    if (!reply.ok) throw Object.assign(new Error(body.error ? body.error.message : `status ${reply.status}`), { status: reply.status });
    return body;
  }
  const post = (path, body) => ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

  function tell(text, isProblem = false) {
    const status = report.byId("review-status");
    status.textContent = text;
    status.classList.toggle("problem", isProblem);
  }

  async function send() {
    if (sending) return;
    sending = true;
    while (review.waiting.length) {
      const some = review.waiting.slice(0, 100);
      try {
        await post("corrections", some);
        review.waiting.splice(0, some.length);
        showCount();
      } catch (error) {
        if (error.status === 404) { // another server listens there
          tell(`${review.waiting.length} not saved: open the address that the server printed`, true);
          await new Promise((resolve) => setTimeout(resolve, AGAIN));
          continue;
        }
        if (error.status && error.status < 500) { // it makes no sense to the server, and will not later
          review.waiting.splice(0, some.length);
          tell(error.message, true);
          continue;
        }
        tell(`${review.waiting.length} not saved yet; trying again`, true);
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    }
    sending = false;
  }

  function showCount() {
    let count = 0;
    let skipped = 0;
    for (let row = 0; row < report.loaded; row++) {
      if (report.has(row, "CORRECTED")) count++;
      if (report.has(row, "SKIPPED")) skipped++;
    }
    report.filters.recount();
    const boxes = report.drawing.count();
    const said = [`${report.counted(count, "row")} corrected`];
    if (boxes) said.push(`${report.counted(boxes, "box", "boxes")} drawn`);
    if (skipped) said.push(`${report.count(skipped)} skipped`);
    tell(review.waiting.length ? `${report.counted(review.waiting.length, "correction")} on the way` : `${said.join(", ")}, all saved`);
    report.byId("review-learn").disabled = count + boxes === 0;
  }

  // The number of a name among the labels of the report; a new name is added to them.
  function labelNumber(name, group) {
    const { labels } = report.summary;
    const found = labels.findIndex((each) => each[0] === name && each[1] === group);
    if (found >= 0) return found;
    labels.push([name, group, 0]);
    return labels.length - 1;
  }

  function mark(row, verdict, name, group) {
    const { status, said } = report.columns;
    status[row] &= ~(report.status.CORRECTED | report.status.SKIPPED);
    if (verdict === "skip") status[row] |= report.status.SKIPPED;
    else if (verdict !== "undo") status[row] |= report.status.CORRECTED;
    said[row] = verdict === "category" ? labelNumber(name, group) : -1;
  }

  // Names the box that was drawn on a row; its image stays, for it may show more.
  function sayBox(row, verdict, name, group) {
    if (verdict === "unknown") return tell("a box needs a category; Esc removes it", true);
    const xyxy = report.drawing.take();
    if (verdict === "category") {
      review.waiting.push({ id: number(), key: key(row), verdict, new: name, group, xyxy });
      report.drawing.add(report.columns.path[row], xyxy, name, group);
      review.done.push({ row, xyxy });
      showCount();
      send();
    }
    return report.detail.again();
  }

  function undoBox({ row, xyxy }) {
    review.waiting.push({ id: number(), key: key(row), verdict: "undo", new: null, group: "", xyxy });
    report.drawing.remove(report.columns.path[row], xyxy);
    back(row);
  }

  // Shows a row again after something that was said of it was taken back.
  function back(row) {
    showCount();
    send();
    const place = report.filters.order.indexOf(row);
    if (place >= 0) report.list.choose(place);
    report.detail.again();
  }

  // Says something of rows, and moves on to the next one.
  review.say = function (targets, verdict, name = null, group = "") {
    if (report.drawing.box) return sayBox(report.list.row(), verdict, name, group);
    const before = targets.map((row) => [row, report.columns.status[row], report.columns.said[row]]);
    for (const row of targets) {
      review.waiting.push({ id: number(), key: key(row), verdict, new: name, group });
      mark(row, verdict, name, group);
    }
    review.done.push(before);
    report.list.redraw(targets);
    showCount();
    send();
    const chosen = report.list.row();
    if (targets.includes(chosen)) report.keys.move(1);
    if (report.list.row() === chosen) report.detail.again(); // the last one, or others were meant
    return undefined;
  };

  review.undo = function () {
    const before = review.done.pop();
    if (!before) return tell("nothing to undo in this window");
    if (before.xyxy) return undoBox(before);
    for (const [row, status, said] of before) {
      review.waiting.push({ id: number(), key: key(row), verdict: "undo", new: null, group: "" });
      report.columns.status[row] = status;
      report.columns.said[row] = said;
    }
    const rowsBack = before.map(([row]) => row);
    report.list.redraw(rowsBack);
    return back(rowsBack[0]);
  };

  // The rows that are copies of a row, itself among them.
  const copies = (row) => (clusters.has(row) ? members.get(clusters.get(row)) : [row]);

  function accept(row, data, place, all = false) {
    const candidate = data.candidates[place];
    if (candidate) review.say(all ? copies(row) : [row], "category", candidate[0], candidate[1]);
    else tell(data.candidates.length ? `there is no candidate ${place + 1}` : "this row has no candidates; press n to name a category", true);
  }

  // Why nothing can be said of a row; null where something can.
  function obstacle(row, data) {
    if (!data) return "the details of this row are missing";
    if (!data.error) return null;
    return report.has(row, "FAILED") ? `${report.columns.path[row]} could not be recognised, so there is nothing to correct` : data.error[1];
  }

  const chosenData = (action) => () => {
    const row = report.list.row();
    if (row < 0) return;
    report.withDetails(row, (data) => {
      const why = obstacle(row, data);
      if (why) tell(why, true);
      else action(row, data);
    });
  };

  // Lets a category of the shown row, or of the box that was drawn on it, be typed.
  review.type = function () {
    report.list.open();
    const input = report.byId("review-search");
    if (input) input.focus();
  };

  function searchBox(row, data) {
    const list = el("ul", { class: "found", role: "listbox", "aria-label": "Categories" });
    const input = el("input", { id: "review-search", class: "search", type: "search", dir: "auto", placeholder: "Another category, or a new one", "aria-label": "Another category, or a new one", autocomplete: "off" });
    let latest = 0;
    let listed = ""; // the text that the list answers
    let isChosen = false; // by Enter, before the answer came
    const take = () => {
      list.querySelector("button").click();
      report.byId("list").focus({ preventScroll: true });
    };
    input.addEventListener("input", async () => {
      const asked = ++latest;
      const text = input.value.trim();
      isChosen = false;
      if (!text) {
        listed = "";
        return list.replaceChildren();
      }
      const found = await ask(`categories?search=${encodeURIComponent(text)}`).catch(() => []);
      if (asked !== latest) return undefined;
      const choose = (name, group) => () => review.say([row], "category", name, group);
      const buttons = found.map(({ name, group }) => el("li", {}, el("button", { type: "button", class: "choice", onclick: choose(name, group) }, report.foreign(name, { class: "name" }), group ? report.foreign(group, { class: "note" }) : null)));
      if (!found.some(({ name }) => name === text)) buttons.push(el("li", {}, el("button", { type: "button", class: "choice new", onclick: choose(text, "") }, "new category ", report.foreign(text, { class: "name" }))));
      list.replaceChildren(...buttons);
      listed = text;
      if (isChosen) take();
      return undefined;
    });
    input.addEventListener("keydown", (event) => {
      // Of a box that was drawn the name is typed at once, so that its candidates are taken from here, too.
      if (report.drawing.box && !input.value && /^[1-5]$/.test(event.key) && data.candidates[event.key - 1] && !event.ctrlKey && !event.altKey && !event.metaKey) {
        event.preventDefault();
        accept(row, data, event.key - 1);
        return;
      }
      if (event.key !== "Enter" || !input.value.trim()) return;
      event.preventDefault();
      if (listed === input.value.trim()) take();
      else isChosen = true;
    });
    return el("div", { class: "review-search" }, input, list);
  }

  function describeBox(candidate) {
    const input = el("input", { class: "search", type: "text", dir: "auto", maxlength: 2000, placeholder: "striped tail; yellow beak", title: "Several descriptions are separated by semicolons", "aria-label": `Describe ${candidate[0]}`.slice(0, 200) });
    const form = el("form", { class: "describe" }, el("label", { class: "fine" }, "Describe ", report.foreign(candidate[0])), input, el("button", { type: "submit", text: "Add and score again" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (input.value.trim()) change("describe", { name: candidate[0], group: candidate[1], text: input.value.trim() }, "scoring the folder again …");
    });
    return form;
  }

  function part(row, data, stage) {
    if (!data || data.error) return null;
    report.drawing.attach(row, stage);
    const same = copies(row);
    const buttons = data.candidates.slice(0, 5).map((candidate, place) =>
      el("button", { type: "button", class: "accept", onclick: () => accept(row, data, place) }, el("kbd", { text: place + 1 }), report.foreign(candidate[0])));
    if (report.drawing.box) {
      return el("section", { class: "part review" }, el("h3", { text: "What is in the box?" }), el("div", { class: "accepts" }, buttons), searchBox(row, data),
        el("p", { class: "fine" }, "Type its name and press ", el("kbd", { text: "Enter" }), ", or take a candidate by its digit before you type. ", el("kbd", { text: "Esc" }), " removes the box."));
    }
    const others = el("div", { class: "verdicts" },
      el("button", { type: "button", onclick: () => review.say([row], "unknown") }, el("kbd", { text: "u" }), "unknown"),
      el("button", { type: "button", onclick: () => review.say([row], "skip") }, el("kbd", { text: "x" }), "skip"),
      el("button", { type: "button", onclick: review.undo }, el("kbd", { text: "z" }), "undo"));
    const cluster = same.length > 1 && data.candidates.length
      ? el("button", { type: "button", class: "cluster", onclick: () => accept(row, data, 0, true) }, el("kbd", { text: "Shift 1" }), `accept the first for all ${same.length} copies`) : null;
    return el("section", { class: "part review" }, el("h3", { text: "What is it?" }), el("div", { class: "accepts" }, buttons), cluster, others, searchBox(row, data),
      stage.picture ? el("p", { class: "fine", text: "Drag over the picture to draw a box around one of several things." }) : null,
      data.candidates.length ? describeBox(data.candidates[0]) : null);
  }

  // Has the server change the memory, and shows the page that it wrote.
  async function change(path, body, text) {
    if (review.waiting.length) return tell("wait until all corrections are saved", true);
    const button = report.byId("review-learn");
    button.disabled = true;
    tell(text);
    try {
      const { message } = await post(path, body);
      sessionStorage.setItem(MESSAGE, message);
      location.reload();
    } catch (error) {
      tell(error.message, true);
      button.disabled = false;
    }
    return undefined;
  }

  function addKeys() {
    for (let place = 0; place < 5; place++) report.keys.add([String(place + 1)], `accept candidate ${place + 1}`, chosenData((row, data) => accept(row, data, place)));
    report.keys.add(["!"], "accept the first candidate for all copies", chosenData((row, data) => accept(row, data, 0, true)));
    report.keys.add(["u"], "unknown", chosenData((row) => review.say([row], "unknown")));
    report.keys.add(["x"], "skip", chosenData((row) => review.say([row], "skip")));
    report.keys.add(["z"], "undo", review.undo);
    report.keys.add(["n"], "name another category", chosenData(review.type));
    report.keys.add(["c"], "clear all filters", report.filters.clear);
  }

  async function order(place) {
    const state = await ask("state");
    for (const box of state.drawn) report.drawing.add(...box);
    rank = new Float64Array(report.summary.rows).fill(Infinity);
    state.queue.forEach((each, place) => {
      if (rows.has(each)) rank[rows.get(each)] = place;
    });
    for (const [each, group] of Object.entries(state.clusters)) {
      if (!rows.has(each)) continue;
      clusters.set(rows.get(each), group);
      members.set(group, [...(members.get(group) || []), rows.get(each)]);
    }
    for (const [each, [verdict, name, group]] of Object.entries(state.said)) {
      if (rows.has(each)) mark(rows.get(each), verdict, name, group);
    }
    showCount();
    report.byId("sort").value = "review";
    report.filters.set({ sort: "review" });
    if (place !== null && rows.has(place)) report.list.choose(report.filters.order.indexOf(rows.get(place)));
    if (state.drawn.length || Object.keys(state.said).length) report.detail.again();
  }

  review.start = function () {
    report.filters.sorts.review = ["review: where a look says most", (row) => (rank ? rank[row] : row)];
    report.byId("sort").append(el("option", { value: "review", text: report.filters.sorts.review[0] }));
    report.byId("views").before(el("div", { class: "review-bar" }, el("p", { id: "review-status", role: "status" }),
      el("button", { id: "review-learn", type: "button", text: "Learn", title: "Teach the memory all corrections, and score the folder again", onclick: () => change("learn", {}, "learning …") })));
    report.detail.parts.push(part);
    report.drawing.start();
    addKeys();
    const message = sessionStorage.getItem(MESSAGE);
    sessionStorage.removeItem(MESSAGE);
    if (message) report.say(message);
    const place = sessionStorage.getItem(PLACE); // before the first row is chosen
    report.list.onChoose((row) => row >= 0 && sessionStorage.setItem(PLACE, key(row)));
    const begin = () => {
      if (report.loaded < report.summary.rows || rank) return;
      for (let row = 0; row < report.loaded; row++) rows.set(key(row), row);
      showCount();
      order(place).catch((error) => tell(error.message, true));
    };
    report.onRows(begin);
    begin();
    window.addEventListener("beforeunload", (event) => review.waiting.length && event.preventDefault());
  };
  return review;
})();
