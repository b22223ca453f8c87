// The history: select all, count the selected cases, search with "/".

const form = document.querySelector("[data-bulk]");
if (form) {
  const all = form.querySelector("[data-all]");
  const boxes = [...form.querySelectorAll('input[name="case"]')];
  const count = form.querySelector("[data-count]");
  const buttons = [...form.querySelectorAll('button[name="action"]')];
  const show = () => {
    const selected = boxes.filter((box) => box.checked).length;
    count.textContent = selected ? `${selected} selected` : "Select cases";
    all.checked = selected > 0 && selected === boxes.length;
    all.indeterminate = selected > 0 && selected < boxes.length;
    for (const button of buttons) button.disabled = !selected;
    form.querySelector("[data-bulk-bar]").classList.toggle("idle", !selected);
  };
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; show(); });
  form.addEventListener("change", show);
  addEventListener("pageshow", show);
  show();
}

const filters = document.querySelector("[data-filters]");
if (filters) {
  for (const select of filters.querySelectorAll(".filters-bar select")) select.addEventListener("change", () => filters.requestSubmit());
  // Keeps empty fields out of the URL.
  filters.addEventListener("submit", () => { for (const field of filters.elements) if (field.name && !field.value) field.disabled = true; });
  addEventListener("pageshow", () => { for (const field of filters.elements) field.disabled = false; });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, textarea, select")) {
      event.preventDefault();
      filters.querySelector("input[type=search]").focus();
    }
  });
}
