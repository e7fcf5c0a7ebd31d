// Clicks on examples and parts, and strokes over the mask, told to Python as tokens. The element outlives its content.
const cellAt = (frame, event) => {
  const box = frame.getBoundingClientRect();
  const { rows, columns } = frame.closest("[data-rows]").dataset;
  const within = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
  return [
    within((event.clientY - box.top) / box.height, Number(rows)),
    within((event.clientX - box.left) / box.width, Number(columns)),
  ];
};

element.addEventListener("click", (event) => {
  const example = event.target.closest("[data-index]");
  const frame = event.target.closest('[data-action="pick"]');
  if (example) trigger("pick", { index: Number(example.dataset.index) });
  if (frame) trigger("pick", { cell: cellAt(frame, event) });
});

let stroke = null; // { frame, cells: a Map from "row,column" to [row, column] }

const extend = (event) => {
  const [row, column] = cellAt(stroke.frame, event);
  if (stroke.cells.has(`${row},${column}`)) return;
  stroke.cells.set(`${row},${column}`, [row, column]);
  const { rows, columns } = stroke.frame.closest("[data-rows]").dataset;
  const mark = document.createElement("i");
  mark.className = "mark";
  mark.style.cssText = `top: ${(100 * row) / rows}%; left: ${(100 * column) / columns}%; height: ${100 / rows}%; width: ${100 / columns}%`;
  stroke.frame.append(mark);
};

element.addEventListener("pointerdown", (event) => {
  const frame = event.target.closest('[data-action="paint"]');
  if (!frame || event.button !== 0) return;
  frame.setPointerCapture(event.pointerId);
  stroke = { frame, cells: new Map() };
  extend(event);
});
element.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const steps = event.getCoalescedEvents();
  (steps.length ? steps : [event]).forEach(extend);
});
element.addEventListener("pointerup", () => {
  if (stroke) trigger("paint", { cells: [...stroke.cells.values()] });
  stroke = null;
});
element.addEventListener("pointercancel", () => {
  // the finger scrolled the page after all
  stroke?.frame.querySelectorAll(".mark").forEach((mark) => mark.remove());
  stroke = null;
});
