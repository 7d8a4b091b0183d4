"use strict";
// Boxes that a person draws on the picture of the chosen row. Like all boxes they are in pixels of the displayed image,
// so a picture that shows a part of it, or is smaller, makes no difference.
report.drawing = (function () {
  const el = report.element;
  const SMALLEST = 6; // pixels of the screen on each side; less is a click
  const drawing = { box: null }; // the box that waits for its name
  const named = new Map(); // by path of an image, its boxes: { xyxy, name, group }
  let row = -1; // whose picture is shown
  let drag = null;

  const boxesOf = (path) => named.get(path) || [];
  drawing.count = () => [...named.values()].reduce((sum, boxes) => sum + boxes.length, 0);

  drawing.add = function (path, xyxy, name, group) {
    named.set(path, [...boxesOf(path), { xyxy, name, group }]);
  };

  drawing.remove = function (path, xyxy) {
    const place = boxesOf(path).findLastIndex((box) => box.xyxy.every((edge, i) => edge === xyxy[i]));
    named.set(path, boxesOf(path).filter((_, i) => i !== place));
  };

  // Hands out the box that waits for its name; it waits no longer.
  drawing.take = function () {
    const { box } = drawing;
    drawing.box = null;
    return box;
  };

  // Where a pointer is in the displayed image; outside of the picture, the nearest point in it.
  function pointAt({ picture, frame: [x0, y0, x1, y1] }, event) {
    const seen = picture.getBoundingClientRect();
    const share = (value) => Math.min(Math.max(value, 0), 1);
    return [x0 + (x1 - x0) * share((event.clientX - seen.left) / seen.width), y0 + (y1 - y0) * share((event.clientY - seen.top) / seen.height)];
  }

  const round = (value) => Math.round(100 * value) / 100;
  const corners = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)].map(round);

  function stop() {
    if (!drag) return;
    drag.node.remove();
    drag = null;
  }

  function begin(stage, event) {
    if (!event.isPrimary || event.button !== 0) return;
    event.preventDefault(); // no text is marked
    stop();
    stage.picture.setPointerCapture(event.pointerId);
    stage.picture.classList.add("drawing");
    const node = el("div", { class: "region drawn" });
    stage.picture.append(node);
    drag = { node, from: pointAt(stage, event), x: event.clientX, y: event.clientY };
    move(stage, event);
  }

  function move(stage, event) {
    if (drag) report.detail.place(drag.node, corners(drag.from, pointAt(stage, event)), stage.frame);
  }

  function end(stage, event) {
    if (!drag) return;
    const box = corners(drag.from, pointAt(stage, event));
    const isBox = Math.min(Math.abs(event.clientX - drag.x), Math.abs(event.clientY - drag.y)) >= SMALLEST && box[2] > box[0] && box[3] > box[1];
    stop();
    if (isBox) drawing.box = box;
    else if (!drawing.box) stage.picture.classList.remove("drawing");
    if (!isBox) return;
    report.detail.again();
    if (event.pointerType !== "touch") report.review.type(); // there, a keyboard would cover the candidates
  }

  function cancel(event) {
    if (event.key !== "Escape" || (!drag && !drawing.box) || report.byId("help").open) return;
    event.preventDefault(); // the details stay open
    stop();
    drawing.box = null;
    report.detail.again();
  }

  // Shows the boxes of a row on its picture, and lets more be drawn there.
  drawing.attach = function (shownRow, stage) {
    if (shownRow !== row) drawing.box = null; // it was drawn on another picture
    row = shownRow;
    stop();
    const { picture, frame } = stage;
    if (!picture) return;
    const show = (xyxy, name) => {
      if (xyxy[0] >= frame[2] || xyxy[1] >= frame[3] || xyxy[2] <= frame[0] || xyxy[3] <= frame[1]) return;
      const node = el("div", { class: `region drawn ${name === null ? "waiting" : ""}` }, name === null ? null : report.foreign(name));
      report.detail.place(node, xyxy, frame);
      picture.append(node);
    };
    for (const { xyxy, name } of boxesOf(report.columns.path[row])) show(xyxy, name);
    picture.classList.add("drawable");
    picture.classList.toggle("drawing", drawing.box !== null);
    if (drawing.box) show(drawing.box, null);
    picture.addEventListener("pointerdown", (event) => begin(stage, event));
    picture.addEventListener("pointermove", (event) => move(stage, event));
    picture.addEventListener("pointerup", (event) => end(stage, event));
    picture.addEventListener("pointercancel", stop);
  };

  drawing.start = () => document.addEventListener("keydown", cancel, true); // before the keys of the page
  return drawing;
})();
