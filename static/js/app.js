// What every page does: status light, menus, offline notice.

const light = document.querySelector("[data-status]");

async function readStatus() {
  try {
    const answer = await fetch(light.dataset.status, { headers: { Accept: "application/json" } });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    const status = await answer.json();
    light.dataset.state = status.state;
    light.title = status.text;
    light.querySelector("[data-status-text]").textContent = `Status: ${status.text}`;
    light.querySelector("[data-status-short]").textContent = status.short;
  } catch {
    light.dataset.state = "unknown";
  }
}

if (light) {
  readStatus();
  setInterval(() => document.hidden || readStatus(), 20000);
}

document.addEventListener("click", ({ target }) => {
  for (const menu of document.querySelectorAll("[data-menu][open]")) if (!menu.contains(target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && event.target.closest("[data-menu][open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

const offline = document.querySelector("[data-offline]");
const showConnection = () => {
  if (offline) offline.hidden = navigator.onLine;
  if (light && !navigator.onLine) light.dataset.state = "unknown";
};
addEventListener("online", showConnection);
addEventListener("offline", showConnection);
showConnection();

// Data kept in this tab belongs to one user and is deleted when another one signs in.
const { user } = document.body.dataset;
if (user && sessionStorage.getItem("user") !== user) {
  sessionStorage.clear();
  sessionStorage.setItem("user", user);
}

// Drafts are kept in this tab until the form was submitted, because the session may end before that.
// The page that follows may be that of another case.
if (document.querySelector(".notice.taken")) sessionStorage.removeItem(sessionStorage.getItem("sent"));
for (const form of document.querySelectorAll("[data-draft]")) {
  const name = `draft ${form.getAttribute("action")}`;
  const fields = () => [...new FormData(form)].filter(([field]) => field !== "csrfmiddlewaretoken");
  for (const [field, value] of JSON.parse(sessionStorage.getItem(name) || "[]")) {
    const control = form.elements[field];
    if (control) control.value = value;
    if (value) form.closest("details")?.setAttribute("open", "");
  }
  form.addEventListener("input", () => sessionStorage.setItem(name, JSON.stringify(fields())));
  form.addEventListener("submit", () => sessionStorage.setItem("sent", name));
}
for (const form of document.querySelectorAll("[data-sign-out]")) form.addEventListener("submit", () => sessionStorage.clear());
if (location.hash === "#review") document.querySelector("#review details")?.setAttribute("open", "");

// Links back to the history keep its search and filters.
if (document.querySelector("[data-filters]")) sessionStorage.setItem("filters", location.search);
for (const link of document.querySelectorAll("a[data-back-to-history]")) link.search = sessionStorage.getItem("filters") || "";

for (const field of document.querySelectorAll("[data-select]")) {
  field.focus();
  field.select();
}
