"use strict";
// Boards can be sorted and filtered. Without this script they stand as the engine ranked them.

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

for (const table of document.querySelectorAll("table.board")) {
  sortable(table);
  filterable(table);
}

// The rows of a chart are switched here; its axes are by the style sheet.
for (const chart of document.querySelectorAll(".curves")) {
  const items = [...chart.querySelectorAll("[data-row]")];
  if (items.length < 2) continue;
  const boxes = items.map((item) => {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.setAttribute("aria-label", `Draw ${item.textContent.trim()}`);
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

// A link into what is folded opens it.
function unfold() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
