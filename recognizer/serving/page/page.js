"use strict";
// One image at a time is sent for each file that is dropped, pasted or chosen. Names and descriptions are data: they
// are written as text, never as HTML.

const find = (id) => document.getElementById(id);
const KEY = "recognizer token";

// The address that the server prints ends in #token=…; it is taken over once and leaves the address line.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname);
}

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token ? { authorization: `Bearer ${token}` } : {};
}

function say(problem) {
  find("problem").textContent = problem;
  find("problem").hidden = !problem;
}

async function showMemory() {
  const reply = await fetch("health/ready").catch(() => null);
  if (!reply || !reply.ok) {
    find("memory").textContent = "the server does not answer";
    return;
  }
  const { memory } = await reply.json();
  find("memory").textContent = `${memory.categories.toLocaleString()} categories, version ${memory.version}`;
}

async function recognize(file) {
  say("");
  const form = new FormData();
  form.append("images", file, file.name || "pasted image");
  let reply;
  try {
    reply = await fetch("v1/recognize", { method: "POST", body: form, headers: headers() });
  } catch {
    say("The server cannot be reached.");
    return;
  }
  if (!reply.ok) {
    const body = await reply.json().catch(() => null);
    find("access").hidden = reply.status !== 401;
    say(body ? body.error.message : `The server answered with status ${reply.status}.`);
    return;
  }
  const { rows } = await reply.json();
  show(rows[0], file);
}

function cell(row, text, kind) {
  const made = row.insertCell();
  made.textContent = text;
  made.dir = "auto";
  if (kind) made.className = kind;
  return made;
}

function show(row, file) {
  const answer = find("answer").content.cloneNode(true).firstElementChild;
  answer.querySelector(".file").textContent = row.path;
  if (row.status === "error") {
    answer.classList.add("failed");
    answer.querySelector("figure").remove();
    answer.querySelector(".evidence").remove();
    const reason = document.createElement("li");
    reason.className = "error";
    reason.textContent = `${row.error.code}: ${row.error.reason}`;
    answer.querySelector(".candidates").append(reason);
    find("answers").prepend(answer);
    return;
  }
  const image = answer.querySelector("img");
  image.src = URL.createObjectURL(file);
  image.alt = row.label ? `recognised as ${row.label}` : "no label";
  const overlay = answer.querySelector("svg");
  overlay.setAttribute("viewBox", `0 0 ${row.width} ${row.height}`);
  overlay.setAttribute("preserveAspectRatio", "none");
  const list = answer.querySelector(".candidates");
  row.candidates.forEach((candidate, place) => {
    const item = document.createElement("li");
    const bar = document.createElement("meter");
    bar.max = 1;
    bar.value = candidate.confidence;
    const name = document.createElement("span");
    name.dir = "auto";
    name.textContent = candidate.group ? `${candidate.category} (${candidate.group})` : candidate.category;
    const number = document.createElement("span");
    number.className = "number";
    number.textContent = `${(100 * candidate.confidence).toFixed(1)} %`;
    item.append(bar, name, number);
    item.tabIndex = 0;
    const choose = () => showEvidence(answer, overlay, row.candidates[place]);
    item.addEventListener("focus", choose);
    item.addEventListener("mouseenter", choose);
    list.append(item);
  });
  if (row.candidates.length) showEvidence(answer, overlay, row.candidates[0]);
  find("answers").prepend(answer);
}

function showEvidence(answer, overlay, candidate) {
  const table = answer.querySelector(".evidence");
  table.caption.textContent = `Evidence for ${candidate.category}: ${candidate.evidence.length} summands of its score`;
  const body = table.tBodies[0];
  body.replaceChildren();
  overlay.replaceChildren();
  const pieces = [...candidate.evidence].sort((one, other) => other.contribution - one.contribution).slice(0, 12);
  for (const piece of pieces) {
    const line = body.insertRow();
    cell(line, piece.description || candidate.category);
    cell(line, piece.term.replace("_", " "), "term");
    cell(line, piece.contribution.toFixed(3), "number");
    if (!piece.box_xyxy) continue;
    line.className = "region";
    line.tabIndex = 0;
    const mark = () => drawBox(overlay, piece.box_xyxy);
    line.addEventListener("mouseenter", mark);
    line.addEventListener("focus", mark);
  }
  const first = pieces.find((piece) => piece.box_xyxy);
  if (first) drawBox(overlay, first.box_xyxy);
}

function drawBox(overlay, [left, top, right, bottom]) {
  const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of [["x", left], ["y", top], ["width", right - left], ["height", bottom - top]]) {
    box.setAttribute(name, value);
  }
  overlay.replaceChildren(box);
}

async function recognizeAll(files) {
  for (const file of files) await recognize(file);
}

const drop = find("drop");
find("file").addEventListener("change", (event) => {
  recognizeAll([...event.target.files]).then(() => { event.target.value = ""; });
});
drop.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") find("file").click();
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.remove("over"); });
}
document.addEventListener("drop", (event) => recognizeAll([...event.dataTransfer.files]));
document.addEventListener("paste", (event) => recognizeAll([...event.clipboardData.files]));
find("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, find("token").value);
  find("access").hidden = true;
  say("");
});
find("here").textContent = new URL(".", location.href).href;
showMemory();
