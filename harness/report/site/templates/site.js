"use strict";
// Boards can be sorted and filtered, and rows of charts switched. Without this script all is there, as the engine ranked it.

function value(row, column) {
  const cell = row.cells[column];
  if (!cell) return null;
  if (cell.dataset.n !== undefined) return Number(cell.dataset.n);
  const text = cell.textContent.trim();
  return text === "–" || text === "" ? null : text.toLowerCase();
}

function order(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}

function sort(table, column, direction) {
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.matches(".group"));
    if (rows.some((row) => row.matches(".missing"))) continue;
    rows.forEach((row, index) => { row.dataset.place ??= index; });
    rows.sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      const place = a.dataset.place - b.dataset.place;
      if (direction === 0 || (x === null && y === null)) return place;
      if (x === null || y === null) return x === null ? 1 : -1; // what is missing is last, whichever way
      return direction * order(x, y) || place;
    });
    body.append(...rows);
  }
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const first = head.textContent.includes("↑") ? -1 : 1;
    button.addEventListener("click", () => {
      const now = { ascending: 1, descending: -1 }[head.getAttribute("aria-sort")] ?? 0;
      const next = now === 0 ? first : now === first ? -first : 0; // the third click gives back the ranks' order
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next === 1 ? "ascending" : "descending");
      sort(table, column, next);
    });
  });
}

function filterable(table) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).filter((row) => !row.matches(".group"));
  if (rows.length < 6) return;
  const label = document.createElement("label");
  const input = document.createElement("input");
  const said = document.createElement("output");
  input.type = "search";
  label.append("Only rows with ", input);
  const line = document.createElement("p");
  line.className = "filter";
  line.append(label, " ", said);
  table.parentElement.before(line);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    for (const body of table.tBodies) {
      const group = body.querySelector(".group");
      if (group) group.hidden = [...body.rows].every((row) => row === group || row.hidden);
    }
    const left = rows.filter((row) => !row.hidden).length;
    said.textContent = words.length ? `${left} of ${rows.length} rows` : "";
  });
}

// Which axes a chart has is up to the style sheet.
function switchable(chart) {
  const items = [...chart.querySelectorAll("[data-row]")];
  if (items.length < 2) return;
  const boxes = items.map((item) => {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.ariaLabel = `Draw ${item.textContent.trim()}`;
    box.addEventListener("change", () => {
      for (const part of chart.querySelectorAll(`.r${item.dataset.row}`)) part.classList.toggle("off", !box.checked);
    });
    item.prepend(box);
    return box;
  });
  const all = document.createElement("button");
  all.type = "button";
  all.textContent = "All or none";
  all.addEventListener("click", () => {
    const on = boxes.some((box) => !box.checked);
    for (const box of boxes) if (box.checked !== on) box.click();
  });
  chart.querySelector(".rows").before(all);
}

function prepare() {
  document.querySelectorAll(".curves").forEach(switchable);
  for (const table of document.querySelectorAll("table.board")) {
    sortable(table);
    filterable(table);
  }
}
prepare();

// A link into what is folded opens it.
function unfold() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();

// A page that is served while suites run says how far they are, and shows what is new. What a reader has set stays: the
// parts of a page are known by where they stand and what they say.
function parts() {
  const found = new Map();
  for (const part of document.querySelectorAll("#main :is(a, button, details, h2, h3, h4, h5, input, summary, thead th, .scroll)")) {
    const near = (outer, inner) => part.closest(outer)?.querySelector(inner)?.textContent;
    const own = part.ariaLabel ?? (part.matches("details") ? part.firstElementChild : part).textContent;
    let name = [part.tagName, part.closest("[id]").id, near("table", "caption"), near("tr", "th > a"), own].join("\n");
    while (found.has(name)) name += "\n";
    found.set(name, part);
  }
  return found;
}

function replace(main) {
  const old = new Map([...parts()].map(([name, part]) => [name, {
    open: part.open, value: part.value, checked: part.checked, sorted: part.ariaSort, left: part.scrollLeft,
    top: part.getBoundingClientRect().top, isFocused: part === document.activeElement,
  }]));
  document.getElementById("main").replaceWith(main);
  prepare();
  let moved = 0; // how far the last heading above has moved
  for (const [name, part] of [...parts()].filter(([name]) => old.has(name))) {
    const was = old.get(name);
    if (part.matches("details")) part.open = was.open;
    if (part.checked !== was.checked) part.click();
    if (was.value) part.value = was.value;
    if (was.value) part.dispatchEvent(new Event("input"));
    for (let n = 0; n < 2 && part.ariaSort !== was.sorted; n++) part.firstElementChild.click();
    part.scrollLeft = was.left;
    if (was.isFocused) part.focus({ preventScroll: true });
    if (part.matches("h2, h3, h4, h5") && was.top <= 0) moved = part.getBoundingClientRect().top - was.top;
  }
  scrollBy(0, moved);
}

async function follow(live) {
  let lines = ["The command that shows this page has ended: it stays as it was."];
  try {
    const found = await (await fetch("?live")).json();
    lines = found.lines;
    if (found.stamp !== live.dataset.stamp) {
      const page = new DOMParser().parseFromString(await (await fetch("")).text(), "text/html");
      if (page.getElementById("main")) replace(page.getElementById("main"));
      live.dataset.stamp = found.stamp;
    }
  } catch {} // nobody answers
  live.hidden = !lines.length;
  live.textContent = lines.join("\n");
  setTimeout(follow, 3000, live);
}
if (document.getElementById("live")) follow(document.getElementById("live"));
