"use strict";
// Puts the page together, shows the rows that are here, and loads the others.
(function () {
  const el = report.element;
  const PAUSE = 300; // milliseconds between two looks at the filters while rows are loaded
  const views = { images: ["Images", null] };
  report.view = "images";

  // Changes the view; `filter` replaces what is filtered.
  report.show = function (name, filter) {
    report.view = name;
    const isImages = name === "images";
    for (const id of ["filters", "images", "detail"]) report.byId(id).hidden = !isImages;
    const other = report.byId("other-view");
    other.hidden = isImages;
    other.replaceChildren(...(isImages ? [] : [views[name][1]()]));
    for (const tab of report.byId("views").children) {
      const chosen = tab.dataset.view === name;
      tab.setAttribute("aria-selected", chosen ? "true" : "false");
      tab.tabIndex = chosen ? 0 : -1;
    }
    if (!isImages) return;
    if (filter) {
      report.filters.clear();
      report.filters.set(filter);
    }
    report.list.layout();
    report.byId("list").focus({ preventScroll: true });
  };

  function showTabs() {
    if (report.summary.truth) views.matrix = ["Confusion", report.matrix.view];
    if (report.summary.other) views.compare = ["Changes", report.compare.view];
    const tabs = report.byId("views");
    if (Object.keys(views).length > 1) {
      tabs.append(...Object.entries(views).map(([name, [title]]) => el("button", { type: "button", role: "tab", "data-view": name, text: title, onclick: () => report.show(name) })));
      tabs.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!by) return;
        const names = Object.keys(views);
        report.show(names[(names.indexOf(report.view) + by + names.length) % names.length]);
        tabs.querySelector("[aria-selected=true]").focus();
        event.preventDefault();
      });
    } else tabs.hidden = true;
  }

  function showFacts() {
    const { run, rows, truth } = report.summary;
    const facts = [report.counted(rows, "row")];
    if (run) {
      if (run.memory) facts.push(`${run.memory}${run.categories ? `, ${report.counted(run.categories, "category", "categories")}` : ""}`);
      if (run.model) facts.push(run.model);
      if (run.finished) facts.push(run.finished.slice(0, 16).replace("T", " "));
    }
    if (truth && truth.known) facts.push(`${report.percent(truth.right / truth.known)} of ${report.count(truth.known)} right`);
    report.byId("facts").replaceChildren(...facts.map((fact) => report.foreign(fact)));
    report.summary.notes.forEach(report.say);
  }

  // While rows come in, the filters look at them now and then, and once more at the end.
  function followLoading() {
    let timer = null;
    const look = () => {
      timer = null;
      report.filters.apply();
      document.body.dataset.loaded = String(report.loaded);
    };
    report.onRows(() => {
      if (report.loaded >= report.summary.rows) {
        clearTimeout(timer);
        look();
      } else if (timer === null) timer = setTimeout(look, PAUSE);
    });
    look();
  }

  function toggleFilters(open) {
    document.body.classList.toggle("filtering", open);
    report.byId("filters-button").setAttribute("aria-expanded", open ? "true" : "false");
    if (!open) report.byId("filters-button").focus();
  }

  if (!report.summary) {
    report.byId("empty").hidden = false;
    report.byId("empty").append(el("strong", { text: "rows/summary.js is missing or damaged; write the report again" }));
    return;
  }
  showFacts();
  showTabs();
  report.filters.start();
  report.list.start();
  report.detail.start();
  report.keys.start();
  if (report.review) report.review.start();
  report.byId("filters-button").addEventListener("click", () => toggleFilters(!document.body.classList.contains("filtering")));
  report.byId("filters-close").addEventListener("click", () => toggleFilters(false));
  followLoading();
  report.show("images");
  report.loadRows();
})();
