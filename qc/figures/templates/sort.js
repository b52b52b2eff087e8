// Sorts tables by the column whose heading is pressed; rows without a value come last.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const heading of table.querySelectorAll("thead th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const column = heading.cellIndex;
      const rows = [...body.rows].map((row) => {
        const cell = row.cells[column];
        return [cell.dataset.value ?? cell.textContent.trim(), row];
      });
      rows.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        const difference = Number(a) - Number(b);
        return sign * (Number.isNaN(difference) ? a.localeCompare(b, "en", { numeric: true }) : difference);
      });
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      body.append(...rows.map(([, row]) => row));
    });
  }
}
