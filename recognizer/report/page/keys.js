"use strict";
// Keys: each is a line of a table, from which the help is made too.
report.keys = (function () {
  const el = report.element;
  const keys = { table: [] };
  const byName = new Map();

  // names: values of KeyboardEvent.key; action: called with the event, from the list or anywhere but a field.
  keys.add = function (names, text, action) {
    keys.table = keys.table.filter(([others]) => !others.some((other) => names.includes(other))); // the later one counts
    keys.table.push([names, text]);
    for (const name of names) byName.set(name, action);
  };

  keys.move = (by) => report.list.choose(report.list.current + by);
  const move = (by) => () => report.list.choose(report.list.current + by());
  const isField = (node) => node.matches("input:not([type=checkbox]):not([type=range]), select, textarea");

  function pressed(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || report.byId("help").open) return;
    if (event.key === "Escape") {
      if (isField(event.target)) event.target.blur();
      document.body.classList.remove("filtering");
      report.list.close();
      return;
    }
    if (isField(event.target) || report.view !== "images") return;
    const action = byName.get(event.key);
    // Enter and the arrows belong to whatever has the focus, unless that is the list or nothing.
    const own = event.target === document.body || event.target === report.byId("list");
    const inDetail = event.target === report.byId("detail");
    if (!action || (event.key.length > 1 && !own && !(inDetail && event.key.startsWith("Arrow") && event.key !== "ArrowUp" && event.key !== "ArrowDown"))) return;
    event.preventDefault();
    action(event);
  }

  keys.start = function () {
    const { list } = report;
    keys.add(["ArrowRight", "j"], "next image", move(() => 1));
    keys.add(["ArrowLeft", "k"], "previous image", move(() => -1));
    keys.add(["ArrowDown"], "one line down", move(() => list.columns()));
    keys.add(["ArrowUp"], "one line up", move(() => -list.columns()));
    keys.add(["PageDown"], "a page down", move(() => list.columns() * list.linesInView()));
    keys.add(["PageUp"], "a page up", move(() => -list.columns() * list.linesInView()));
    keys.add(["Home"], "first image", () => list.choose(0));
    keys.add(["End"], "last image", () => list.choose(report.filters.order.length - 1));
    keys.add(["Enter"], "look at the details; Tab goes through candidates and evidence", () => {
      list.open();
      report.byId("detail").focus({ preventScroll: true });
    });
    keys.add(["f", "/"], "search", () => {
      document.body.classList.add("filtering");
      report.byId("search").focus();
    });
    keys.add(["a"], "smallest margin first, or the order of the run", () => {
      const sort = report.filters.state.sort === "almost" ? "run" : "almost";
      report.byId("sort").value = sort;
      report.filters.set({ sort });
    });
    keys.add(["x"], "clear all filters", report.filters.clear);
    keys.add(["?"], "this help", keys.help);
    keys.table.push([["Escape"], "back to the images"]);
    document.addEventListener("keydown", pressed);
    report.byId("help-button").addEventListener("click", keys.help);
    const help = report.byId("help");
    help.addEventListener("click", (event) => event.target === help && help.close());
  };

  const NAMES = { ArrowRight: "→", ArrowLeft: "←", ArrowDown: "↓", ArrowUp: "↑", PageDown: "Page ↓", PageUp: "Page ↑", Escape: "Esc" };
  keys.help = function () {
    const help = report.byId("help");
    help.replaceChildren(
      el("h2", { id: "help-title", text: "Keys" }),
      el("dl", {}, keys.table.flatMap(([names, text]) => [el("dt", {}, names.map((name) => el("kbd", { text: NAMES[name] || name }))), el("dd", { text })])),
      el("p", { class: "fine", text: "Point at a piece of evidence, or reach it with Tab, to see its region in the picture. A click keeps the region." }),
      el("form", { method: "dialog" }, el("button", { type: "submit", text: "Close" })));
    help.showModal();
  };
  return keys;
})();
