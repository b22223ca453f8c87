// B, M and U choose the opinion of a reading while no text field has the focus. Signing takes a button.

const form = document.querySelector("#review form");
const OPINIONS = { b: "benign", m: "malignant", u: "uncertain" };
const TYPING = "input:not([type=radio], [type=checkbox]), textarea, select, dialog";

if (form) {
  form.querySelector("[data-reading-keys]").hidden = false;
  document.addEventListener("keydown", (event) => {
    const opinion = OPINIONS[event.key.toLowerCase()];
    if (!opinion || event.target.closest(TYPING) || event.ctrlKey || event.metaKey || event.altKey) return;
    form.closest("details").open = true;
    const choice = form.querySelector(`input[value=${opinion}]`);
    choice.checked = true;
    choice.focus();
    // The draft is kept on input.
    choice.dispatchEvent(new Event("input", { bubbles: true }));
  });
}
