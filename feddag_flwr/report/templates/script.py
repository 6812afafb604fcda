"""Sorting and searching of tables. Holds no data: that stands in the tables."""

SCRIPT = """\
"use strict";
for (const box of document.querySelectorAll(".sortable")) {
  const table = box.querySelector("table"), body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells], rows = [...body.rows];
  const texts = rows.map(row => row.textContent.toLowerCase());
  const order = (cell, numeric) => {
    if (!numeric) return cell.textContent;
    return Number(cell.dataset.v ?? (cell.textContent || NaN));
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const numeric = head.classList.contains("n");
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const keyed = [...body.rows].map((row, at) => [order(row.cells[column], numeric), at, row]);
      keyed.sort(([a, i], [b, j]) => {
        if (numeric) {
          if (Number.isNaN(a) || Number.isNaN(b))
            return Number.isNaN(a) - Number.isNaN(b) || i - j;
          return sign * (a - b) || i - j;
        }
        if (!a || !b) return !a - !b || i - j;
        return sign * (a < b ? -1 : a > b ? 1 : 0) || i - j;
      });
      const sorted = document.createDocumentFragment();
      for (const [, , row] of keyed) sorted.append(row);
      body.append(sorted);
    });
  });
  const field = box.querySelector("input"), told = box.querySelector("output");
  if (field) field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, at) => {
      row.hidden = !words.every(word => texts[at].includes(word));
      shown += !row.hidden;
    });
    told.textContent = `${shown} of ${rows.length} rows`;
  });
}
"""
