// Shows the images of a case as a grid or as a list; the choice is kept in this browser.

const layout = document.querySelector("[data-layout]");
const slides = document.querySelector("[data-live=slides]");

function set(name) {
  slides.classList.toggle("as-list", name === "list");
  for (const button of layout.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.layoutTo === name));
  localStorage.setItem("slides-layout", name);
}

if (layout) {
  layout.hidden = false;
  layout.addEventListener("click", (event) => {
    const button = event.target.closest("[data-layout-to]");
    if (button) set(button.dataset.layoutTo);
  });
  set(localStorage.getItem("slides-layout") === "list" ? "list" : "grid");
}
